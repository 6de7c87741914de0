"""Messages as they can come, made up: what templates are tried on, and what ``notify test`` sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from stream.core.events import Alert, Quote, RateEvidence
from stream.core.messages import Message, of_alert
from stream.core.notify import Incident
from stream.core.phrases import Phrase
from stream.core.summary import Said

if TYPE_CHECKING:
    from collections.abc import Mapping

_FIRING = Alert(
    id="0123456789abcdef",
    sequence=1,
    state="firing",
    rule="negative_share",
    severity="warning",
    product_id="EXAMPLE-1",
    channel="reviews",
    at="2026-11-23T10:00:00.000Z",
    onset="2026-11-23T09:12:00.000Z",
    events=40,
    negatives=22,
    current_share=0.55,
    current_interval=(0.4, 0.69),
    baseline_share=0.1,
    baseline_interval=(0.08, 0.12),
    baseline_events=400.0,
    false_alarm_run_length=1e6,
    distinct_authors=21,
    quotes=[
        Quote(
            event_id="r-1",
            text="This is an example, no customer wrote it: the battery died after a week.",
            p_negative=0.98,
            event_time="2026-11-23T09:40:00.000Z",
        )
    ],
    peak_share=0.6,
    duration_s=2_880.0,
    model_version="example",
    category="examples",
    phrases=[Phrase("battery died", 14, 0.64), Phrase("does not charge", 6, 0.27)],
    summary=[Said("This is an example: the battery died after a week.", 14)],
)
_RATE = RateEvidence(
    per_day=30.0,
    per_day_interval=(20.0, 45.0),
    usual_per_day=4.0,
    usual_interval=(3.0, 5.0),
    burstiness=0.2,
    evidence=12.0,
    threshold=9.0,
    profile="flat",
)
_INCIDENT = Incident(
    scope="fleet",
    category=None,
    models=None,
    since="2026-11-23T09:12:00.000Z",
    products=[f"EXAMPLE-{number}" for number in range(1, 13)],
    alerts=["0123456789abcdef"],
    firing=12,
    total=12,
)


def _notification(name: str, message: Message) -> Message:
    return replace(message, id=f"example-{name}", hears="notifications", lane="example", number=0)


def _incident(name: str, incident: Incident) -> Message:
    return Message(
        id=f"example-{name}",
        hears="notifications",
        state="firing",
        severity="critical",
        at=incident.since,
        lane="example-incident",
        number=0,
        incident=incident,
    )


_RESOLVED = replace(_FIRING, sequence=3, state="resolved", severity="critical", resolution="recovered")

EXAMPLES: Mapping[str, Message] = {
    "firing": of_alert(_FIRING),
    "escalated": of_alert(replace(_FIRING, sequence=2, severity="critical", category=None, summary=[])),
    "resolved": of_alert(_RESOLVED),
    "new_normal": of_alert(replace(_RESOLVED, resolution="new_normal", quotes=[], summary=[], phrases=[])),
    "rate": of_alert(replace(_FIRING, rule="negative_rate", channel="chats", rate=_RATE)),
    "still_firing": replace(_notification("still_firing", of_alert(_FIRING)), state="still_firing", fired=3),
    "incident": _incident("incident", _INCIDENT),
    "category": _incident("category", replace(_INCIDENT, scope="category", category="examples")),
    "model": _incident("model", replace(_INCIDENT, scope="model", models=("m-1", "m-2"))),
}
