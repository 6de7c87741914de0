"""Traces: off by default, linked to what producers send, carried on by alerts and dead letters."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from builders import REVIEWS, alert, event, record, run
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stream.client.trace import with_traceparent
from stream.core.traceparent import HEADER, of_record, parsed
from stream.errors import UsageError
from stream.publish import _dead_letter
from stream.record import Refused, Transition
from stream.settings import load
from stream.tracing import MOST_CAUSES, MOST_LINKS, NO_TRACING, Causes, OpenTelemetry, tracing_of

if TYPE_CHECKING:
    from collections.abc import Iterator

PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parent(number: int) -> bytes:
    return b"00-%032x-%016x-01" % (number, number)


@pytest.fixture
def spans() -> Iterator[tuple[OpenTelemetry, InMemorySpanExporter]]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield OpenTelemetry(provider), exporter
    provider.shutdown()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"0",
        b"01" + PARENT[2:],
        b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01",
        b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01",
        PARENT + b"\r\nx: y",
    ],
)
def test_what_is_no_traceparent_is_none(value: bytes) -> None:
    assert parsed(value) is None
    assert of_record([(HEADER, value)]) is None


def test_a_window_is_one_span_linked_to_its_records_with_its_stages_inside(
    spans: tuple[OpenTelemetry, InMemorySpanExporter],
) -> None:
    tracing, exporter = spans
    records = [record(n, b"{}", headers=((HEADER, parent(n + 1)),)) for n in range(3)]
    records += [record(3, b"{}", headers=((HEADER, parent(1)),)), record(4, b"{}", headers=((HEADER, b"x"),))]
    window = tracing.begin([run(0, *records)])
    window.stage("decode", 0.5)
    judged: Any = SimpleNamespace(events=[1, 2], dead=[1], transitions=[])
    window.end([judged])
    stage, span = exporter.get_finished_spans()
    assert (span.name, stage.name) == ("window", "window decode")
    assert [link.context.trace_id for link in span.links] == [1, 2, 3]  # each trace once, wrong ones never
    assert stage.parent is not None
    assert stage.parent.span_id == span.context.span_id
    assert stage.end_time - stage.start_time == 500_000_000
    assert dict(span.attributes) == {
        "messaging.system": "kafka",
        "messaging.batch.message_count": 5,
        "reviewpulse.partitions": ("reviews:0",),
        "reviewpulse.counted": 2,
        "reviewpulse.dead": 1,
        "reviewpulse.alert_transitions": 0,
    }


def test_a_window_has_a_bounded_number_of_links(spans: tuple[OpenTelemetry, InMemorySpanExporter]) -> None:
    tracing, exporter = spans
    tracing.begin([run(0, *(record(n, b"{}", headers=((HEADER, parent(n + 1)),)) for n in range(100)))]).end(
        []
    )
    (span,) = exporter.get_finished_spans()
    assert len(span.links) == MOST_LINKS


def test_a_producer_in_a_span_sends_its_traceparent_and_one_outside_sends_none(
    spans: tuple[OpenTelemetry, InMemorySpanExporter],
) -> None:
    tracing, _ = spans
    assert with_traceparent(None) is None
    assert with_traceparent([("a", b"b")]) == [("a", b"b")]
    with trace.use_span(tracing._tracer.start_span("caller")) as span:
        context = span.get_span_context()
        sent = with_traceparent([("a", b"b")])
        assert sent is not None
        found = of_record(sent)
        assert found is not None
        said = parsed(found)
        assert said is not None
        assert (said.trace_id, said.span_id) == (context.trace_id, context.span_id)
        assert said.flags == int(context.trace_flags)
        assert with_traceparent([(HEADER, PARENT)]) == [(HEADER, PARENT)]  # the caller's own stands


def test_a_dead_letter_carries_its_records_traceparent_and_nothing_that_is_none() -> None:
    carried = _dead_letter(Refused(record(0, b"{", headers=((HEADER, PARENT),)), "decode", "not JSON"))
    assert (HEADER, PARENT) in (carried.headers or [])
    plain = _dead_letter(Refused(record(0, b"{", headers=((HEADER, b"evil"),)), "decode", "not JSON"))
    assert HEADER not in dict(plain.headers or [])


def test_a_transitions_cause_is_the_record_that_arrived_when_it_says() -> None:
    records = [record(n, b"{}", headers=((HEADER, parent(n + 1)),)) for n in range(3)]
    events = [event(n, arrival_ms=1_700_000_000_000 + n) for n in range(3)]
    fired = alert(id="a", sequence=1, at="2023-11-14T22:13:20.001Z")
    judged: Any = SimpleNamespace(
        part=SimpleNamespace(records=records), transitions=[Transition(fired, events)]
    )
    causes = Causes()
    causes.note(judged)
    assert causes.of(fired) == parent(2)
    assert causes.of(alert(id="a", sequence=2)) is None
    causes.delivered(fired)
    assert causes.of(fired) is None
    for number in range(MOST_CAUSES + 5):
        judged.transitions = [Transition(alert(id="a", sequence=number, at=fired.at), events)]
        causes.note(judged)
    assert causes.of(alert(id="a", sequence=4)) is None
    assert causes.of(alert(id="a", sequence=5)) == parent(2)


def test_traces_are_off_unless_somebody_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)
    assert tracing_of(load()) is NO_TRACING
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    assert isinstance(tracing_of(load()), OpenTelemetry)


def test_off_nothing_that_traces_is_imported() -> None:
    # redis-py imports OpenTelemetry's metrics by itself where they are installed.
    code = (
        "import sys, stream.worker, stream.client; from stream.tracing import tracing_of;"
        " from stream.settings import load; tracing_of(load());"
        " print({'opentelemetry.sdk.trace', 'opentelemetry.exporter'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"


def test_a_missing_extra_and_a_wrong_address_are_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="is no address: write http://collector:4318"):
        tracing_of(load(traces="collector:4318"))
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(
        UsageError, match=r"REVIEWPULSE_TRACES is set and .* pip install 'reviewpulse\[otel\]'"
    ):
        tracing_of(load(traces="http://127.0.0.1:1"))


async def test_a_collector_that_is_away_keeps_no_worker_from_its_end() -> None:
    tracing = tracing_of(load(traces="http://127.0.0.1:9"))
    tracing.begin([run(0, record(0, b"{}"), tp=REVIEWS)]).end([])
    await tracing.close()
