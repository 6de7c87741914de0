"""A finished backtest: what was read, what was said of it, what would have fired; and the same as JSON.

Rules:
- Times are RFC 3339, durations seconds, shares in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.events import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.backtest.labels import Verdicts
    from stream.backtest.read import Countable
    from stream.backtest.run import Outcome, Replayed
    from stream.core.backtest import Found, Incident, Pair, Window
    from stream.core.spike import Observation


@dataclass(frozen=True)
class Report:
    """All of a backtest."""

    file: str
    countable: Countable
    verdicts: Verdicts
    by_product: Mapping[str, Sequence[Observation]]
    windows: Sequence[Window] | None
    replayed: Replayed


def builtins_of(report: Report) -> dict[str, Any]:
    """The report as plain values, for JSON."""
    countable, replayed = report.countable, report.replayed
    return {
        "file": report.file,
        "channel": countable.channel,
        "rows": countable.rows,
        "events": replayed.events,
        "products": replayed.products,
        "duplicates": countable.duplicates,
        "agents_lines": countable.agents_lines,
        "skipped": countable.flaws.count + report.verdicts.flaws.count,
        "skipped_rows": [flaw._asdict() for flaw in [*countable.flaws.named, *report.verdicts.flaws.named]],
        "first_event_time": rfc3339(replayed.first_ms),
        "last_event_time": rfc3339(replayed.last_ms),
        "days": replayed.days,
        "events_per_day": replayed.events / replayed.days,
        "labelled_by": report.verdicts.by,
        "rule_sets": [_outcome(outcome, replayed) for outcome in replayed.outcomes],
        "compared": [_pair(pair) for pair in replayed.pairs],
    }


def _outcome(outcome: Outcome, replayed: Replayed) -> dict[str, Any]:
    labelled = None
    if outcome.matching is not None:
        labelled = {
            **msgspec.to_builtins(outcome.quality),
            "by_window": [_found(found) for found in outcome.matching.windows],
            "false_alarm_ids": [each.id for each in outcome.matching.false_alarms],
        }
    return {
        "name": outcome.rule_set.name,
        "budget": outcome.budget._asdict(),
        "run_length": outcome.budget.run_length,
        "alerts": [_incident(incident) for incident in outcome.incidents],
        "alerts_per_day": len(outcome.incidents) / replayed.days,
        "labelled": labelled,
    }


def _incident(incident: Incident) -> dict[str, Any]:
    resolved = incident.resolved_ms
    return {
        "id": incident.id,
        "product_id": incident.product_id,
        "channel": incident.channel,
        "rule": incident.rule,
        "severity": incident.severity,
        "onset": rfc3339(incident.onset_ms),
        "fired": rfc3339(incident.fired_ms),
        "delay_events": incident.events,
        "delay_s": incident.delay_ms / 1000,
        "negatives": incident.negatives,
        "share": incident.share,
        "share_interval": incident.share_interval,
        "baseline_share": incident.baseline_share,
        "baseline_interval": incident.baseline_interval,
        "distinct_authors": incident.distinct_authors,
        "resolved": None if resolved is None else rfc3339(resolved),
        "duration_s": None if resolved is None else (resolved - incident.onset_ms) / 1000,
        "peak_share": incident.peak_share,
        "quotes": msgspec.to_builtins(incident.quotes),
    }


def _found(found: Found) -> dict[str, Any]:
    window = found.window
    return {
        "product_id": window.product_id,
        "channel": window.channel,
        "start": rfc3339(window.start_ms),
        "end": rfc3339(window.end_ms),
        "alert_id": None if found.incident is None else found.incident.id,
        "delay_events": found.delay_events,
        "delay_s": None if found.delay_ms is None else found.delay_ms / 1000,
    }


def _pair(pair: Pair) -> dict[str, Any]:
    first, second = pair
    either = first or second
    assert either is not None
    return {
        "product_id": either.product_id,
        "first": None if first is None else first.id,
        "second": None if second is None else second.id,
        "second_later_by_events": second.place - first.place if first and second else None,
        "second_later_by_s": (second.fired_ms - first.fired_ms) / 1000 if first and second else None,
    }
