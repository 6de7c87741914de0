"""Every line, ours and the libraries', goes to standard error in one format."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from stream import logs
from stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in logs._QUIETER}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_ours_and_the_libraries_lines_are_json_of_one_shape(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"))
    structlog.get_logger("worker").info("worker started", group="g")
    logging.getLogger("some.library").warning("careful: %s", "hot")
    ours, theirs = map(json.loads, lines(capsys))
    assert (ours["event"], ours["group"], ours["level"], ours["logger"]) == (
        "worker started",
        "g",
        "info",
        "worker",
    )
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("careful: hot", "warning", "some.library")
    assert ours["timestamp"].endswith("Z")


def test_an_exception_is_one_json_line_with_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"))
    structlog.get_logger("worker").error("failed", exc_info=ValueError("broken\nkettle"))
    [line] = lines(capsys)
    assert "ValueError: broken\nkettle" in json.loads(line)["exception"]


def test_auto_is_json_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="auto"))
    structlog.get_logger("worker").info("worker started")
    assert json.loads(lines(capsys)[0])["event"] == "worker started"


def test_human_lines_are_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="human"))
    structlog.get_logger("worker").info("worker started", group="g")
    [line] = lines(capsys)
    assert "worker started" in line
    assert not line.startswith("{")


def test_the_level_holds_for_all(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json", log_level="error"))
    structlog.get_logger("worker").warning("careful")
    logging.getLogger("aiokafka").warning("careful")
    assert lines(capsys) == []


def test_libraries_that_tell_too_much_are_quieter_than_ours(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json", log_level="info"))
    for name in logs._QUIETER:
        logging.getLogger(name).info("chatter")
    structlog.get_logger("worker").info("worker started")
    assert [json.loads(line)["event"] for line in lines(capsys)] == ["worker started"]


def test_configuring_twice_says_everything_once(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(Settings(log_format="json"))
    logs.configure(Settings(log_format="json"))
    structlog.get_logger("worker").info("worker started")
    assert len(lines(capsys)) == 1


def record(message: str, *arguments: object, logger: str = "aiokafka.consumer.fetcher") -> logging.LogRecord:
    return logging.LogRecord(logger, logging.ERROR, __file__, 1, message, arguments, None)


def test_what_a_library_says_again_and_again_passes_once_a_minute_with_a_count() -> None:
    now_s = 0.0
    once_a_minute = logs.OnceAMinute(lambda: now_s)
    passed = []
    for second in (0, 1, 2, 59, 60, 61):
        now_s = second
        said = record("Failed fetch from %s: %s", 1, second)
        if once_a_minute.filter(said):
            passed.append(said.getMessage())
    assert passed == [
        "Failed fetch from 1: 0",
        "Failed fetch from 1: 60 (3 more like it since it was last said)",
    ]


def test_different_lines_of_a_library_do_not_hold_each_other_back() -> None:
    once_a_minute = logs.OnceAMinute(lambda: 0.0)
    assert once_a_minute.filter(record("Failed fetch"))
    assert once_a_minute.filter(record("Unable to connect"))
    assert once_a_minute.filter(record("Failed fetch", logger="aiokafka"))


def test_our_own_lines_always_pass() -> None:
    once_a_minute = logs.OnceAMinute(lambda: 0.0)
    assert all(once_a_minute.filter(record("rewinding", logger="pipeline")) for _ in range(3))
