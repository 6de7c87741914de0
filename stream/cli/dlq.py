"""``reviewpulse dlq``: dead letters."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from stream.core.events import Channel  # noqa: TC001 (typer reads the annotation when it runs)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from stream.dead_letters import DeadLetter, Redriven
    from stream.settings import Settings

REASON_CHARS = 200
VALUE_CHARS = 120

dlq = typer.Typer(help="Dead letters: events that could not be counted, and why.", no_args_is_help=True)


@dlq.command("list")
def list_letters(
    topic: Channel | None = typer.Option(None, help="Only letters of this topic."),
    stage: str | None = typer.Option(None, help="Only letters that this stage refused, e.g. `decode`."),
    limit: int = typer.Option(50, min=1, help="How many at most, oldest first."),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a letter."),
) -> None:
    """Lists the dead letters that wait, that is, were not redriven.

    With `--json`, a line a letter: `{"topic", "partition", "offset", "stage", "reason", "failed_at", "key",
    "value", "is_cut"}`; key and value are base64 of the bytes as received, or null; is_cut says that the
    record was too large, and only its beginning is kept.
    """
    from itertools import islice

    from stream.cli.terminal import output, print_json
    from stream.dead_letters import Redriven
    from stream.redis_config import connect
    from stream.settings import load

    settings = load()
    out = output()
    shown = 0
    with connect(settings) as client:
        letters = _waiting(settings, Redriven(settings, client), topic, stage)
        for letter in islice(letters, limit):
            shown += 1
            if as_json:
                print_json(letter)
            else:
                _print_letter(out, letter)
        more = next(letters, None) is not None
    if as_json:
        return
    if not shown:
        out.print("No dead letters wait.")
    elif more:
        out.print(f"There are more than these {shown:,}: see --limit.", style="dim")


@dlq.command("redrive")
def redrive_letters(
    topic: Channel | None = typer.Option(None, help="Only letters of this topic."),
    stage: str | None = typer.Option(None, help="Only letters that this stage refused, e.g. `score`."),
    yes: bool = typer.Option(False, "--yes", help="Does not ask first."),
    as_json: bool = typer.Option(False, "--json", help='`{"redriven": N}` instead of a sentence.'),
) -> None:
    """Sends the dead letters that wait to where they came from, bytes and key as they were.

    Do it after a fix: what is still bad becomes a dead letter again. None is redriven twice: which went is
    remembered in Redis. (When a redrive is killed, up to 100 letters may go again at the next.) Records that
    were too large for a whole letter stay.
    """
    from stream.cli.terminal import event_progress, print_json
    from stream.client import EventProducer
    from stream.dead_letters import Redriven, redrive
    from stream.redis_config import connect
    from stream.settings import load

    settings = load()
    with connect(settings) as client:
        redriven = Redriven(settings, client)
        count = sum(1 for _ in _whole(settings, redriven, topic, stage))
        sent = 0
        if count and (yes or typer.confirm(f"Send {count:,} dead letters again?", err=True)):
            with EventProducer(settings) as producer, event_progress("redrive", count) as advance:
                sent = redrive(
                    _whole(settings, redriven, topic, stage),
                    producer,
                    redriven,
                    on_step=lambda done: advance(done, done),
                )
    if as_json:
        print_json({"redriven": sent})
    else:
        print(f"{sent:,} dead letters redriven" if count else "No dead letters wait.")


def _waiting(
    settings: Settings, redriven: Redriven, topic: Channel | None, stage: str | None
) -> Iterator[DeadLetter]:
    from stream.dead_letters import read_letters, waiting

    topics = [settings.topics[topic]] if topic else list(settings.topics.values())
    letters = read_letters(settings, topics)
    return waiting((each for each in letters if stage in (None, each.stage)), redriven)


def _whole(
    settings: Settings, redriven: Redriven, topic: Channel | None, stage: str | None
) -> Iterator[DeadLetter]:
    return (letter for letter in _waiting(settings, redriven, topic, stage) if not letter.is_cut)


def _print_letter(out: Console, letter: DeadLetter) -> None:
    from rich.text import Text

    from stream.cli.terminal import printable, shortened

    text = Text(letter.source, "bold")
    text.append(f"  {printable(letter.failed_at)}  {printable(letter.stage)}: ", "default")
    text.append(shortened(letter.reason, REASON_CHARS), "yellow")
    value = "no value" if letter.value is None else letter.value.decode("utf-8", "backslashreplace")
    text.append(f"\n  {shortened(value, VALUE_CHARS)}", "dim")
    out.print(text, soft_wrap=True)
