"""One fault after another: strike, wait for the rules, do what the runbook says, wait for the end, reckon."""

from __future__ import annotations

import time
from copy import copy
from typing import TYPE_CHECKING

import msgspec

from stream.drill.scene import Scene
from stream.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from stream.drill.faults import Fault
    from stream.settings import Settings

STAYS_S = 2.0
"""What has stopped firing must not fire again for so long."""


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that had to fire."""

    rule: str
    severity: str
    panel: str
    runbook: str
    fired_after_s: float | None
    """From the fault on; None: it did not."""


class Met(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a fault."""

    fault: str
    what: str
    rules: list[Judged]
    also_fired: list[str]
    step: str
    minute_s: float
    """How long a minute of the rules lasted."""
    ended_after_s: float | None
    """From the runbook's step on, until none of the rules fires; None: they go on."""
    sent: int
    counted: int
    dead: int
    duplicates: int
    problems: list[str]

    @property
    def ok(self) -> bool:
        """Whether all rules fired, ended, and every event ended once."""
        return not self.problems


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse drill --json`` prints."""

    ok: bool
    minute_s: float
    faults: list[Met]


def drill(
    faults: Iterable[Fault],
    binary: Path,
    rules: list[Path],
    folder: Path,
    given: Settings,
    minute_s: float,
    patience_s: float,
    say: Callable[[str], None],
) -> Report:
    """Meets each fault.

    Args:
        faults: which.
        binary: Prometheus' executable.
        rules: the rule files.
        folder: for logs and data, which stay there.
        given: the caller's settings.
        minute_s: how long a minute of the rules lasts.
        patience_s: in which a rule has to fire, and in which it has to end.
        say: is told how it goes.

    Raises:
        UsageError: the local servers are not installed.
    """
    met = []
    for fault in faults:
        say(f"{fault.name}: {fault.what}")
        scene = Scene(
            binary,
            rules,
            folder / fault.name,
            minute_s * fault.times_minute,
            given,
            manner=copy(fault.manner),
            command=fault.command,
            options=fault.options,
        )
        met.append(meet(fault, scene, patience_s, say))
    return Report(ok=all(each.ok for each in met), minute_s=minute_s, faults=met)


def meet(fault: Fault, scene: Scene, patience_s: float, say: Callable[[str], None]) -> Met:
    """Lets one fault strike and mends it."""
    judged: list[Judged] = []
    problems: list[str] = []
    also: list[str] = []
    ended_after_s = None
    sent = counted = dead = duplicates = 0
    try:
        with scene:
            time.sleep(fault.warm_minutes * scene.minute_s)
            scene.prometheus.forget()
            judged = _strike(fault, scene, patience_s, say)
            ended_after_s = _mend(fault, scene, patience_s, say)
            also = sorted(set(scene.prometheus.fired_at) - set(fault.rules))
            if also and not fault.rules:
                problems.append(f"{', '.join(also)} fired, and nothing was wrong.")
            sent, counted, dead, duplicates, wrong = scene.reckon()
            problems += wrong
            say(f"  {sent:,} events sent, {counted:,} counted, {dead:,} dead letters")
    except (DependencyError, TimeoutError) as error:
        problems.append(str(error))
    problems += [f"{each.rule} did not fire." for each in judged if each.fired_after_s is None]
    if judged and ended_after_s is None:
        problems.append(f"After the runbook's step it still fires after {patience_s:.0f} s.")
    for problem in problems:
        say(f"  {problem}")
    return Met(
        fault=fault.name,
        what=fault.what,
        rules=judged,
        also_fired=also,
        step=fault.step,
        minute_s=scene.minute_s,
        ended_after_s=ended_after_s,
        sent=sent,
        counted=counted,
        dead=dead,
        duplicates=duplicates,
        problems=problems,
    )


def _strike(fault: Fault, scene: Scene, patience_s: float, say: Callable[[str], None]) -> list[Judged]:
    prometheus = scene.prometheus
    known = prometheus.rules()
    struck_at = time.monotonic()
    fault.strike(scene)
    deadline = struck_at + patience_s
    while not set(fault.rules) <= set(prometheus.fired_at) and time.monotonic() < deadline:
        time.sleep(0.2)
    judged = []
    for name in fault.rules:
        fired_at = prometheus.fired_at.get(name)
        after_s = round(fired_at - struck_at, 1) if fired_at else None
        rule = known[name]
        judged.append(
            Judged(
                rule=name,
                severity=rule.severity,
                panel=rule.panel,
                runbook=rule.runbook_url,
                fired_after_s=after_s,
            )
        )
        if after_s is not None:
            say(
                f"  {name} ({rule.severity}) fired after {after_s:g} s; panel: {rule.panel};"
                f" {rule.runbook_url}"
            )
    return judged


def _mend(fault: Fault, scene: Scene, patience_s: float, say: Callable[[str], None]) -> float | None:
    if fault.rules:
        say(f"  the runbook's step: {fault.step}")
    mended_at = time.monotonic()
    fault.mend(scene)
    deadline = time.monotonic() + patience_s
    quiet_since: float | None = None
    while time.monotonic() < deadline:
        now = time.monotonic()
        if scene.prometheus.firing & set(fault.rules):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= STAYS_S:
            ended_after_s = round(quiet_since - mended_at, 1)
            if fault.rules:
                say(f"  none of them fires {ended_after_s:g} s after it")
            return ended_after_s
        time.sleep(0.2)
    return None
