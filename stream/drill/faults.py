"""The faults: what is done to a pipeline, which rules must fire, and what the runbook says to do about it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from stream.drill.bundles import exchanged
from stream.drill.fleet import AS_SHIPPED
from stream.drill.load import PRODUCTS, Manner
from stream.drill.worker import DEADLY

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.drill.scene import Scene

USUAL_MINUTES = 60
AHEAD_S = 600.0
"""Twice the skew that is allowed."""
AHEAD_EVENTS = 40
SLOW = ("stream.drill.worker", "--text-s", "0.01")
"""A hundred texts a second."""
SMALL_WINDOWS: dict[str, object] = {"scorer": "constant", "window_events": 32}
"""So that a slow model's histogram moves several times in a drill's five minutes."""


@dataclass(frozen=True)
class Fault:
    """One row of the drill."""

    name: str
    what: str
    rules: tuple[str, ...]
    """All must fire, and stop firing after the step; the first is what the runbook goes by. Where there are
    none, none at all may fire."""
    step: str
    """Of the runbook: what ends it."""
    strike: Callable[[Scene], None]
    mend: Callable[[Scene], None]
    manner: Manner = field(default_factory=Manner)
    command: tuple[str, ...] = AS_SHIPPED
    options: dict[str, Any] = field(default_factory=lambda: {"scorer": "constant"})
    times_minute: float = 1.0
    """How much longer a minute of the rules lasts, where what happens takes as long as it takes."""
    warm_minutes: float = 0.0
    """Minutes of the rules that must go well before, for a rule that compares with the past."""


def _wait(scene: Scene) -> None:
    time.sleep(USUAL_MINUTES * scene.minute_s)


def _leave(scene: Scene) -> None:
    del scene


def _kill_kafka(scene: Scene) -> None:
    scene.wait_until_counted()  # the local broker keeps its log in memory: it dies with it
    scene.servers.kill_kafka()
    scene.load.go()


def _start_kafka(scene: Scene) -> None:
    scene.servers.restart_kafka()
    scene.run("topics")


def _kill_redis(scene: Scene) -> None:
    scene.servers.kill_redis()


def _start_redis(scene: Scene) -> None:
    scene.servers.restart_redis()


def _fill_redis(scene: Scene) -> None:
    with scene.redis() as client:
        client.config_set("maxmemory", 1024 * 1024)  # less than it holds


def _give_room(scene: Scene) -> None:
    with scene.redis() as client:
        client.config_set("maxmemory", 0)


def _send_poison(scene: Scene) -> None:
    scene.load.send_one(DEADLY)


def _redrive(scene: Scene) -> None:
    def is_found() -> bool:
        return '"stage": "worker"' in scene.run("dlq", "list", "--json").replace('":"', '": "')

    scene.wait_for("the record is found", is_found, 240)
    scene.replace_workers(AS_SHIPPED)
    scene.load.meant["counted"] += 1  # it was a dead letter, and is now counted
    scene.run("dlq", "redrive", "--yes")


def _hurry(scene: Scene) -> None:
    scene.load.manner.events_per_s = 200


def _add_workers(scene: Scene) -> None:
    scene.add_workers(3)


def _crowd(scene: Scene) -> None:
    scene.load.manner.products = PRODUCTS[:1]
    scene.load.manner.events_per_s = 180


def _spread(scene: Scene) -> None:
    scene.load.manner.products = PRODUCTS
    scene.load.manner.events_per_s = 20


def _run_ahead(scene: Scene) -> None:
    scene.load.manner.clock_ahead_s = AHEAD_S
    time.sleep(1)
    scene.load.hold()
    scene.load.manner.clock_ahead_s = 0.0
    # Others stamp their records by the broker's clock, and their events by their own.
    scene.load.manner.events_ahead_s = AHEAD_S
    scene.load.manner.outcome = "dead"
    scene.load.go()


def _set_clock(scene: Scene) -> None:
    scene.load.hold()
    scene.load.manner.events_ahead_s = 0.0
    scene.load.manner.outcome = "counted"
    scene.load.go()


def _deploy_badly(scene: Scene) -> None:
    bad = str(exchanged(scene.settings.bundle, scene.folder / "bad-bundle"))
    # The gates refuse it; somebody who is in a hurry forces it.
    scene.run("bundle", "promote", bad, "--texts", "40", codes=(1,))
    scene.run("bundle", "promote", bad, "--force")


def _roll_back(scene: Scene) -> None:
    scene.run("bundle", "rollback")


FAULTS = (
    Fault("nothing", "an hour in which all is well", (), "", _wait, _leave),
    Fault(
        "broker-down",
        "Kafka's broker is killed",
        ("ReviewpulseKafkaDown",),
        "start the broker; `reviewpulse topics`, for the local one's log is gone with it",
        _kill_kafka,
        _start_kafka,
    ),
    Fault(
        "redis-down",
        "Redis is killed under load",
        ("ReviewpulseRedisDown",),
        "start Redis; what it had not yet written is read again from Kafka",
        _kill_redis,
        _start_redis,
    ),
    Fault(
        "redis-full",
        "`maxmemory` is below what Redis holds",
        ("ReviewpulseRedisFull",),
        "`CONFIG SET maxmemory` to what there is room for",
        _fill_redis,
        _give_room,
    ),
    Fault(
        "poison-message",
        "a record kills every worker that scores it",
        ("ReviewpulsePoison", "ReviewpulseWorkersDying"),
        "wait until it is condemned; `reviewpulse dlq list`; deploy the fix; `reviewpulse dlq redrive`",
        _send_poison,
        _redrive,
        manner=Manner(events_per_s=10),
        command=("stream.drill.worker", "--mortal"),
        times_minute=2.0,  # a death takes ten seconds, most of them the session's timeout
    ),
    Fault(
        "slow-model",
        "200 events a second for a worker whose model takes 100",
        ("ReviewpulseSlowModel", "ReviewpulseLag"),
        "three more workers",
        _hurry,
        _add_workers,
        command=SLOW,
        options=SMALL_WINDOWS,
    ),
    Fault(
        "skewed-partition",
        "180 events a second, all with one key, for a worker that takes 100",
        ("ReviewpulseSkewedPartition",),
        "the sender keys by product again",
        _crowd,
        _spread,
        manner=Manner(events_per_s=20),
        command=SLOW,
        options=SMALL_WINDOWS,
    ),
    Fault(
        "clock-skew",
        "a sender's clock is ten minutes ahead; then that of events alone",
        ("ReviewpulseClockSkew", "ReviewpulseEventsAhead"),
        "the sender's clock is set",
        _run_ahead,
        _set_clock,
    ),
    Fault(
        "bad-bundle",
        "a bundle with its labels exchanged is refused, and then forced",
        ("ReviewpulseSentimentJumped", "ReviewpulseBundleRefused"),
        "`reviewpulse bundle rollback`",
        _deploy_badly,
        _roll_back,
        manner=Manner(events_per_s=8),
        options={"scorer": "onnx"},
        warm_minutes=65.0,
    ),
)
