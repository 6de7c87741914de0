"""The ``reviewpulse`` command: one table of subcommands, one place where errors become exit codes.

Exit codes: 0 well; 1 the command did its work and found something wrong; 2 wrong usage; 3 a server or
device failed; 4 a worker was stuck and ended itself, to be started again; 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points
from typing import Any

import typer
from rich.console import Console

from stream import __version__
from stream.cli.alerts import alerts
from stream.cli.bench import bench
from stream.cli.counters import counters, top
from stream.cli.demo import demo
from stream.cli.dlq import dlq
from stream.cli.doctor import doctor
from stream.cli.ingest import ingest
from stream.cli.local import local
from stream.cli.rebuild import rebuild
from stream.cli.replay import replay
from stream.cli.reshard import reshard
from stream.cli.score import score
from stream.cli.topics import topics
from stream.cli.worker import worker
from stream.errors import ReviewpulseError

# Newer Typers carry their own copy of click, older ones use click itself; neither exports this class.
CommandLineError: type[Any] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)


def _show_version(value: bool) -> None:
    if value:
        print(f"reviewpulse {__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def command_line() -> typer.Typer:
    """All commands: ours first, then those of the rooms that serving does not import."""
    app = typer.Typer(
        name="reviewpulse",
        help="Real-time sentiment for e-commerce: reviews and chats in, live counters and alerts out.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="markdown",
    )
    app.callback()(_root)
    app.command("doctor")(doctor)
    app.command("demo")(demo)
    app.command("local")(local)
    app.command("topics")(topics)
    app.command("score")(score)
    app.command("worker")(worker)
    app.add_typer(bench, name="bench")
    app.command("ingest")(ingest)
    app.command("replay")(replay)
    app.command("rebuild")(rebuild)
    app.command("reshard")(reshard)
    app.command("counters")(counters)
    app.command("top")(top)
    app.command("alerts")(alerts)
    app.add_typer(dlq, name="dlq")
    for entry_point in entry_points(group="reviewpulse.commands"):
        entry_point.load()(app)
    return app


def main() -> None:
    """Runs the command line and exits with a meaningful code."""
    app = command_line()
    errors = Console(stderr=True, highlight=False)
    try:
        code = app(standalone_mode=False)
    except ReviewpulseError as error:
        errors.print(f"reviewpulse: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except CommandLineError as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): silence the interpreter's flush at exit, too.
        sys.stderr.close()
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
