"""The ``reviewpulse`` command: one table of subcommands, one place where errors become exit codes.

Exit codes: 0 well; 1 the command did its work and found something wrong; 2 wrong usage; 3 a server or
device failed; 4 a worker was stuck and ended itself, to be started again; 130 interrupted.
"""

from __future__ import annotations

import errno
import os
import sys
from importlib.metadata import entry_points
from typing import Any

import typer
from rich.console import Console

from stream import __version__
from stream.cli.alerts import alerts
from stream.cli.backtest import backtest
from stream.cli.bench import bench
from stream.cli.bundle import bundle
from stream.cli.config import config
from stream.cli.counters import counters, top
from stream.cli.demo import demo
from stream.cli.digest import digest
from stream.cli.dlq import dlq
from stream.cli.doctor import doctor
from stream.cli.drill import drill
from stream.cli.dump import dump
from stream.cli.forget import forget
from stream.cli.ingest import ingest
from stream.cli.local import local
from stream.cli.notify import notify
from stream.cli.priors import priors
from stream.cli.rebuild import rebuild
from stream.cli.replay import replay
from stream.cli.reshard import reshard
from stream.cli.rules import rules
from stream.cli.score import score
from stream.cli.silence import ack, silence, silences, unsilence
from stream.cli.topics import topics
from stream.cli.web import web
from stream.cli.worker import worker
from stream.errors import DependencyError, ReviewpulseError, UsageError
from stream.settings_check import PREFIX

# Newer Typers carry their own copy of click, older ones use click itself; neither exports this class.
CommandLineError: type[Any] = next(
    each for each in typer.BadParameter.__mro__ if each.__name__ == "ClickException"
)

REFUSED = {
    errno.ENOENT: "name one that is there, or make its folder first",
    errno.ENOTDIR: "a part of the path is a file; name a path of folders",
    errno.EISDIR: "name a file",
    errno.EEXIST: "name another, or move it away",
    errno.ENOTEMPTY: "name another, or move it away",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.EACCES: "take the rights to it, or name another",
    errno.EPERM: "take the rights to it, or name another",
}
"""What the caller named and the system refused, by the error's number: what to do about it."""

BROKEN = {
    errno.ENOSPC: "make room there, or name another place",
    errno.EDQUOT: "make room there, or name another place",
    errno.EFBIG: "raise the limit of a file's size, or name another place",
    errno.EROFS: "name another place, or mount it for writing",
    errno.EIO: "see that the disk is well and has room, or name another place",
}
"""What a disk did not do, likewise."""


def _show_version(value: bool) -> None:
    if value:
        print(f"reviewpulse {__version__}")
        raise typer.Exit


OF_THEIR_OWN = {"doctor", "config", "worker", "web", None}
"""Commands that say themselves what of the environment is no setting."""


def _root(
    context: typer.Context,
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Print the version."
    ),
) -> None:
    del version
    if context.invoked_subcommand not in OF_THEIR_OWN and any(name.startswith(PREFIX) for name in os.environ):
        from stream.config import unknown

        errors = Console(stderr=True, highlight=False)
        for each in unknown(os.environ):
            errors.print(f"warning: {each}", style="yellow", markup=False, soft_wrap=True)


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
    app.add_typer(config, name="config")
    app.command("demo")(demo)
    app.command("drill")(drill)
    app.command("local")(local)
    app.command("topics")(topics)
    app.command("score")(score)
    app.command("worker")(worker)
    app.command("web")(web)
    app.add_typer(bench, name="bench")
    app.add_typer(bundle, name="bundle")
    app.command("ingest")(ingest)
    app.command("replay")(replay)
    app.command("backtest")(backtest)
    app.command("rebuild")(rebuild)
    app.command("reshard")(reshard)
    app.command("forget")(forget)
    app.command("counters")(counters)
    app.command("top")(top)
    app.command("alerts")(alerts)
    app.command("silence")(silence)
    app.command("silences")(silences)
    app.command("unsilence")(unsilence)
    app.command("ack")(ack)
    app.add_typer(notify, name="notify")
    app.add_typer(priors, name="priors")
    app.add_typer(dlq, name="dlq")
    app.add_typer(dump, name="dump")
    app.command("digest")(digest)
    app.add_typer(rules, name="rules")
    for entry_point in entry_points(group="reviewpulse.commands"):
        entry_point.load()(app)
    return app


def of_file(error: OSError) -> ReviewpulseError | None:
    """What to tell the caller of a file or disk; none where the error is of neither, and so is ours.

    >>> of_file(FileExistsError(errno.EEXIST, "File exists", "out"))
    UsageError('out: File exists; name another, or move it away.')
    """
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in BROKEN:
        return DependencyError(f"{where}{error.strerror}; {BROKEN[error.errno]}.")
    if error.errno in REFUSED and where:
        return UsageError(f"{where}{error.strerror}; {REFUSED[error.errno]}.")
    return None


def main() -> None:
    """Runs the command line and exits with a meaningful code."""
    app = command_line()
    errors = Console(stderr=True, highlight=False)

    def refuse(error: ReviewpulseError) -> None:
        errors.print(f"reviewpulse: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)

    try:
        code = app(standalone_mode=False)
    except ReviewpulseError as error:
        refuse(error)
    except CommandLineError as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): silence the interpreter's flush at exit, too.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        known = of_file(error)
        if known is None:
            raise
        refuse(known)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
