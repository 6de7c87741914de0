"""Traces of windows, where somebody asks for them: OpenTelemetry, off by default.

Rules:
- Off unless ``REVIEWPULSE_TRACES`` names a collector, or OpenTelemetry's own variables do. Off, nothing of
  it is imported, and a window costs a call that does nothing.
- A window is one span, its stages are spans within it. It belongs to many traces at once, so it is linked to
  those of its records (``traceparent``), ``MOST_LINKS`` of them at most.
- An alert and a dead letter carry the ``traceparent`` of the record that caused it, traces or none: whoever
  reads them can go on from there. Of an alert that is known while its worker lives (``Causes``); one that
  another worker delivers has none.
- Spans hold numbers and partitions: no product, no text.
- A collector that is away costs its spans, nothing else: they wait in a bounded queue and are dropped.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from stream import __version__
from stream.core.traceparent import of_record, parsed
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.events import Alert
    from stream.record import Judged
    from stream.runs import Run
    from stream.settings import Settings

MOST_LINKS = 32
"""OpenTelemetry's own limit is 128; these name a window's traces well enough."""
MOST_CAUSES = 1_000
"""Transitions that wait for Kafka: far more than ever do."""
FLUSH_S = 2.0
"""Longest a stop waits for the last spans."""
ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
PATH = "/v1/traces"


class Causes:
    """Which trace each waiting alert transition was caused by."""

    def __init__(self) -> None:
        self._of: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def note(self, judged: Judged) -> None:
        """A part is about to be recorded."""
        if not judged.transitions or not any(record.headers for record in judged.part.records):
            return
        for each in judged.transitions:
            offset = each.cause.offset
            record = next(record for record in judged.part.records if record.offset == offset)
            header = of_record(record.headers)
            if header is not None:
                self._of[each.alert.id, each.alert.sequence] = header
        while len(self._of) > MOST_CAUSES:
            self._of.popitem(last=False)

    def of(self, alert: Alert) -> bytes | None:
        """The ``traceparent`` of the record that caused a transition."""
        return self._of.get((alert.id, alert.sequence))

    def delivered(self, alert: Alert) -> None:
        """Kafka has it."""
        self._of.pop((alert.id, alert.sequence), None)


class Trace:
    """A window's span. This one is none."""

    def stage(self, stage: str, seconds: float) -> None:
        """A stage took so long, until now."""

    def end(self, judged: Sequence[Judged]) -> None:
        """The window is recorded."""


class Tracing:
    """Makes traces. This one makes none."""

    def begin(self, runs: Sequence[Run]) -> Trace:
        """A window begins with these runs."""
        del runs
        return NO_TRACE

    async def close(self) -> None:
        """Sends what waits."""


NO_TRACE = Trace()
NO_TRACING = Tracing()


class _Span(Trace):
    def __init__(self, tracer: Any, span: Any, context: Any) -> None:
        self._tracer, self._span, self._context = tracer, span, context

    def stage(self, stage: str, seconds: float) -> None:
        ended_ns = time.time_ns()
        started_ns = ended_ns - round(seconds * 1e9)
        span = self._tracer.start_span(f"window {stage}", context=self._context, start_time=started_ns)
        span.end(ended_ns)

    def end(self, judged: Sequence[Judged]) -> None:
        self._span.set_attribute("reviewpulse.counted", sum(len(each.events) for each in judged))
        self._span.set_attribute("reviewpulse.dead", sum(len(each.dead) for each in judged))
        self._span.set_attribute(
            "reviewpulse.alert_transitions", sum(len(each.transitions) for each in judged)
        )
        self._span.end()


class OpenTelemetry(Tracing):
    """Sends windows to a collector.

    Args:
        provider: OpenTelemetry's ``TracerProvider``, with a processor that sends.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace  # noqa: PLC0415  # only where it is asked for

        self._api = trace
        self._provider = provider
        self._tracer = provider.get_tracer("reviewpulse", __version__)

    def begin(self, runs: Sequence[Run]) -> Trace:
        """A window's span, linked to its records' traces."""
        attributes = {
            "messaging.system": "kafka",
            "messaging.batch.message_count": sum(len(run.records) for run in runs),
            "reviewpulse.partitions": sorted({f"{run.tp.topic}:{run.tp.partition}" for run in runs}),
        }
        span = self._tracer.start_span(
            "window", kind=self._api.SpanKind.CONSUMER, links=self._links(runs), attributes=attributes
        )
        return _Span(self._tracer, span, self._api.set_span_in_context(span))

    def _links(self, runs: Sequence[Run]) -> list[Any]:
        headers: dict[bytes, None] = {}
        for run in runs:
            for record in run.records:
                if record.headers and (header := of_record(record.headers)) is not None:
                    headers[header] = None
                    if len(headers) == MOST_LINKS:
                        return self._linked(headers)
        return self._linked(headers)

    def _linked(self, headers: dict[bytes, None]) -> list[Any]:
        api, links = self._api, []
        for header in headers:
            parent = parsed(header)
            assert parent is not None
            flags = api.TraceFlags(parent.flags)
            context = api.SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            links.append(api.Link(context))
        return links

    async def close(self) -> None:
        """Sends what waits, for ``FLUSH_S`` at most."""
        # A thread that nobody waits for: a collector that hangs must not keep the process.
        flushing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        flushing.start()
        await asyncio.to_thread(flushing.join, FLUSH_S)


def tracing_of(settings: Settings) -> Tracing:
    """What the settings, or OpenTelemetry's own variables, ask for.

    Raises:
        UsageError: the address is none, or the extra ``otel`` is not installed.
    """
    asked = (
        ["REVIEWPULSE_TRACES"] if settings.traces else [name for name in ENDPOINTS if os.environ.get(name)]
    )
    if not asked:
        return NO_TRACING
    if settings.traces and not settings.traces.startswith(("http://", "https://")):
        raise UsageError("REVIEWPULSE_TRACES is no address: write http://collector:4318, for example.")
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415
            OTLPSpanExporter,
        )
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            f"{asked[0]} is set and OpenTelemetry is not installed: pip install 'reviewpulse[otel]', or"
            " unset it."
        ) from None
    about = {"service.version": __version__}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        about["service.name"] = "reviewpulse-worker"
    provider = TracerProvider(resource=Resource.create(about))
    exporter = OTLPSpanExporter(endpoint=traces_url(settings.traces) if settings.traces else None)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return OpenTelemetry(provider)


def traces_url(endpoint: str) -> str:
    """Where traces go, of a collector's address.

    >>> traces_url("http://c:4318"), traces_url("http://c:4318/v1/traces")
    ('http://c:4318/v1/traces', 'http://c:4318/v1/traces')
    """
    return endpoint if endpoint.endswith(PATH) else endpoint.rstrip("/") + PATH
