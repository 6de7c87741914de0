"""What commands print: text that cannot harm a terminal, JSON lines, a progress bar.

Rules:
- Results go to standard output, progress and complaints to standard error.
- Review text is hostile: control characters, escape sequences and direction overrides are shown, never sent.
- JSON is ASCII, so it carries such text unharmed, and one object stands on one line.
- A table is fitted to a terminal. A file or a pipe has no edge to be cut at.
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.reading import Flaws

WIDE = 320


def printable(text: str) -> str:
    r"""``text`` on one line, with what a terminal might obey written out.

    >>> printable("good\n\x1b[31m buy \u202etxt")
    'good \\x1b[31m buy \\u202etxt'
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode()
        for char in " ".join(text.split())
    )


def shortened(text: str, width: int) -> str:
    """``text`` as ``printable`` makes it, cut to ``width`` characters.

    >>> shortened("It does not charge.", 10)
    'It does n…'
    """
    shown = printable(text)
    return shown if len(shown) <= width else shown[: width - 1] + "…"


def output() -> Console:
    """Standard output for tables and sentences."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDE
    return console


def print_json(value: Any) -> None:
    """Prints a value (types of ``msgspec`` included) as one line of JSON."""
    print(json.dumps(msgspec.to_builtins(value)), flush=True)


def print_flaws(flaws: Flaws, what: str) -> None:
    """Names bad lines or rows on standard error, the first few of them."""
    errors = Console(stderr=True, highlight=False)
    for flaw in flaws.named:
        errors.print(Text(f"{what} {flaw.number}: {printable(flaw.reason)}", "yellow"), soft_wrap=True)
    if flaws.count > len(flaws.named):
        errors.print(Text(f"... and {flaws.count - len(flaws.named):,} more", "yellow"))


@contextmanager
def event_progress(description: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar with the number of events and their rate, where standard error is a terminal.

    Args:
        description: stands before the bar.
        total: what the first argument of the yielded function counts up to; None when it is not known.

    Yields:
        Call it with how far it is and how many events that is.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        *([TaskProgressColumn()] if total else []),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s"),
        TimeElapsedColumn(),
    )
    started_s = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(printable(description), total=total, events=0, rate=0.0)

        def advance(done: int, events: int) -> None:
            elapsed_s = time.monotonic() - started_s
            progress.update(
                task, completed=done, events=events, rate=events / elapsed_s if elapsed_s else 0.0
            )

        yield advance


@contextmanager
def status_line() -> Iterator[Callable[[str], None]]:
    """One line that says what is being done, on standard error where that is a terminal."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield lambda _: None
        return
    with console.status("") as status:
        yield lambda text: status.update(Text(printable(text)))
