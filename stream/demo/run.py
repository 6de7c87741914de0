"""The demo: servers, a worker, a shop and its customers, and whether all of it held.

Rules:
- One process tree, loopback only; nothing of it is left behind, however the demo ends.
- What is set for another broker or Redis does not reach it: only bundle, provider, inference threads and log
  level are taken from the caller's settings.
- The pipeline is met as anybody meets it: events go in through ``EventProducer``, counts come out of
  ``LiveCounters``, alerts out of ``AlertSubscriber``. The worker is a process of its own.
- The live page is served as long as the demo runs; what the shop does waits for nobody who looks at it.
- The order of a product's events is the shop's, so the same seed, duration and model give the same alerts on
  a fast machine and on a slow one.
- The detector runs with its default budget, one false alarm in a million events.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from stream import bundle
from stream.client import EventProducer
from stream.demo.processes import PageProcess, WorkerProcess
from stream.demo.reconcile import (
    Report,
    Sent,
    channel_sums,
    problems_with_alerts,
    problems_with_sums,
    wrong_products,
)
from stream.demo.shop import Incident, Shop
from stream.demo.view import Snapshot
from stream.demo.watch import Watch
from stream.errors import DependencyError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.settings import Settings
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from stream.demo.shop import ShopRecord
    from stream.demo.view import Screen, Stage

PARTITIONS = 4
"""Of each input topic: enough to see several, few enough for two cores."""

TICK_S = 0.05
IN_FLIGHT = 60
"""The history is sent no faster than the worker takes it, so a slow one's latency stays honest."""

START_TIMEOUT_S = 90.0
"""Loading takes two seconds; much longer on a cold disk or a busy machine."""
STALLED_AFTER_S = 60.0
"""So long without one more event counted, and the demo stops waiting."""
SETTLE_S = 3.0
"""How long the last alert may take to arrive after the last event was counted."""


def run(
    given: Settings,
    duration_s: float,
    seed: int,
    screen: Screen,
    on_page: Callable[[str], None] = lambda _: None,
) -> Report:
    """Runs the demo and ends everything it started.

    Args:
        given: the caller's settings; only a few of them count here.
        duration_s: of the live part.
        seed: of the shop.
        screen: where to show how it goes.
        on_page: called once with the address of the live page.

    Raises:
        BundleError: the model bundle is missing, incomplete or altered.
        UsageError: the local servers are not installed.
        DependencyError: a server or the worker failed; its log is kept, and the message says where.
    """
    bundle.verify(given.bundle, given.bundle_key)  # one sentence now instead of a worker's log later
    shop = Shop(seed)
    with ExitStack() as resources:
        logs = resources.enter_context(_kept_on_failure())
        demo = Demo(shop, duration_s, resources.enter_context(screen))
        demo.say("a Kafka broker and Valkey start")
        servers = resources.enter_context(LocalServers())
        settings = demo_settings(given, servers.kafka, servers.redis)
        worker = resources.enter_context(WorkerProcess(settings, logs / "worker.log"))
        demo.say("the topics are made")
        ensure(settings)
        page = resources.enter_context(PageProcess(settings, logs / "page.log"))
        producer = resources.enter_context(EventProducer(settings, delivery_timeout_s=30.0))
        watch = resources.enter_context(Watch(settings, [product.product_id for product in shop.products]))
        demo.follow_page(page, on_page)
        demo.play(producer, watch, [worker.check, page.check, servers.check])
        report = demo.report(watch, seed)
        code = worker.stop()
        if code != 0:
            report.problems.append(f"The worker ended with code {code} instead of 0.")
            report.ok = False
    return report


def demo_settings(given: Settings, kafka: str, redis: str) -> Settings:
    """The settings of everything in the demo.

    Args:
        given: the caller's.
        kafka: the local broker.
        redis: the local Redis.
    """
    # Constructed, not loaded: loading would mix in the caller's environment.
    return Settings.model_construct(
        kafka=kafka,
        redis=redis,
        partitions=PARTITIONS,
        session_timeout_s=LOCAL_SESSION_TIMEOUT_S,
        bundle=given.bundle.absolute(),
        provider=given.provider,
        threads=given.threads,
        log_format="json",
        log_level=given.log_level,
    )


@contextmanager
def _kept_on_failure() -> Iterator[Path]:
    """A temporary folder for logs; a failure of a server or of a process leaves it behind, and names it."""
    folder = Path(tempfile.mkdtemp(prefix="reviewpulse-demo-"))
    kept = False
    try:
        yield folder
    except DependencyError as error:
        kept = any(each.stat().st_size for each in folder.iterdir())
        if kept:
            raise DependencyError(f"{error}\nThe logs of worker and page are in {folder}.") from error
        raise
    finally:
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


class Demo:
    """One run of the shop against a pipeline that is there already.

    Args:
        shop: whose customers write.
        duration_s: of the live part.
        screen: where to show how it goes.
    """

    def __init__(self, shop: Shop, duration_s: float, screen: Screen) -> None:
        self._shop = shop
        self._duration_s = duration_s
        self._screen = screen
        self._sent = Sent()
        self._stage: Stage = "starting"
        self._live_since: float | None = None
        self._page: PageProcess | None = None
        self._blank = Snapshot(
            duration_s=duration_s,
            names={product.product_id: product.name for product in shop.products},
            bad_product=shop.bad_product.product_id,
        )

    def say(self, note: str) -> None:
        """Shows what is going on before there is anything to watch."""
        self._screen.show(self._blank._replace(note=note))

    def follow_page(self, page: PageProcess, on_page: Callable[[str], None]) -> None:
        """Says where the page is as soon as it is there."""
        self._page, self._on_page = page, on_page

    def play(self, producer: EventProducer, watch: Watch, checks: Sequence[Callable[[], None]]) -> None:
        """Sends everything and waits until it is counted.

        Args:
            producer: takes the events.
            watch: sees what becomes of them.
            checks: each raises when a process has ended.

        Raises:
            DependencyError: a process ended, or the worker does not come up or stalls.
        """
        self._producer, self._watch, self._checks = producer, watch, checks
        self._await_worker()
        self._send_history()
        self._send_live()
        self._await_end()
        self._await_alerts()

    def report(self, watch: Watch, seed: int) -> Report:
        """What came of it.

        Raises:
            DependencyError: a server is away.
        """
        sums = channel_sums(self._sent, watch.totals())
        wrong = wrong_products(self._sent, watch.all_products())
        letters = watch.dead_letters()
        alerts = watch.alerts
        products = {product.product_id for product in self._shop.products}
        bad_product = self._shop.bad_product.product_id
        problems = [
            *problems_with_sums(sums, wrong, sum(letters.values())),
            *problems_with_alerts(alerts, bad_product, self._duration_s),
        ]
        worker = watch.worker
        return Report(
            ok=not problems,
            problems=problems,
            duration_s=self._duration_s,
            seed=seed,
            model_version=worker.model_version if worker else "",
            provider=worker.provider if worker else "",
            latency_p50_ms=worker.latency_p50_ms if worker else None,
            latency_p99_ms=worker.latency_p99_ms if worker else None,
            channels=sums,
            products=len(products),
            products_exact=len(products - set(wrong)),
            dead_letters=letters,
            bad_product=bad_product,
            alerts=alerts,
        )

    def _await_worker(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        partitions = 2 * PARTITIONS
        while not (worker := self._watch.worker) or len(worker.partitions) < partitions:
            if time.monotonic() > deadline:
                raise DependencyError(
                    f"The worker did not get its {partitions} partitions within {START_TIMEOUT_S:g} s."
                )
            self._tick("the worker joins its group" if worker else "the worker loads the model")

    def _send_history(self) -> None:
        self._stage = "history"
        history = self._shop.history(_now_ms())
        self._blank = self._blank._replace(history=len(history))
        for record in history:
            self._send(record)
            while self._sent.total - self._watch.done >= IN_FLIGHT:
                self._tick()
        self._await_end()

    def _send_live(self) -> None:
        incident = Incident.of(self._duration_s)
        records = self._shop.live(_now_ms(), self._duration_s)
        self._live_since = time.monotonic()
        for record in records:
            while (elapsed_s := time.monotonic() - self._live_since) < record.at_s:
                self._stage = incident.stage(elapsed_s)
                self._tick()
            self._send(record)
        self._stage = "closing"

    def _send(self, record: ShopRecord) -> None:
        self._producer.send_encoded(record.channel, record.product_id, record.value)
        self._sent.add(record)

    def _await_end(self) -> None:
        """Waits until everything sent has ended, or until nothing moves any more."""
        self._producer.flush()
        since = time.monotonic()
        while self._watch.done < self._sent.total:
            if time.monotonic() - max(since, self._watch.done_at) > STALLED_AFTER_S:
                missing = self._sent.total - self._watch.done
                raise DependencyError(
                    f"The worker has counted nothing for {STALLED_AFTER_S:g} s, and {missing:,} events wait."
                )
            self._tick()

    def _await_alerts(self) -> None:
        """Gives the last alerts the time to arrive, and those that must not come the time to be seen."""
        deadline = time.monotonic() + SETTLE_S
        while time.monotonic() < deadline:
            self._tick()

    def _tick(self, note: str = "") -> None:
        for check in self._checks:
            check()
        if self._page is not None and (address := self._page.address()) is not None:
            self._page = None
            self._blank = self._blank._replace(page=address)
            self._on_page(address)
        watch = self._watch
        watch.look()
        elapsed_s = 0.0 if self._live_since is None else time.monotonic() - self._live_since
        worker = watch.worker
        self._screen.show(
            self._blank._replace(
                stage=self._stage,
                note=note,
                elapsed_s=elapsed_s,
                sent=self._sent.total,
                done=watch.done,
                worker=worker,
                leaders=watch.leaders,
                trends={each.product_id: watch.trends.of(each.product_id) for each in watch.leaders},
                alerts=watch.alerts,
            )
        )
        time.sleep(TICK_S)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
