"""Every metric, once: name, kind, help, labels, buckets. ``python -m stream.metrics`` prints docs/metrics.md.

Rules:
- Names follow Prometheus' conventions: ``reviewpulse_``, a base unit (seconds, bytes), counters end in
  ``_total``.
- A name, once released, keeps its meaning.
- Each label has a row in ``LABELS``: its values, or what bounds them.
- Counters are of one process and begin at 0 with it. The ledger in Redis is the fleet's truth; the two differ
  by what a process counted and did not live to be asked for, and by what it could not know: a step whose
  answer got lost is in the ledger and not in these counters.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["counter", "gauge", "histogram"]
Process = Literal["worker", "web", "notify"]
ALL: tuple[Process, ...] = ("worker", "web", "notify")


class Metric(NamedTuple):
    """One metric."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()
    """Upper bounds, rising, without infinity; of histograms."""
    processes: tuple[Process, ...] = ("worker",)
    """Which have it."""


class Label(NamedTuple):
    """What may stand in a label."""

    values: tuple[str, ...] = ()
    """All there are; empty: they are bounded by something else."""
    bounded_by: str = ""


SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""From a round trip on one machine to a server that is away for a while."""
LATENCY_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""From an idle pipeline's to a backlog of an hour."""
DELAY_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 14_400.0)
TEXTS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
TOKENS = (8.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0)
PROBABILITY = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

LABELS: dict[str, dict[str, Label]] = {
    "": {
        "channel": Label(("reviews", "chats")),
        "label": Label(("negative", "neutral", "positive")),
        "topic": Label(bounded_by="the topics of `REVIEWPULSE_TOPIC_*`"),
        "partition": Label(bounded_by="the partitions that the worker has"),
        "version": Label(bounded_by="one at a time"),
        "python": Label(bounded_by="one"),
        "provider": Label(bounded_by="one at a time"),
        "bundle": Label(bounded_by="one at a time: the first 12 digits of its manifest's SHA-256, or `none`"),
        "operation": Label(
            (
                "open",
                "applied",
                "apply",
                "states",
                "seen",
                "notes",
                "leave_notes",
                "logs",
                "swap_log",
                "move",
                "forget",
                "outbox",
                "delivered",
            )
        ),
        "severity": Label(("warning", "critical")),
        "language": Label(("en", "zh", "other")),
        "feature": Label(("length", "unknown", "language", "score")),
        "check": Label(bounded_by="the checks of `/livez` and `/readyz`"),
        "method": Label(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")),
        "route": Label(bounded_by="the routes there are, as templates; `none` where none matched"),
        "status": Label(bounded_by="HTTP's status codes"),
        "target": Label(bounded_by="the targets of the notify file"),
    },
    "reviewpulse_events_dead_total": {"stage": Label(("decode", "score", "condemned"))},
    "reviewpulse_stage_seconds": {
        "stage": Label(("queue", "decode", "tokenise", "score", "judge", "apply", "publish"))
    },
    "reviewpulse_stage_cpu_seconds_total": {"stage": Label(("decode", "score", "judge", "loop"))},
    "reviewpulse_batch_tokens_total": {"kind": Label(("useful", "padded"))},
    "reviewpulse_redis_errors_total": {"kind": Label(("away", "full", "refused", "other"))},
    "reviewpulse_model_swaps_total": {"result": Label(("switched", "refused", "rolled_back"))},
    "reviewpulse_ingest_events_total": {"result": Label(("accepted", "refused", "busy"))},
    "reviewpulse_notify_deliveries_total": {"result": Label(("delivered", "retried", "dead"))},
    "reviewpulse_alert_transitions_total": {"state": Label(("firing", "resolved"))},
    "reviewpulse_alerts_open": {"state": Label(("firing",))},
}
"""By metric, and under ``""`` those that mean the same everywhere."""


def label(metric: str, name: str) -> Label:
    """What may stand in a metric's label.

    >>> label("reviewpulse_batch_tokens_total", "kind").values
    ('useful', 'padded')
    """
    return LABELS.get(metric, {}).get(name) or LABELS[""][name]


CATALOGUE: tuple[Metric, ...] = (
    # What becomes of records.
    Metric(
        "reviewpulse_records_consumed_total",
        "counter",
        "Records taken into the pipeline; after a rewind some are taken again.",
        ("channel",),
    ),
    Metric(
        "reviewpulse_events_counted_total",
        "counter",
        "Events counted, by what the model says of them.",
        ("channel", "label"),
    ),
    Metric(
        "reviewpulse_events_dead_total",
        "counter",
        "Records that became dead letters, by where they failed. condemned: workers died of it.",
        ("channel", "stage"),
    ),
    Metric(
        "reviewpulse_events_skipped_total",
        "counter",
        "Records skipped by rule: what a shop's own agents say in chats.",
        ("channel",),
    ),
    Metric(
        "reviewpulse_events_duplicate_total",
        "counter",
        "Events that had been counted before, and were not counted again.",
        ("channel",),
    ),
    Metric(
        "reviewpulse_events_late_total",
        "counter",
        "Events counted that reached Kafka later after their time than REVIEWPULSE_LATE_AFTER_S.",
        ("channel",),
    ),
    Metric(
        "reviewpulse_events_ahead_total",
        "counter",
        "Dead letters (stage decode) whose time was further ahead of their record's than"
        " REVIEWPULSE_ALLOWED_SKEW_S.",
        ("channel",),
    ),
    # How far it is.
    Metric(
        "reviewpulse_partition_lag_records",
        "gauge",
        "Offsets of an assigned partition beyond the last one counted.",
        ("topic", "partition"),
    ),
    Metric(
        "reviewpulse_partition_lag_seconds",
        "gauge",
        "Age of an assigned partition's oldest record that is not counted yet; 0 when none waits.",
        ("topic", "partition"),
    ),
    Metric("reviewpulse_partitions_assigned", "gauge", "Partitions this worker reads now."),
    Metric(
        "reviewpulse_clock_skew_seconds",
        "gauge",
        "How far Kafka's newest timestamp was ahead of this machine's clock when its record was taken, the"
        " most of the last two minutes; below 0 by the lag otherwise. Absent before the first record.",
    ),
    Metric(
        "reviewpulse_rebalances_total", "counter", "Rebalances of the group that this worker took part in."
    ),
    Metric("reviewpulse_rewinds_total", "counter", "Times a partition was read again from what Redis holds."),
    Metric(
        "reviewpulse_missing_offsets_total",
        "counter",
        "Offsets this worker found deleted by retention before they were counted.",
    ),
    # How long it takes.
    Metric(
        "reviewpulse_stage_seconds",
        "histogram",
        "Time a window of events takes in a stage. queue: its oldest run's wait for the first one. publish:"
        " dead letters, scores and alerts, until Kafka has them.",
        ("stage",),
        SECONDS,
    ),
    Metric(
        "reviewpulse_stage_cpu_seconds_total",
        "counter",
        "CPU time by stage. decode: with tokenising. score: of the model's micro-batches. loop: of the event"
        " loop's thread, which applies and publishes.",
        ("stage",),
    ),
    Metric(
        "reviewpulse_end_to_end_seconds",
        "histogram",
        "From an event's timestamp in Kafka to its being visible in Redis. Of a busy partition 64 events,"
        " evenly spread, stand for all of a window.",
        (),
        LATENCY_SECONDS,
    ),
    Metric("reviewpulse_batch_texts", "histogram", "Texts in a micro-batch.", (), TEXTS),
    Metric(
        "reviewpulse_batch_tokens_total",
        "counter",
        "Tokens scored. padded: all, rows times the longest row; useful: without the padding.",
        ("kind",),
    ),
    Metric(
        "reviewpulse_event_loop_lag_seconds",
        "histogram",
        "How late the event loop wakes up a task that sleeps.",
        (),
        SECONDS,
        ALL,
    ),
    # The model.
    Metric(
        "reviewpulse_model_info",
        "gauge",
        "1, for the model that scores the next window.",
        ("version", "provider", "bundle"),
    ),
    Metric(
        "reviewpulse_model_swaps_total",
        "counter",
        "What became of bundles proposed or promoted while this worker ran.",
        ("result",),
    ),
    # Servers.
    Metric(
        "reviewpulse_redis_trip_seconds",
        "histogram",
        "Time of a call to the store, failed ones too; most are one round trip.",
        ("operation",),
        SECONDS,
    ),
    Metric(
        "reviewpulse_redis_errors_total",
        "counter",
        "Calls to the store that failed. full: of memory or disk; refused: login, permission or certificate.",
        ("kind",),
    ),
    Metric("reviewpulse_redis_up", "gauge", "1 while Redis answers, as the watchdog sees it.", (), (), ALL),
    Metric("reviewpulse_kafka_up", "gauge", "1 while Kafka answers, as the watchdog sees it.", (), (), ALL),
    # Alerts.
    Metric(
        "reviewpulse_alert_transitions_total",
        "counter",
        "Transitions of alerts, as they were recorded.",
        ("state", "severity"),
    ),
    Metric(
        "reviewpulse_outbox_transitions",
        "gauge",
        "Transitions of the whole fleet that waited for Kafka at the last look; the same on every worker.",
    ),
    Metric(
        "reviewpulse_alerts_open",
        "gauge",
        "Alerts that fire now, by what the alerts topic says; historic ones are left out.",
        ("state", "severity"),
        (),
        ("notify",),
    ),
    # Health.
    Metric(
        "reviewpulse_watchdog_ok",
        "gauge",
        "1 while a check of /livez or /readyz is well, else 0.",
        ("check",),
        (),
        ALL,
    ),
    # What comes in.
    Metric(
        "reviewpulse_input_texts_tokens",
        "histogram",
        "Tokens of a text, as far as the model reads it.",
        (),
        TOKENS,
    ),
    Metric(
        "reviewpulse_input_tokens_total", "counter", "Tokens of all texts, as far as the model reads them."
    ),
    Metric(
        "reviewpulse_input_unknown_tokens_total",
        "counter",
        "Those among them that the vocabulary does not have.",
    ),
    Metric(
        "reviewpulse_input_language_total",
        "counter",
        "Texts by language, guessed from their letters: zh has Chinese characters, en Latin letters and"
        " hardly an accented one. Of a large window 256 texts, evenly spread, stand for all.",
        ("language",),
    ),
    Metric(
        "reviewpulse_score_negative_probability",
        "histogram",
        "The model's calibrated probability that a text is negative.",
        (),
        PROBABILITY,
    ),
    Metric(
        "reviewpulse_input_drift",
        "gauge",
        "Population stability index of the latest texts against the bundle's reference: below 0.1 alike,"
        " above 0.25 another population. Absent where the bundle has no reference, or too few texts came.",
        ("feature",),
    ),
    # The web server.
    Metric(
        "reviewpulse_http_requests_total",
        "counter",
        "Requests answered.",
        ("method", "route", "status"),
        (),
        ("web",),
    ),
    Metric(
        "reviewpulse_http_request_seconds",
        "histogram",
        "From a request's head to its answer's: of a live stream, until it begins.",
        ("route",),
        SECONDS,
        ("web",),
    ),
    Metric("reviewpulse_viewers", "gauge", "Live streams that are open.", (), (), ("web",)),
    Metric(
        "reviewpulse_ingest_events_total",
        "counter",
        "Events sent over HTTP. busy: told to come again; a batch whose body was not read counts as one.",
        ("result",),
        (),
        ("web",),
    ),
    Metric(
        "reviewpulse_ingest_waiting_bytes",
        "gauge",
        "What waits for Kafka's acknowledgement, of at most REVIEWPULSE_WEB_INFLIGHT_BYTES.",
        (),
        (),
        ("web",),
    ),
    # Notifications.
    Metric(
        "reviewpulse_notify_deliveries_total",
        "counter",
        "Attempts to deliver, by what came of them. dead: given up.",
        ("target", "result"),
        (),
        ("notify",),
    ),
    Metric(
        "reviewpulse_notify_queue", "gauge", "Messages that wait for a target.", ("target",), (), ("notify",)
    ),
    Metric(
        "reviewpulse_notify_dead_letters",
        "gauge",
        "Messages that a target never took, kept for `reviewpulse notify dead`.",
        ("target",),
        (),
        ("notify",),
    ),
    Metric(
        "reviewpulse_notify_delay_seconds",
        "histogram",
        "From what a message tells of to the receiver's yes.",
        (),
        DELAY_SECONDS,
        ("notify",),
    ),
    # The build.
    Metric(
        "reviewpulse_build_info",
        "gauge",
        "1, for this version of Reviewpulse.",
        ("version", "python"),
        (),
        ALL,
    ),
)

BY_NAME = {each.name: each for each in CATALOGUE}


def markdown() -> str:
    """What docs/metrics.md holds below its introduction."""
    lines: list[str] = []
    for process in ALL:
        lines += [f"## {TITLES[process]}", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
        for metric in CATALOGUE:
            if metric.processes == ("worker",) == (process,) or (
                process in metric.processes and metric.processes != ALL
            ):
                lines.append(_row(metric))
        lines.append("")
    lines += ["## Every process", "", "| metric | kind | labels | meaning |", "|---|---|---|---|"]
    lines += [_row(metric) for metric in CATALOGUE if metric.processes == ALL]
    lines += [
        "| `process_*`, `python_*` | | | prometheus_client's own: memory, CPU time, files, collections |",
        "",
        "## Labels",
        "",
        "| label | of | values |",
        "|---|---|---|",
    ]
    for metric_name, labels in LABELS.items():
        of = f"`{metric_name}`" if metric_name else ""
        for name, each in labels.items():
            values = ", ".join(f"`{value}`" for value in each.values) or each.bounded_by
            lines.append(f"| `{name}` | {of} | {values} |")
    lines += ["", "## Buckets", "", "| histogram | upper bounds |", "|---|---|"]
    for metric in CATALOGUE:
        if metric.buckets:
            lines.append(f"| `{metric.name}` | {', '.join(f'{bound:g}' for bound in metric.buckets)} |")
    return "\n".join(lines) + "\n"


TITLES: dict[Process, str] = {
    "worker": "`reviewpulse worker`",
    "web": "`reviewpulse web`",
    "notify": "`reviewpulse notify`",
}


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{name}`" for name in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"
