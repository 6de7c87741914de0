"""Do many products fire for one cause? A fleet's, a category's or a model's incident.

Rules:
- What counts is when alerts began by their own time (``Alert.at``), not when we heard of them: a subscriber
  that was away for a day and reads it in a second sees no incident that was not there.
- An incident is several products that began to fire within a window and fire still. So that a large fleet's
  everyday trickle is none, they must also be a share of all that began lately.
- A product counts once, however often its share hovers; what already belongs to an incident counts no more.
- While an incident is on, what begins where it reaches joins it. One that is mostly over takes nothing more:
  what begins then is told by itself, or makes the next one.
- A model that was not seen just before, while another was, is a change of model; so is what was announced as
  one, be it back to a model of a moment ago. What begins soon after it is more likely the model's doing than
  the customers'.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from stream.core.notify import RANK, Policy, Scope, Severity, Telling, milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

LATELY_WINDOWS = 8
"""An incident's products are compared with those that began in so many windows."""
MOST_STARTS = 4_096
MOST_MODELS = 8


class Start(msgspec.Struct, frozen=True, array_like=True):
    """An alert began."""

    at_ms: int
    product_id: str
    category: str | None
    thread: str
    """Which notifications it belongs to."""
    alert_id: str


def products_of(starts: Iterable[Start]) -> set[str]:
    """The distinct products.

    >>> sorted(products_of([Start(0, "B1", None, "x", "1"), Start(5, "B1", None, "y", "2")]))
    ['B1']
    """
    return {each.product_id for each in starts}


def crowd(starts: Sequence[Start], new: Start, firing: Collection[str], policy: Policy) -> list[Start]:
    """The starts that make an incident together with the newest one; none where they do not.

    Args:
        starts: those of the last ``LATELY_WINDOWS`` windows that belong to no incident, the new one included.
        new: the newest one; topics interleave, so others may have begun after it.
        firing: threads that fire still.
        policy: how many within what window, and which share of all.

    >>> starts = [Start(n * 60_000, f"B{n}", None, f"t{n}", f"a{n}") for n in range(5)]
    >>> firing = {"t0", "t1", "t2", "t3", "t4"}
    >>> len(crowd(starts, starts[-1], firing, Policy(incident_window_s=240)))
    5
    >>> crowd(starts, starts[-1], firing, Policy(incident_window_s=180))
    []
    """
    window_ms = milliseconds(policy.incident_window_s)
    still = [each for each in starts if each.thread in firing]
    best: list[Start] = []
    for begin in {each.at_ms for each in still if new.at_ms - window_ms <= each.at_ms <= new.at_ms}:
        together = [each for each in still if begin <= each.at_ms <= begin + window_ms]
        best = max(best, together, key=_rank)
    lately_ms = LATELY_WINDOWS * window_ms
    lately = products_of(each for each in starts if abs(each.at_ms - new.at_ms) <= lately_ms)
    count = len(products_of(best))
    is_crowd = count >= policy.incident_products and count >= policy.incident_share * len(lately)
    return best if is_crowd else []


def _rank(starts: list[Start]) -> tuple[int, int]:
    """More products first, then the earlier window: in whatever order a set gives them."""
    return len(products_of(starts)), -min((each.at_ms for each in starts), default=0)


class Change(msgspec.Struct, frozen=True, array_like=True):
    """Another model scores."""

    old: str
    new: str
    at_ms: int


class Models(msgspec.Struct):
    """Which models scored, and when the last change was."""

    last_ms: dict[str, int] = {}
    """When each was seen last."""
    change: Change | None = None
    announced_ms: int = 0
    """When the last change that was announced was."""

    def announce(self, old: str, new: str, at_ms: int) -> bool:
        """Takes in a change of model that somebody made; says whether it is news.

        >>> models = Models()
        >>> models.see("a", 0, 100), models.see("b", 50, 100), models.see("a", 60, 100)
        (False, True, False)
        >>> models.announce("b", "a", 60), models.announce("b", "a", 60), models.change.new
        (True, False, 'a')
        """
        if at_ms <= self.announced_ms:
            return False
        self.announced_ms = at_ms
        known = self.change
        if known is None or (known.old, known.new) != (old, new):
            self.change = Change(old, new, at_ms)
        return True

    def see(self, version: str, at_ms: int, gap_ms: int) -> bool:
        """Takes in that a model scored at a time; says whether that is a change.

        Args:
            version: the model's.
            at_ms: when.
            gap_ms: a model unseen for longer, while another was seen, is a change when it comes back. In a
                rolling upgrade both are seen, and it is one change.

        >>> models = Models()
        >>> models.see("a", 0, 100), models.see("b", 50, 100), models.see("a", 60, 100), models.change.new
        (False, True, False, 'b')
        """
        before = self.last_ms.get(version)
        others = [(ms, name) for name, ms in self.last_ms.items() if name != version]
        last_ms, last = max(others, default=(0, None))
        is_new = before is None or (at_ms - before > gap_ms and last_ms > before)
        self.last_ms[version] = at_ms if before is None else max(before, at_ms)
        if len(self.last_ms) > MOST_MODELS:
            del self.last_ms[min(self.last_ms, key=lambda name: (self.last_ms[name], name))]
        if last is not None and is_new and last_ms - at_ms <= gap_ms:  # else it is an old story
            self.change = Change(last, version, at_ms)
            return True
        if self.change is not None and self.change.new == version and at_ms < self.change.at_ms:
            self.change = Change(self.change.old, version, at_ms)
        return False


class Gathering(msgspec.Struct):
    """An incident that is on."""

    id: str
    """Made from the alerts that made it."""
    scope: Scope
    since_ms: int
    """When the first of them began."""
    category: str | None = None
    change: Change | None = None
    firing: int = 0
    """Threads that fire now."""
    total: int = 0
    """Threads that were ever part of it."""
    severity: Severity = "warning"
    """The highest of its alerts."""
    joined_ms: int = 0
    """When we heard of the last alert that joined."""
    telling: Telling = msgspec.field(default_factory=Telling)

    @property
    def name(self) -> str:
        """What another one of the same would be called."""
        return f"{self.scope}:{self.category or ''}{self.change.new if self.change else ''}"

    def is_mostly_over(self, policy: Policy) -> bool:
        """Whether as many have resolved as end it."""
        return self.total - self.firing >= policy.incident_over * self.total

    def is_over(self, now_ms: int, policy: Policy) -> bool:
        """Whether nothing was added for a window either."""
        is_settled = abs(now_ms - self.joined_ms) >= milliseconds(policy.incident_window_s)
        return is_settled and self.is_mostly_over(policy)

    def note(self, severity: Severity) -> None:
        """Takes in the severity of one of its alerts."""
        self.severity = max(self.severity, severity, key=RANK.__getitem__)

    def takes(self, start: Start, policy: Policy) -> bool:
        """Whether this start is part of it."""
        if self.is_mostly_over(policy):
            return False
        if self.change is not None:
            return is_after(self.change, start, policy)
        return self.scope == "fleet" or self.category == start.category


def is_after(change: Change, start: Start, policy: Policy) -> bool:
    """Whether an alert began so soon after a change of model that it is put down to it."""
    return 0 <= start.at_ms - change.at_ms <= milliseconds(policy.model_change_s)


class Incidents(msgspec.Struct):
    """Those that are on, and what may become one."""

    on: dict[str, Gathering] = {}
    starts: list[Start] = []
    """Those of late that belong to none."""
    ended: dict[str, int] = {}
    """When one of a name was over last, ms."""
    models: Models = msgspec.field(default_factory=Models)

    def place(
        self, start: Start, fires: Callable[[str], bool], now_ms: int, policy: Policy
    ) -> tuple[Gathering, list[Start]] | None:
        """Finds the incident that a start belongs to.

        Args:
            start: an alert that has begun.
            fires: whether a thread fires now.
            now_ms: the time.
            policy: what makes an incident.

        Returns:
            The incident, one that is on or one that this start makes, and the starts that join it now.
        """
        self._date_back()
        incident = next((each for each in self.on.values() if each.takes(start, policy)), None)
        if incident is not None:
            incident.joined_ms = now_ms
            return incident, [start]
        self._remember(start, policy)
        founded = self._found(start, {each.thread for each in self.starts if fires(each.thread)}, policy)
        if founded is None:
            return None
        incident, members = founded
        joined = {each.thread for each in members}
        self.starts = [each for each in self.starts if each.thread not in joined]
        ended_ms = self.ended.get(incident.name)
        incident.telling.hovers = ended_ms is not None and abs(now_ms - ended_ms) < milliseconds(
            policy.min_interval_s
        )
        incident.telling.fired = 1
        incident.joined_ms = now_ms
        self.on[incident.id] = incident
        return founded

    def _date_back(self) -> None:
        """A change of model may turn out to have been earlier: alerts of lagging partitions say so."""
        change = self.models.change
        for each in self.on.values():
            was = each.change
            if was is not None and change is not None and (was.old, was.new) == (change.old, change.new):
                each.change = change

    def close(self, incident: Gathering, now_ms: int) -> None:
        """It is over."""
        del self.on[incident.id]
        if incident.telling.count:
            self.ended[incident.name] = now_ms

    def forget(self, now_ms: int, policy: Policy) -> None:
        """Forgets ends that no longer matter."""
        interval_ms = milliseconds(policy.min_interval_s)
        self.ended = {name: ms for name, ms in self.ended.items() if abs(now_ms - ms) < interval_ms}

    def _remember(self, start: Start, policy: Policy) -> None:
        horizon_ms = milliseconds(max(LATELY_WINDOWS * policy.incident_window_s, policy.model_change_s))
        starts = [*self.starts, start]
        newest_ms = max(each.at_ms for each in starts)
        self.starts = [each for each in starts if newest_ms - each.at_ms <= horizon_ms][-MOST_STARTS:]

    def _found(self, new: Start, firing: set[str], policy: Policy) -> tuple[Gathering, list[Start]] | None:
        """The incident that a start makes: a model's, else a category's, else the fleet's."""
        change = self.models.change
        if change is not None and is_after(change, new, policy):
            after = [each for each in self.starts if each.thread in firing and is_after(change, each, policy)]
            if len(products_of(after)) >= policy.model_change_products:
                return _gathering("model", after, change=change), after
        same = [each for each in self.starts if each.category == new.category]
        if new.category is not None and (together := crowd(same, new, firing, policy)):
            return _gathering("category", together, category=new.category), together
        if together := crowd(self.starts, new, firing, policy):
            return _gathering("fleet", together), together
        return None


def _gathering(
    scope: Scope, starts: list[Start], *, category: str | None = None, change: Change | None = None
) -> Gathering:
    made_from = "\0".join([scope, *sorted(each.alert_id for each in starts)])
    name = hashlib.sha256(made_from.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    since_ms = min(each.at_ms for each in starts)
    return Gathering(f"incident-{name}", scope, since_ms, category, change)
