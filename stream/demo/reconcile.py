"""Whether every event sent ended as it should, and whether the right alert fired.

Rules:
- Each record sent ends as exactly one of counted, dead, skipped: per channel, what the worker's ledger says
  must equal what the shop meant, and per product the all-time counters must equal what was sent of it.
- A verdict is a list of sentences, each saying one thing that does not hold; empty means that all holds.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from stream.core.events import CHANNELS, Alert

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream.client import ChannelTotals, ProductCounts
    from stream.demo.shop import ShopRecord

RESOLVES_FROM_S = 60.0
"""A live part at least this long leaves the alert time to resolve: so it did with every seed tried."""


class Sent:
    """What was sent so far, and what must become of it."""

    def __init__(self) -> None:
        self.fates: Counter[tuple[str, str]] = Counter()
        self.counted_of: Counter[str] = Counter()

    def add(self, record: ShopRecord) -> None:
        """Takes note of a record."""
        self.fates[record.channel, record.fate] += 1
        if record.fate == "counted":
            self.counted_of[record.product_id] += 1

    @property
    def total(self) -> int:
        """Records of all channels."""
        return self.fates.total()


class ChannelSums(msgspec.Struct, frozen=True, kw_only=True):
    """One channel: what was meant to happen and what the worker says happened."""

    channel: str
    sent: int
    meant: dict[str, int]
    """counted, dead and skipped, as the shop meant it."""
    counted: int
    dead: int
    skipped: int
    late: int
    """Those of ``counted`` that came late."""

    @property
    def agrees(self) -> bool:
        """Whether the worker did with every event what it should."""
        return {"counted": self.counted, "dead": self.dead, "skipped": self.skipped} == self.meant

    @property
    def difference(self) -> int:
        """Events without an end, or, below zero, with more than one."""
        return self.sent - self.counted - self.dead - self.skipped


class Report(msgspec.Struct, kw_only=True):
    """What came of a demo."""

    ok: bool
    problems: list[str]
    duration_s: float
    seed: int
    model_version: str
    provider: str
    latency_p50_ms: float | None
    latency_p99_ms: float | None
    channels: list[ChannelSums]
    products: int
    products_exact: int
    """Products whose counters equal what was sent of them."""
    dead_letters: dict[str, int]
    """Reason to number, as read from the dead-letter topics."""
    bad_product: str
    alerts: list[Alert]
    """Every transition, in order."""


def channel_sums(sent: Sent, totals: Mapping[str, ChannelTotals]) -> list[ChannelSums]:
    """Both sides of every channel."""
    sums = []
    for channel in CHANNELS:
        meant = {fate: sent.fates[channel, fate] for fate in ("counted", "dead", "skipped")}
        done = totals[channel]
        sums.append(
            ChannelSums(
                channel=channel,
                sent=sum(meant.values()),
                meant=meant,
                counted=done.counted,
                dead=done.dead,
                skipped=done.skipped,
                late=done.late,
            )
        )
    return sums


def wrong_products(sent: Sent, counts: Iterable[ProductCounts]) -> list[str]:
    """Products whose counters are not what was sent of them, those never sent included."""
    counted = {each.product_id: each.events for each in counts}
    return sorted(
        product_id
        for product_id in counted.keys() | sent.counted_of.keys()
        if counted.get(product_id, 0) != sent.counted_of[product_id]
    )


def problems_with_sums(sums: Iterable[ChannelSums], wrong: list[str], letters: int) -> list[str]:
    """What does not add up.

    Args:
        sums: of every channel.
        wrong: products whose counters are off.
        letters: dead letters found in their topics.
    """
    sums = list(sums)
    problems = [
        f"Of {each.sent:,} events sent to {each.channel}, {each.counted:,} were counted, {each.dead:,} are"
        f" dead letters and {each.skipped:,} were skipped; meant were {each.meant['counted']:,},"
        f" {each.meant['dead']:,} and {each.meant['skipped']:,}."
        for each in sums
        if not each.agrees
    ]
    if wrong:
        problems.append(f"The counters of {', '.join(wrong)} are not what was sent of them.")
    dead = sum(each.dead for each in sums)
    if letters != dead:
        problems.append(f"{dead:,} events are said to be dead letters, and {letters:,} were found there.")
    return problems


def problems_with_alerts(alerts: Iterable[Alert], bad_product: str, duration_s: float) -> list[str]:
    """What is wrong with the alerts.

    Args:
        alerts: every transition.
        bad_product: the only product that should have any.
        duration_s: of the live part.
    """
    alerts = list(alerts)
    problems = []
    fired = {alert.id for alert in alerts if alert.product_id == bad_product and alert.state == "firing"}
    resolved = {alert.id for alert in alerts if alert.product_id == bad_product and alert.state == "resolved"}
    if not fired:
        problems.append(f"No alert fired for {bad_product}, which got the bad batch.")
    elif duration_s >= RESOLVES_FROM_S and not resolved:
        problems.append(f"The alert of {bad_product} has not resolved after the batch was replaced.")
    others = sorted({alert.product_id for alert in alerts} - {bad_product})
    if others:
        problems.append(f"An alert fired for {', '.join(others)}, with which nothing was wrong.")
    return problems
