"""``reviewpulse notify`` as a whole: intakes fill the queues, couriers empty them, a lease keeps it to one.

Rules:
- One process of a group delivers; a second one waits until the first is gone, and takes over then. One that
  was killed on this machine is known to be gone at once, else its lease ends after ten seconds.
- SIGTERM and SIGINT: nothing new is begun, what is under way is waited for, for ``DRAIN_S``; what is cut off
  then goes again at the next start, with the same id.
- Kafka and Redis that were there are waited for. An error of ours ends the process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog

from stream.deliver.alertmanager import AlertmanagerSender
from stream.deliver.chat import ChatSender
from stream.deliver.courier import Courier
from stream.deliver.intake import Intake, Sorter
from stream.deliver.mail import MailSender
from stream.deliver.open_alerts import FollowedAlerts
from stream.deliver.queue import LEASE_MS, Keys, LostLeaseError, Queue, Queues
from stream.deliver.reading import NotifyReading
from stream.deliver.webhook import WebhookSender
from stream.errors import DependencyError, UsageError
from stream.health import HealthServer, address_of, pages
from stream.metrics.vitals import Vitals
from stream.redis_config import connect, connect_async
from stream.tasks import end

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stream.deliver.config import Address, Ready
    from stream.deliver.sender import Sender
    from stream.settings import Settings

log = structlog.get_logger("notify")

DRAIN_S = 20.0
"""Above a target's default timeout, below the 30 s that supervisors grant."""
RENEW_S = LEASE_MS / 1000 / 3
LOOK_S = 1.0
PID_NAMESPACE = Path("/proc/self/ns/pid")


async def serve(settings: Settings, ready: Ready, group: str, *, from_beginning: bool = False) -> None:
    """Delivers until SIGTERM or SIGINT.

    Args:
        settings: where Kafka and Redis are.
        ready: the notify file.
        group: under which queues and positions are kept.
        from_beginning: where there is no position, begins with the oldest transition kept.

    Raises:
        DependencyError: Kafka or Redis is away when it starts.
        UsageError: there is nobody to tell, or Redis does not let us.
        LostLeaseError: another process took over.
    """
    if not ready.addresses:
        raise UsageError(f"{ready.notify.where} has no [[target]]: write one, there is nobody to tell.")
    stop = asyncio.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    keys, token = Keys(settings.namespace, group), _token()
    client, async_client = connect(settings), connect_async(settings)
    queues = Queues(client, keys, settings.redis, token)
    try:
        async with _shown(settings, queues, list(ready.addresses)) as reading:
            if not await _lease(queues, stop):
                return
            reading.couriers = couriers = {
                name: Courier(
                    address.target,
                    Queue(async_client, keys, name, settings.redis, token),
                    sender_of(address, settings),
                    delay_s=reading.delay_s.add,
                )
                for name, address in ready.addresses.items()
            }
            await _deliver(settings, ready, group, queues, couriers, stop, from_beginning=from_beginning)
    finally:
        with suppress(DependencyError, UsageError):
            await asyncio.to_thread(queues.leave)
        await async_client.aclose()
        client.close()


@asynccontextmanager
async def _shown(settings: Settings, queues: Queues, targets: list[str]) -> AsyncIterator[NotifyReading]:
    """Serves health and metrics meanwhile, where an address is set for it."""
    followed = FollowedAlerts(settings)
    reading = NotifyReading(queues, targets, followed)
    if not settings.health:
        yield reading
        return
    from stream.metrics.page import metrics_pages, registry  # noqa: PLC0415  # only where they are served

    vitals = Vitals(reading.troubles)
    shown = metrics_pages(registry("notify", vitals.read, reading.read))
    with HealthServer(address_of(settings.health), pages(vitals.report) | shown):
        followed.start()
        looking = asyncio.create_task(vitals.run())
        try:
            yield reading
        finally:
            followed.stop()
            await end([looking])
            await asyncio.to_thread(followed.join, 2.0)


def sender_of(address: Address, settings: Settings) -> Sender:
    """What sends to a target."""
    match address.target.kind:
        case "webhook":
            return WebhookSender(address, f"/reviewpulse/{settings.namespace}")
        case "alertmanager":
            return AlertmanagerSender(address)
        case "email":
            return MailSender(address)
        case _:
            return ChatSender(address)


async def _deliver(
    settings: Settings,
    ready: Ready,
    group: str,
    queues: Queues,
    couriers: dict[str, Courier],
    stop: asyncio.Event,
    *,
    from_beginning: bool,
) -> None:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()

    def ring(names: list[str]) -> None:
        for name in names:
            loop.call_soon_threadsafe(couriers[name].ring)

    def ended(error: BaseException | None) -> None:
        with suppress(RuntimeError):  # the loop is over
            loop.call_soon_threadsafe(_note, failed, error)

    sorter = Sorter(ready.routing, queues, ring)
    heard = dict.fromkeys(each.target.heard for each in ready.addresses.values())
    intakes = [
        await asyncio.to_thread(
            Intake,
            hears,
            settings,
            ready.notify,
            group,
            sorter,
            from_beginning=from_beginning,
            ended=ended,
        )
        for hears in heard
    ]
    for intake in intakes:
        intake.start()
    running = [asyncio.create_task(each.run()) for each in couriers.values()]
    renewing = asyncio.create_task(_renew(queues))
    stopped = asyncio.create_task(stop.wait())
    log.info("delivering", group=group, targets=list(couriers))
    try:
        waited: list[asyncio.Future[Any]] = [*running, renewing, stopped, failed]
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for intake in intakes:
            intake.stop()
        for courier in couriers.values():
            courier.stop()
        await asyncio.wait(running, timeout=DRAIN_S)
        for task in (*running, renewing, stopped):
            task.cancel()
        await asyncio.gather(*running, renewing, stopped, return_exceptions=True)
        await asyncio.to_thread(_join, intakes)
        failed.cancel()
    log.info("stopped", group=group)


def _note(failed: asyncio.Future[None], error: BaseException | None) -> None:
    if error is not None and not failed.done():
        failed.set_exception(error)


def _join(intakes: list[Intake]) -> None:
    for intake in intakes:
        intake.join(2.0)


async def _lease(queues: Queues, stop: asyncio.Event) -> bool:
    """Waits until we are the one who delivers; False if told to stop before."""
    is_said = False
    while not stop.is_set():
        other = await asyncio.to_thread(queues.take)
        if other is not None and _is_dead(other):
            other = await asyncio.to_thread(queues.take, other)
        if other is None:
            return True
        if not is_said:
            log.info("another process delivers for this group: waiting until it is gone")
            is_said = True
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await stop.wait()
    return False


async def _renew(queues: Queues) -> None:
    """Stays the one who delivers.

    Raises:
        LostLeaseError: another process does.
    """
    while True:
        await asyncio.sleep(RENEW_S)
        with suppress(DependencyError):  # Redis is away: nobody else can take over either
            if await asyncio.to_thread(queues.take) is not None:
                raise LostLeaseError(
                    "Another `reviewpulse notify` of this group has taken over: this one was silent for too"
                    " long."
                )


def _token() -> str:
    return f"{_here()} {os.getpid()} {uuid4().hex}"


def _here() -> str:
    """This machine, or this container: where process ids are told apart."""
    try:
        namespace = str(PID_NAMESPACE.readlink())
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        namespace, boot = "", uuid4().hex  # unlike any other, so nothing is taken for dead
    return f"{socket.gethostname()} {boot}{namespace}"


def _is_dead(owner: str) -> bool:
    """Whether an owner was a process here that is gone."""
    here, pid, _ = owner.rsplit(" ", 2) if owner.count(" ") >= 2 else ("", "", "")
    if here != _here() or not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
