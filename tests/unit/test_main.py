"""How errors become sentences and exit codes."""

from __future__ import annotations

import errno
import os

import pytest
import typer

from stream.cli import main
from stream.errors import DependencyError, UsageError


def raising(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command line fails with ``error``."""
    app = typer.Typer(pretty_exceptions_enable=False)

    @app.command()
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "command_line", lambda: app)
    monkeypatch.setattr("sys.argv", ["reviewpulse"])


def of_system(number: int, file: str | None = None) -> OSError:
    return OSError(number, os.strerror(number), file) if file else OSError(number, os.strerror(number))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UsageError("Name a model."), 2, "Name a model."),
        (DependencyError("Redis is away."), 3, "Redis is away."),
        (of_system(errno.ENOTDIR, "file/x"), 2, "file/x: Not a directory; a part of the path is a file"),
        (of_system(errno.EEXIST, "out"), 2, "out: File exists; name another"),
        (of_system(errno.EISDIR, "out"), 2, "out: Is a directory; name a file"),
        (of_system(errno.EACCES, "out"), 2, "out: Permission denied; take the rights"),
        (of_system(errno.ENOSPC), 3, "No space left on device; make room"),
        (of_system(errno.EROFS, "out"), 3, "out: Read-only file system; name another place"),
    ],
)
def test_an_error_is_one_sentence_and_a_code(
    error: Exception,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raising(error, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == code
    assert capsys.readouterr().err.startswith(f"reviewpulse: {said}")


@pytest.mark.parametrize("error", [of_system(errno.ENOENT), OSError("odd"), of_system(errno.ECONNREFUSED)])
def test_a_system_error_of_no_file_is_ours_and_crashes(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    raising(error, monkeypatch)
    with pytest.raises(OSError, match=str(error).replace("[", r"\[")):
        main.main()
