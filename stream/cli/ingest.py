"""``reviewpulse ingest``."""

from __future__ import annotations

import typer

from stream.core.events import Channel  # noqa: TC001 (typer reads the annotation when it runs)


def ingest(
    file: str = typer.Argument("-", help="JSON lines, gzip or plain; `-` is standard input."),
    topic: Channel = typer.Option("reviews", help="Where the events go."),
    as_json: bool = typer.Option(False, "--json", help="The summary as one line of JSON."),
) -> None:
    """Sends JSON lines to Kafka: one event a line, as the README's tables of fields say.

    Each line is judged as the worker would judge it. Bad ones are named by number and reason (the first 20
    of them), the good ones still go; then the exit code is 1. Ctrl-C waits for what was sent, says how many
    that were and where to go on, and exits with 130. Running the whole file again does no harm either: the
    workers count an event id once, within REVIEWPULSE_DEDUPE_EVENTS.

    With `--json`: `{"topic", "lines", "sent", "bad", "bad_lines": [{"number", "reason"}], "last_line",
    "seconds", "events_per_s", "interrupted"}`. `lines` leaves out blank ones.
    """
    import time

    from stream import ingest as ingesting
    from stream.cli.terminal import event_progress, print_flaws, print_json, printable
    from stream.client import EventProducer
    from stream.client.validation import limits_of
    from stream.reading import open_file
    from stream.settings import load

    settings = load()
    done = ingesting.Ingested()
    interrupted = False
    started_s = time.monotonic()
    with (
        open_file(file) as opened,
        EventProducer(settings) as producer,
        # The bar is by bytes on disk: how many lines there are is known at the end.
        event_progress(file, opened.size) as advance,
    ):

        def show() -> None:
            advance(opened.raw.tell() if opened.size else 0, done.sent)

        try:
            ingesting.ingest(opened.lines, topic, producer, limits_of(settings), done, on_step=show)
        except KeyboardInterrupt:
            interrupted = True
            producer.flush()
    seconds = time.monotonic() - started_s
    rate = done.sent / seconds if seconds else 0.0
    print_flaws(done.bad, "line")
    if as_json:
        print_json(
            {
                "topic": settings.topics[topic],
                "lines": done.lines,
                "sent": done.sent,
                "bad": done.bad.count,
                "bad_lines": [flaw._asdict() for flaw in done.bad.named],
                "last_line": done.last_line,
                "seconds": round(seconds, 3),
                "events_per_s": round(rate, 1),
                "interrupted": interrupted,
            }
        )
    else:
        print(
            f"{printable(file)}: {done.sent:,} of {done.lines:,} events sent to {settings.topics[topic]},"
            f" {done.bad.count:,} bad, in {seconds:.1f} s ({rate:,.0f}/s)"
        )
        if interrupted:
            print(f"interrupted after line {done.last_line}: `tail -n +{done.last_line + 1}` is the rest")
    if interrupted:
        raise typer.Exit(130)
    if done.bad.count:
        raise typer.Exit(1)
