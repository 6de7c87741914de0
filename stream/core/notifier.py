"""Alerts in, notifications out: what is told when, held back, or left to an incident.

Rules:
- The same calls in the same order give the same notifications with the same ids, also across ``dump`` and
  ``load`` at any point. A repeated transition changes nothing.
- Nothing but a resolved transition resolves: no data, a restart and the passing of time do not.
- A historic alert begins nothing. One that we hear of late (``stale_s``: the subscriber was away) is told by
  the next ``tick``, if it fires still: call that when there is nothing more to take.
- What is silenced is not told while the silence is on. If it fires still when the silence ends, it is told
  then; so is the end of what was told before the silence.
- What begins while an incident is on is held back and listed in it. When the incident is over, what fires on
  is told by itself. The end of what was told by itself before is told by itself.
- An incident is never held back for having been told lately. One that is back within ``min_interval_s``
  stays on for that long instead.
- Memory is bounded. Beyond ``MOST_THREADS`` threads the ones that do not fire are forgotten first, then
  those that have not changed for longest.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from stream.core.events import Alert, event_time_ms, rfc3339
from stream.core.forgetting import is_quoted, without_words
from stream.core.incident import Gathering, Incidents, Start
from stream.core.notify import NAMED, Incident, Notification, Policy, Telling, due, milliseconds
from stream.core.silence import Said

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.core.forgetting import Customer

MOST_THREADS = 4_096
MOST_SEEN = 4_096
"""Alerts whose last sequence is remembered, so that a repeat after a crash is known for one."""
MOST_TOGETHER = 8
"""Alerts of one thread that fire at once: one, but for the time in which an end is on its way."""


class Thread(msgspec.Struct):
    """A product's rule on a channel."""

    alert: Alert
    """The last transition."""
    at_ms: int
    """When it was."""
    changed_ms: int
    """When we heard of it."""
    firing: list[str] = []
    """Ids of alerts that fire."""
    is_placed: bool = True
    """Whether it was seen if it belongs to an incident; what is silenced was not."""
    incident: str = ""
    """The incident that holds it back."""
    telling: Telling = msgspec.field(default_factory=Telling)


class State(msgspec.Struct):
    """All that a ``Notifier`` remembers."""

    threads: dict[str, Thread] = {}
    incidents: Incidents = msgspec.field(default_factory=Incidents)
    sequences: dict[str, int] = {}
    """The last one of each alert."""


_VERSION = b"\x01"
_decode = msgspec.msgpack.Decoder(State).decode


class Notifier:
    """Decides what people are told.

    >>> notifier = Notifier()
    >>> notifier.take(alert, now_ms)                                            # doctest: +SKIP
    [Notification(id='3f0c5a1b2c3d4e5f-firing-1', ...)]
    >>> notifier.tick(now_ms + 14_400_000)                                      # doctest: +SKIP
    [Notification(id='3f0c5a1b2c3d4e5f-still_firing-2', ...)]

    Args:
        policy: when people are told.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy or Policy()
        self._state = State()

    def dump(self) -> bytes:
        """All that it remembers: half a kilobyte a thread, and its quotes."""
        return _VERSION + msgspec.msgpack.encode(self._state)

    @classmethod
    def load(cls, dumped: bytes, policy: Policy | None = None) -> Notifier:
        """One that goes on where the dumped one was.

        Raises:
            ValueError: these bytes are no dump of this version.
        """
        notifier = cls(policy)
        if dumped[:1] != _VERSION:
            raise ValueError("it is of another version")
        try:
            notifier._state = _decode(memoryview(dumped)[1:])
        except msgspec.MsgspecError as error:
            raise ValueError(f"it is damaged, or of another version: {error}") from error
        return notifier

    def saw_model(self, version: str, at_ms: int) -> bool:
        """Takes in that a model scored at a time; says whether that is a change of model."""
        gap_ms = milliseconds(self._policy.model_change_s)
        return self._state.incidents.models.see(version, at_ms, gap_ms)

    def announced_model(self, old: str, new: str, at_ms: int) -> bool:
        """Takes in that a model was put in another's place; says whether that is news.

        A rollback minutes after a promotion is one; in what is seen alone it looks like a rolling upgrade.
        """
        return self._state.incidents.models.announce(old, new, at_ms)

    def is_late(self, alert: Alert, now_ms: int) -> bool:
        """Whether we hear of a transition long after it was."""
        return now_ms - _moment(alert, now_ms) > milliseconds(self._policy.stale_s)

    def take(self, alert: Alert, now_ms: int, said: Said | None = None) -> list[Notification]:
        """Takes in a transition.

        Args:
            alert: it.
            now_ms: the time, ms since the epoch.
            said: silences and acknowledgements as they are now.

        Returns:
            What to tell now.
        """
        said = said or Said()
        key = self._record(alert, now_ms)
        if key is None:
            return []
        thread = self._state.threads[key]
        self._place(key, thread, now_ms, said)
        if self.is_late(alert, now_ms):
            return []
        incident = self._state.incidents.on.get(thread.incident)
        return self._tell([incident] if incident else [], [thread], now_ms, said)

    def tick(self, now_ms: int, said: Said | None = None) -> list[Notification]:
        """What to tell now that no transition causes. Call it every few seconds, when all was taken.

        Args:
            now_ms: the time, ms since the epoch.
            said: silences and acknowledgements as they are now.
        """
        said = said or Said()
        state = self._state
        state.threads = {key: each for key, each in state.threads.items() if not self._is_quiet(each, now_ms)}
        state.incidents.forget(now_ms, self._policy)
        for key, thread in state.threads.items():
            self._place(key, thread, now_ms, said)
        return self._tell(list(state.incidents.on.values()), state.threads.values(), now_ms, said)

    # What happened.

    def _record(self, alert: Alert, now_ms: int) -> str | None:
        """Takes in a transition; returns the thread that it changes."""
        if not self._is_news(alert):
            return None
        key = thread_of(alert)
        thread = self._state.threads.get(key)
        is_known = thread is not None and alert.id in thread.firing
        if not is_known and (alert.state != "firing" or alert.historic):
            return None  # the end of what we know nothing of, or history
        at_ms = _moment(alert, now_ms)
        if thread is None or self._is_quiet(thread, now_ms):
            self._make_room()
            thread = self._state.threads[key] = Thread(alert, at_ms, now_ms)
        fired = bool(thread.firing)
        if not is_known:
            self._begin(thread, alert, at_ms, now_ms)
        elif alert.state == "resolved":
            thread.firing.remove(alert.id)
            if not thread.firing and not thread.telling.is_open:
                thread.telling.is_acknowledged = False  # it ends with what was acknowledged
        # An alert's end may come after the next alert's beginning: they are in different partitions.
        is_latest = at_ms >= thread.at_ms or alert.id == thread.alert.id
        if not thread.firing or (alert.state == "firing" and is_latest):
            thread.alert, thread.at_ms = alert, at_ms
        thread.changed_ms = now_ms
        incident = self._state.incidents.on.get(thread.incident)
        if incident is not None:
            incident.firing += bool(thread.firing) - fired
            _hold_back(thread, incident)
        return key

    def _is_news(self, alert: Alert) -> bool:
        sequences = self._state.sequences
        if alert.sequence <= sequences.get(alert.id, 0):
            return False
        sequences.pop(alert.id, None)
        sequences[alert.id] = alert.sequence
        if len(sequences) > MOST_SEEN:
            del sequences[next(iter(sequences))]
        return True

    def _begin(self, thread: Thread, alert: Alert, at_ms: int, now_ms: int) -> None:
        thread.firing.append(alert.id)
        del thread.firing[:-MOST_TOGETHER]
        thread.telling.fired += 1
        thread.telling.hovers |= thread.telling.is_within(now_ms, self._policy.min_interval_s)
        thread.is_placed = bool(thread.incident)
        self.saw_model(alert.model_version, at_ms)

    def _place(self, key: str, thread: Thread, now_ms: int, said: Said) -> None:
        """Puts a thread that began to fire into the incident it belongs to, if there is one."""
        alert = thread.alert
        if thread.is_placed or not thread.firing or said.silence_of(alert, now_ms) is not None:
            return
        thread.is_placed = True
        start = Start(thread.at_ms, alert.product_id, alert.category, key, alert.id)
        placed = self._state.incidents.place(start, self._fires, now_ms, self._policy)
        if placed is None:
            return
        incident, members = placed
        for name in dict.fromkeys(each.thread for each in members):
            member = self._state.threads[name]
            member.incident = incident.id
            incident.total += 1
            incident.firing += bool(member.firing)
            _hold_back(member, incident)

    # What is told.

    def _tell(
        self, incidents: Iterable[Gathering], threads: Iterable[Thread], now_ms: int, said: Said
    ) -> list[Notification]:
        told = [self._tell_incident(each, now_ms, said) for each in incidents]
        told += [self._tell_thread(each, now_ms, said) for each in threads]
        return [each for each in told if each is not None]

    def _tell_thread(self, thread: Thread, now_ms: int, said: Said) -> Notification | None:
        telling, alert = thread.telling, thread.alert
        known = {alert.id, telling.about} if telling.is_open else {alert.id}
        telling.is_acknowledged |= bool(thread.firing) and not known.isdisjoint(said.acknowledged)
        turn = due(telling, alert.severity, now_ms, self._policy, fires=bool(thread.firing))
        if turn is None or (thread.incident and turn != "resolved"):
            return None
        if said.silence_of(alert, now_ms) is not None:
            return None
        return telling.told(turn, alert.id, thread_of(alert), alert.severity, now_ms, alert=alert)

    def _tell_incident(self, incident: Gathering, now_ms: int, said: Said) -> Notification | None:
        telling, policy = incident.telling, self._policy
        telling.is_acknowledged |= incident.id in said.acknowledged
        is_over = incident.is_over(now_ms, policy)
        if is_over and not telling.is_open:
            self._close(incident, now_ms)  # it was over before anybody could be told
            return None
        turn = due(telling, incident.severity, now_ms, policy, fires=not is_over)
        if turn is None or (turn == "firing" and incident.is_mostly_over(policy)):
            return None
        members = [each for each in self._state.threads.values() if each.incident == incident.id]
        shown = [each for each in members if said.silence_of(each.alert, now_ms) is None]
        if members and not shown:
            return None
        if is_over:
            self._close(incident, now_ms)
        extent = _extent(incident, shown if is_over else [each for each in shown if each.firing])
        return telling.told(turn, incident.id, incident.id, incident.severity, now_ms, incident=extent)

    def _close(self, incident: Gathering, now_ms: int) -> None:
        for each in self._state.threads.values():
            if each.incident == incident.id:
                each.incident = ""
        self._state.incidents.close(incident, now_ms)

    # What is forgotten.

    def _fires(self, key: str) -> bool:
        thread = self._state.threads.get(key)
        return thread is not None and bool(thread.firing)

    def _is_quiet(self, thread: Thread, now_ms: int) -> bool:
        """Whether nothing of it is left to tell, and what comes next is another story."""
        if thread.firing or thread.telling.is_open or thread.incident:
            return False
        interval_s = self._policy.min_interval_s
        is_fresh = abs(now_ms - thread.changed_ms) < milliseconds(interval_s)
        return not is_fresh and not thread.telling.is_within(now_ms, interval_s)

    def forget_product(self, product_id: str) -> list[str]:
        """Forgets a product: what fires of it will neither be told again nor its end.

        Returns:
            Its threads.
        """
        state = self._state
        starts = state.incidents.starts
        state.incidents.starts = [each for each in starts if each.product_id != product_id]
        gone = [key for key, each in state.threads.items() if each.alert.product_id == product_id]
        gone += [each.thread for each in starts if each.product_id == product_id]
        for key in gone:
            if (thread := state.threads.get(key)) is not None:
                for alert_id in (thread.alert.id, *thread.firing):
                    state.sequences.pop(alert_id, None)
            self._drop(key)
        return list(dict.fromkeys(gone))

    def forget_words(self, customer: Customer) -> int:
        """Takes a customer's words out of what will be told; says of how many threads."""
        quoting = [each for each in self._state.threads.values() if is_quoted(each.alert, customer)]
        for thread in quoting:
            thread.alert = without_words(thread.alert)
        return len(quoting)

    def _make_room(self) -> None:
        threads = self._state.threads
        if len(threads) < MOST_THREADS:
            return
        self._drop(min(threads, key=lambda key: (bool(threads[key].firing), threads[key].changed_ms)))

    def _drop(self, key: str) -> None:
        forgotten = self._state.threads.pop(key, None)
        if forgotten is None:
            return
        incident = self._state.incidents.on.get(forgotten.incident)
        if incident is not None:
            incident.total -= 1
            incident.firing -= bool(forgotten.firing)


def thread_of(alert: Alert) -> str:
    """The thread of an alert: the same for each alert of a product's rule on a channel."""
    name = f"{alert.product_id}\0{alert.channel}\0{alert.rule}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _hold_back(thread: Thread, incident: Gathering) -> None:
    """Thousands may wait for an incident's end: they do so without their quotes."""
    thread.alert = replace(thread.alert, quotes=[])
    incident.note(thread.alert.severity)


def _extent(incident: Gathering, members: list[Thread]) -> Incident:
    change = incident.change
    return Incident(
        scope=incident.scope,
        category=incident.category,
        models=(change.old, change.new) if change else None,
        since=rfc3339(incident.since_ms),
        products=list(dict.fromkeys(each.alert.product_id for each in members))[:NAMED],
        alerts=[each.alert.id for each in members[:NAMED]],
        firing=incident.firing,
        total=incident.total,
    )


def _moment(alert: Alert, otherwise: int) -> int:
    """When a transition was, ms since the epoch; what is no time is taken for now, so that it is told."""
    try:
        at = datetime.fromisoformat(alert.at)
        return event_time_ms(at if at.tzinfo else at.replace(tzinfo=UTC))
    except ValueError:
        return otherwise
