"""``reviewpulse replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stream.core.events import Channel  # noqa: TC001 (typer reads the annotation when it runs)
from stream.replay import Format  # noqa: TC001

if TYPE_CHECKING:
    from typing import Any

    from stream.replay import History


def replay(
    file: str = typer.Argument(help="The history, gzip or plain; `-` is standard input."),
    format_: Format = typer.Option(
        ...,
        "--format",
        help="`amazon`: Amazon review data (asin, overall, unixReviewTime, reviewerID, reviewText, summary)"
        " as JSON lines, or as CSV where the name has `.csv`. `csv`: a header and rows. `jsonl`: JSON lines.",
    ),
    column: list[str] = typer.Option(
        [],
        metavar="FIELD=COLUMN",
        help="Which column an event's field is in, e.g. `product_id=sku`; as often as needed. Fields that are"
        " not given are looked for under their own names.",
    ),
    speed: str = typer.Option(
        "max", help="Seconds of history a second, e.g. `3600`; `max` sends as fast as Kafka takes."
    ),
    now: bool = typer.Option(False, "--now", help="Shifts all event times so that the last is now."),
    topic: Channel = typer.Option("reviews", help="Where the events go."),
    strict: bool = typer.Option(False, "--strict", help="Sends nothing when a row cannot be sent."),
    as_json: bool = typer.Option(False, "--json", help="The summary as one line of JSON."),
) -> None:
    """Replays real history in event-time order. The file is read into memory and sorted first.

    Times may be numbers, RFC 3339 or dates in words (`Reviewed in the United States on January 17, 2024`).
    Without an `event_id` column, ids are a hash of product, author, time, title and text: replaying twice
    makes the same ids.

    A row without product or without a time that can be read is named (the first 20 of them) and not sent;
    then the exit code is 1. All others are sent as they are: the worker says of a row with no text why it
    is a dead letter. Optional values that an event may not carry are left out and counted.

    With `--json`: `{"file", "topic", "rows", "sent", "skipped", "skipped_rows": [{"number", "reason"}],
    "left_out": {field: count}, "products", "repeated_event_ids", "first_event_time", "last_event_time",
    "shifted_s", "seconds", "events_per_s"}`. Times are those sent.
    """
    import time

    from stream.cli.terminal import event_progress, print_flaws, print_json
    from stream.client import EventProducer
    from stream.reading import open_file
    from stream.replay import column_map, read_history, send_history
    from stream.settings import load

    settings = load()
    seconds_a_second = _speed(speed)
    columns = column_map(format_, topic, column)
    with open_file(file) as opened:
        history = read_history(opened.lines, format_, columns, topic, name=file)
    shift_ms = time.time_ns() // 1_000_000 - history.rows[-1].event_ms if now and history.rows else 0
    print_flaws(history.skipped, "row")
    sent = 0
    started_s = time.monotonic()
    if history.rows and not (strict and history.skipped.count):
        with EventProducer(settings) as producer, event_progress(file, len(history.rows)) as advance:
            sent = send_history(
                history,
                topic,
                producer,
                shift_ms=shift_ms,
                speed=seconds_a_second,
                on_sent=lambda done: advance(done, done),
            )
    seconds = time.monotonic() - started_s
    summary = _summary(history, shift_ms) | {
        "file": file,
        "topic": settings.topics[topic],
        "sent": sent,
        "seconds": round(seconds, 3),
        "events_per_s": round(sent / seconds, 1) if sent else 0.0,
    }
    if as_json:
        print_json(summary)
    else:
        _print_summary(summary)
    if history.skipped.count:
        raise typer.Exit(1)


def _speed(given: str) -> float | None:
    from stream.errors import UsageError

    if given == "max":
        return None
    try:
        speed = float(given)
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise UsageError(f"--speed {given}: write a number above 0, or max.")
    return speed


def _summary(history: History, shift_ms: int) -> dict[str, Any]:
    from stream.core.events import rfc3339

    rows = history.rows
    return {
        "rows": history.read,
        "skipped": history.skipped.count,
        "skipped_rows": [flaw._asdict() for flaw in history.skipped.named],
        "left_out": dict(history.left_out),
        "products": history.products,
        "repeated_event_ids": history.repeats,
        "first_event_time": rfc3339(rows[0].event_ms + shift_ms) if rows else None,
        "last_event_time": rfc3339(rows[-1].event_ms + shift_ms) if rows else None,
        "shifted_s": shift_ms / 1000,
    }


def _print_summary(summary: dict[str, Any]) -> None:
    from stream.cli.terminal import printable

    print(
        f"{printable(summary['file'])}: {summary['rows']:,} rows, {summary['sent']:,} sent to"
        f" {summary['topic']}, {summary['skipped']:,} cannot be sent"
    )
    print(
        f"  {summary['products']:,} products, {summary['first_event_time']} to {summary['last_event_time']},"
        f" {summary['repeated_event_ids']:,} repeated event ids"
    )
    if summary["left_out"]:
        fields = ", ".join(f"{name} {count:,} times" for name, count in summary["left_out"].items())
        print(f"  left out for not fitting an event: {fields}")
    print(f"  {summary['seconds']:.1f} s, {summary['events_per_s']:,.0f} events/s")
