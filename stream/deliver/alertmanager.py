"""Alertmanager, API v2: what fires is posted, and posted again while it fires.

Rules:
- An Alertmanager knows an alert by its labels, all of them. So an alert keeps the labels that it began with;
  when it becomes critical, the one with the old severity ends in the same request in which the new one
  begins.
- It takes what is not repeated for over: as Prometheus does, each post says that the alert ends in four times
  ``resend`` from now, and comes again after ``resend``. An end is posted with the time it ended.
- What it holds for firing is kept in Redis with the acknowledgement, so that a restart goes on repeating.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from stream.core.delivery import DELIVERED, Outcome
from stream.core.events import rfc3339
from stream.core.notify_file import Alertmanager
from stream.deliver.http import Post
from stream.deliver.sender import Sent
from stream.deliver.writing import WritingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from stream.core.messages import Message
    from stream.deliver.config import Address

LASTS_RESENDS = 4
"""Prometheus' own number: three posts may be lost."""
MOST_AT_ONCE = 64
PATH = "/api/v2/alerts"
JSON = {"content-type": "application/json"}


class Held(msgspec.Struct, frozen=True):
    """An alert as an Alertmanager holds it."""

    labels: dict[str, str]
    annotations: dict[str, str]
    started: str
    """RFC 3339."""
    link: str = ""


_decode_held = msgspec.json.Decoder(Held).decode


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class AlertmanagerSender:
    """Sends to an Alertmanager.

    Args:
        address: it.
        now_ms: the clock, ms since the epoch.
    """

    def __init__(self, address: Address, now_ms: Callable[[], int] = _now_ms) -> None:
        assert isinstance(address.target, Alertmanager)
        self._target = address.target
        self._address = address
        self._now_ms = now_ms
        self._held: dict[str, Held] = {}
        self._sent_ms = 0
        """When all that is held was posted last."""
        self._post = Post(address.target.timeout_s, address.tls, (address.url, *address.headers.values()))

    async def start(self, on: Mapping[str, bytes]) -> None:
        """Takes up what is held for firing; it is posted at the next chance."""
        for lane, value in on.items():
            with suppress(msgspec.MsgspecError):  # a newer version's: it ends there by itself
                self._held[lane] = _decode_held(value)
        self._sent_ms = 0 if on else self._now_ms()

    async def send(self, message: Message) -> Sent:
        """Posts a message's alert."""
        before = self._held.get(message.lane)
        try:
            held = self._held_of(message, before)
        except WritingError as error:
            return Sent(Outcome("hopeless", f"its template does not take it: {error}"))
        now_ms = self._now_ms()
        posts = []
        if before is not None and before.labels != held.labels:
            posts.append(_posted(before, rfc3339(now_ms)))
        if message.state == "resolved":
            # Never before its start, which it would be refused for.
            ended = max(message.at, held.started)
            posts.append(_posted(held, ended))
        else:
            posts.append(self._firing(held, now_ms))
        outcome = await self._send(posts)
        if outcome.kind != "delivered":
            return Sent(outcome)
        if message.state == "resolved":
            self._held.pop(message.lane, None)
            return Sent(outcome, {message.lane: b""})
        self._held[message.lane] = held
        return Sent(outcome, {message.lane: msgspec.json.encode(held)})

    async def again(self) -> Outcome | None:
        """Posts all that is held for firing, when it is time."""
        now_ms = self._now_ms()
        if not self._held or abs(now_ms - self._sent_ms) < self._target.resend_ms:
            return None
        held = list(self._held.values())
        for first in range(0, len(held), MOST_AT_ONCE):
            some = held[first : first + MOST_AT_ONCE]
            outcome = await self._send([self._firing(each, now_ms) for each in some])
            if outcome.kind != "delivered":
                return outcome
        self._sent_ms = now_ms
        return DELIVERED

    def gave_up(self, message: Message) -> str:
        """An end that never arrives is not repeated against: the alert ends by itself there."""
        if message.state != "resolved":
            return ""
        self._held.pop(message.lane, None)
        return message.lane

    async def close(self) -> None:
        """Ends the connections."""
        await self._post.close()

    async def _send(self, posts: Sequence[dict[str, Any]]) -> Outcome:
        url = self._address.url.rstrip("/") + PATH
        headers = {**self._address.headers, **JSON}
        return (await self._post.send(url, msgspec.json.encode(posts), headers)).outcome

    def _firing(self, held: Held, now_ms: int) -> dict[str, Any]:
        return _posted(held, rfc3339(now_ms + LASTS_RESENDS * self._target.resend_ms))

    def _held_of(self, message: Message, before: Held | None) -> Held:
        texts = self._address.texts
        assert texts.body is not None
        labels = {**self._labels(message), **self._target.labels}
        if before is not None:
            kept = {**before.labels, "severity": message.severity}
            # The end of what became critical unheard ends what is held.
            labels = before.labels if message.state == "resolved" else kept
        annotations = {
            "summary": texts.writer.line(texts.subject, message),
            "description": texts.writer.write(texts.body, message),
        }
        if message.alert is not None:
            annotations["onset"] = message.alert.onset
        held = Held(labels, annotations, message.at, texts.writer.link(message) or "")
        return held if before is None else replace(held, started=before.started)

    def _labels(self, message: Message) -> dict[str, str]:
        labels = {"source": "reviewpulse", "severity": message.severity, "alert_id": message.lane}
        alert = message.alert
        if alert is None:
            scope = message.incident.scope if message.incident else "fleet"
            return {**labels, "alertname": "incident", "scope": scope}
        category = {} if alert.category is None else {"category": alert.category}
        return {
            **labels,
            "alertname": alert.rule,
            "product_id": alert.product_id,
            "channel": alert.channel,
            **category,
        }


def _posted(held: Held, ends: str) -> dict[str, Any]:
    posted: dict[str, Any] = {
        "labels": held.labels,
        "annotations": held.annotations,
        "startsAt": held.started,
        "endsAt": ends,
    }
    if held.link:
        posted["generatorURL"] = held.link
    return posted
