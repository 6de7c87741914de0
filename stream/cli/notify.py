"""``reviewpulse notify``: delivers alerts and notifications to webhooks, chats, mail and Alertmanager."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from stream.core.delivery import Outcome
    from stream.core.notify_file import AnyTarget, Notify
    from stream.deliver.config import Ready
    from stream.deliver.queue import DeadLetter, Queues
    from stream.redis_config import Client
    from stream.settings import Settings

CONFIG = typer.Option(
    None, "--config", help="The notify file; the one that REVIEWPULSE_NOTIFY names if not given."
)
GROUP = typer.Option(
    "default", "--group", metavar="NAME", help="Queues and position are kept under this name."
)

notify = typer.Typer(
    help="Delivers alerts and notifications to webhooks, chats, mail and Alertmanager until Ctrl-C.",
    invoke_without_command=True,
)
dead = typer.Typer(help="Dead letters: what could not be delivered, and why.", no_args_is_help=True)
notify.add_typer(dead, name="dead")


@notify.callback()
def run(
    context: typer.Context,
    config: Path | None = CONFIG,
    group: str = GROUP,
    from_beginning: bool = typer.Option(
        False, "--from-beginning", help="At the first start of a group: begins with the oldest alert kept."
    ),
) -> None:
    """Delivers alerts and notifications to webhooks, chats, mail and Alertmanager until Ctrl-C.

    Who is told of what stands in a TOML file (docs/notify.md). Each target has a queue of its own in Redis:
    what it does not take is tried again, with growing waits, in order; what is hopeless becomes a dead
    letter. After a restart it goes on where it was. Of several processes with one `--group` one delivers, the
    others stand by.

    Exit codes: 0 stopped, 2 the file or a setting is wrong, 3 Kafka or Redis failed, or another took over.
    """
    if context.invoked_subcommand is not None:
        return
    import asyncio

    from stream import logs
    from stream.deliver.service import serve
    from stream.settings import load

    settings = load()
    _check_group(group)
    ready = _read(settings, config)
    logs.configure(settings)
    asyncio.run(serve(settings, ready, group, from_beginning=from_beginning))


@notify.command("check")
def check(
    file: Path | None = typer.Argument(
        None, help="The notify file; the one that REVIEWPULSE_NOTIFY names if not given."
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of tables."),
) -> None:
    """Reads the notify file out, with all that it names: secrets, certificates, templates.

    Secrets are looked for, never shown. Exit code 2 when something is wrong: every mistake is named with its
    line.

    With `--json`: `{"file", "errors": [{"where", "line", "key", "wrong", "remedy"}], "targets": [{"name",
    "type", "hears", "to"}], "routes": [...], "default": [...]}`; targets and routes are null where there are
    errors.
    """
    from stream.cli.terminal import print_json
    from stream.core.notify_file import NotifyFileError
    from stream.settings import load

    settings = load()
    path = _path(settings, file)
    try:
        ready = _read(settings, file)
    except NotifyFileError as error:
        if not as_json:
            raise
        print_json(
            {"file": str(path), "errors": error.problems, "targets": None, "routes": None, "default": None}
        )
        raise typer.Exit(error.exit_code) from None
    if as_json:
        targets = [
            {"name": each.name, "type": each.kind, "hears": each.heard, "to": _shown_address(each)}
            for each in ready.notify.targets
        ]
        routes = [{key: value for key, value in _said(each).items() if value} for each in ready.notify.routes]
        default = list(ready.notify.default)
        print_json(
            {"file": str(path), "errors": [], "targets": targets, "routes": routes, "default": default}
        )
        return
    _print(ready)


@notify.command("test")
def send_test(
    target: str = typer.Argument(help="The target's name."),
    config: Path | None = CONFIG,
    example: str = typer.Option("firing", help="What to send; a wrong one lists them all."),
) -> None:
    """Sends one made-up message to a target now, and says what came of it.

    It goes past queue and routes, and is not repeated. Exit code 3 when the target does not take it.
    """
    import asyncio

    from msgspec.structs import replace

    from stream.core.events import rfc3339
    from stream.deliver.examples import EXAMPLES
    from stream.deliver.service import sender_of
    from stream.errors import DependencyError, UsageError
    from stream.settings import load

    settings = load()
    ready = _read(settings, config)
    if example not in EXAMPLES:
        raise UsageError(f"There is no example {example!r}: write one of {', '.join(EXAMPLES)}.")
    address = ready.addresses.get(_known(ready.notify, target))
    assert address is not None
    at = rfc3339(_now_ms())
    message = replace(EXAMPLES[example], at=at, id=f"test-{_now_ms()}")

    async def send() -> Outcome:
        sender = sender_of(address, settings)
        try:
            await sender.start({})
            return (await sender.send(message)).outcome
        finally:
            await sender.close()

    outcome = asyncio.run(send())
    if outcome.kind != "delivered":
        again = "; it would be tried again" if outcome.kind == "failed" else "; it would become a dead letter"
        raise DependencyError(f"{target} did not take it: {outcome.reason}{again}.")
    print(f"{target} took it.")


@notify.command("queue")
def queue(
    config: Path | None = CONFIG,
    group: str = GROUP,
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a target."),
) -> None:
    """How many messages wait for each target, since when, and what failed last.

    With `--json`, a line a target: `{"target", "waiting", "oldest_at", "dead", "failed_at", "reason"}`; times
    are ms since the epoch, or null.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import output, print_json, printable
    from stream.core.events import rfc3339
    from stream.settings import load

    settings = load()
    _check_group(group)
    found = _parsed(settings, config)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("target", "waiting", "since", "dead letters", "failed last"):
        table.add_column(column)
    with _connected(settings) as client:
        queues = _queues(settings, client, group)
        for each in found.targets:
            waiting, oldest_ms, failure = queues.waiting(each.name)
            letters = queues.number_dead(each.name)
            if as_json:
                print_json(
                    {
                        "target": each.name,
                        "waiting": waiting,
                        "oldest_at": oldest_ms,
                        "dead": letters,
                        "failed_at": failure.at_ms if failure else None,
                        "reason": failure.reason if failure else None,
                    }
                )
                continue
            failed = f"{rfc3339(failure.at_ms)}: {failure.reason}" if failure else ""
            since = rfc3339(oldest_ms) if oldest_ms is not None else ""
            cells = (each.name, f"{waiting:,}", since, f"{letters:,}", failed)
            table.add_row(*(Text(printable(cell)) for cell in cells))
    if not as_json:
        out = output()
        out.print(table)


@dead.command("list")
def list_dead(
    config: Path | None = CONFIG,
    group: str = GROUP,
    target: str | None = typer.Option(None, help="Only this target's."),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a letter."),
) -> None:
    """Lists what could not be delivered, oldest first by target.

    With `--json`, a line a letter: `{"target", "place", "queued_at", "failed_at", "reason", "message"}`,
    times in ms since the epoch, the message as webhooks get it.
    """
    from stream.cli.terminal import print_json
    from stream.settings import load

    settings = load()
    _check_group(group)
    with _connected(settings) as client:
        letters = _letters(_queues(settings, client, group), _parsed(settings, config), target)
    for each in letters:
        if as_json:
            print_json(each)
        else:
            _print_letter(each)
    if not letters and not as_json:
        print("There are no dead letters.")


@dead.command("redrive")
def redrive(
    config: Path | None = CONFIG,
    group: str = GROUP,
    target: str | None = typer.Option(None, help="Only this target's."),
    yes: bool = typer.Option(False, "--yes", help="Does not ask first."),
    as_json: bool = typer.Option(False, "--json", help='`{"redriven": N}` instead of a sentence.'),
) -> None:
    """Sends dead letters again, with the ids they had, behind what waits now.

    So a letter may come after what happened later: receivers keep the highest number of an alert. What has
    been overtaken by events is better dropped (`notify dead drop`).
    """
    _each_letter(config, group, target, "again", yes=yes, as_json=as_json)


@dead.command("drop")
def drop(
    config: Path | None = CONFIG,
    group: str = GROUP,
    target: str | None = typer.Option(None, help="Only this target's."),
    yes: bool = typer.Option(False, "--yes", help="Does not ask first."),
    as_json: bool = typer.Option(False, "--json", help='`{"dropped": N}` instead of a sentence.'),
) -> None:
    """Removes dead letters for good."""
    _each_letter(config, group, target, "drop", yes=yes, as_json=as_json)


def _each_letter(
    config: Path | None, group: str, target: str | None, what: str, *, yes: bool, as_json: bool
) -> None:
    from stream.cli.terminal import print_json
    from stream.settings import load

    settings = load()
    _check_group(group)
    done = 0
    with _connected(settings) as client:
        queues = _queues(settings, client, group)
        letters = _letters(queues, _parsed(settings, config), target)
        question = f"Send {len(letters):,} dead letters again?" if what == "again" else None
        question = question or f"Remove {len(letters):,} dead letters for good?"
        if letters and (yes or typer.confirm(question, err=True)):
            for each in letters:
                done += queues.redrive(each, _now_ms()) if what == "again" else queues.drop(each)
    word = "redriven" if what == "again" else "dropped"
    if as_json:
        print_json({word: done})
    else:
        print(f"{done:,} dead letters {word}." if letters else "There are no dead letters.")


def _check_group(group: str) -> None:
    import re

    from stream.errors import UsageError

    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", group):
        raise UsageError(f"--group {group!r} is no name: write 1 to 64 of letters, digits, _, . and -.")


def _path(settings: Settings, config: Path | None) -> Path:
    from stream.errors import UsageError

    path = config or settings.notify
    if path is None:
        raise UsageError("Name a notify file with --config, or set REVIEWPULSE_NOTIFY (docs/notify.md).")
    return path


def _read(settings: Settings, config: Path | None) -> Ready:
    from stream.deliver.config import read_notify

    return read_notify(_path(settings, config))


def _parsed(settings: Settings, config: Path | None) -> Notify:
    """The file alone: whoever looks at queues need not have the secrets."""
    from stream.deliver.config import parse_file

    return parse_file(_path(settings, config))


def _known(found: Notify, target: str) -> str:
    from stream.errors import UsageError

    names = [each.name for each in found.targets]
    if target not in names:
        raise UsageError(f"{found.where} has no target {target!r}: there are {', '.join(names) or 'none'}.")
    return target


def _letters(queues: Queues, found: Notify, target: str | None) -> list[DeadLetter]:
    names = [each.name for each in found.targets] if target is None else [target]
    return [letter for name in names for letter in queues.dead(name)]


def _queues(settings: Settings, client: Client, group: str) -> Queues:
    from stream.deliver.queue import Keys, Queues

    return Queues(client, Keys(settings.namespace, group), settings.redis)


def _connected(settings: Settings) -> Client:
    from stream.redis_config import connect

    return connect(settings)


def _now_ms() -> int:
    import time

    return time.time_ns() // 1_000_000


def _shown_address(target: AnyTarget) -> str:
    """Where a target is, without what may be secret: of an address that stands in the file the host."""
    from urllib.parse import urlsplit

    from stream.core.notify_file import Email, Secret

    if isinstance(target, Email):
        return ", ".join(target.recipients)
    if isinstance(target.url, Secret):
        return f"${target.url.env}" if target.url.env else f"file {target.url.file}"
    parts = urlsplit(target.url)
    return f"{parts.scheme}://{parts.netloc}"


def _said(route: object) -> dict[str, Any]:
    from msgspec import to_builtins

    said: dict[str, Any] = to_builtins(route)
    return said


def _print(ready: Ready) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import output, printable
    from stream.core.notify_file import listed

    out = output()
    targets = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("target", "type", "hears", "to"):
        targets.add_column(column)
    for each in ready.notify.targets:
        cells = (each.name, each.kind, each.heard, _shown_address(each))
        targets.add_row(*(Text(printable(cell)) for cell in cells))
    out.print(targets)
    routes = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("what fits", "goes to", "then"):
        routes.add_column(column)
    for route in ready.notify.routes:
        narrowed = [
            f"{key} {' or '.join(listed(value))}"
            for key, value in _said(route).items()
            if key not in ("to", "continue") and value is not None
        ]
        goes_on = "the next ones, too" if route.continue_ else ""
        row = (", ".join(narrowed) or "everything", ", ".join(listed(route.to)), goes_on)
        routes.add_row(*(Text(printable(cell)) for cell in row))
    routes.add_row("the rest", Text(", ".join(ready.notify.default) or "nobody"), "")
    out.print(routes)
    used = {name for route in ready.notify.routes for name in listed(route.to)} | {*ready.notify.default}
    for each in ready.notify.targets:
        if each.name not in used:
            out.print(Text(f"warning: no route leads to {each.name}.", "yellow"))


def _print_letter(letter: DeadLetter) -> None:
    from rich.text import Text

    from stream.cli.terminal import output, printable
    from stream.core.events import rfc3339

    message = letter.message
    about = message.alert.product_id if message.alert else "incident"
    text = Text(f"{letter.target} {letter.place}", "bold")
    text.append(f"  {message.state} {printable(about)}, id {printable(message.id)}", "default")
    text.append(f"\n  given up {rfc3339(letter.failed_at)}, queued {rfc3339(letter.queued_at)}", "dim")
    text.append(f"\n  {printable(letter.reason)}", "yellow")
    output().print(text, soft_wrap=True)
