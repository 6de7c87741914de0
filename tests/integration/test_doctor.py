"""The doctor's command against real servers and against none."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.cli.main import main
from stream.pipeline import Progress
from stream.redis_config import connect
from stream.scorer.constant import ConstantScorer
from stream.status import WorkerStatus
from stream.topics import ensure

if TYPE_CHECKING:
    from stream.settings import Settings


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of a command."""
    monkeypatch.setattr("sys.argv", ["reviewpulse", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), json.loads(capsys.readouterr().out)


def examine(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, dict[str, Any]]:
    """Exit code, and the last finding of each name."""
    code, report = run(capsys, monkeypatch, "doctor", "--json")
    assert report["ok"] is (code == 0)
    return code, {each["name"]: each for each in report["checks"]}


def test_with_everything_in_place_nothing_fails(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(settings)
    monkeypatch.setenv("REVIEWPULSE_SCORER", "constant")
    code, checks = examine(capsys, monkeypatch)
    assert [name for name, each in checks.items() if each["state"] == "fail"] == []
    assert code == 0
    assert checks["kafka"]["state"] == checks["redis"]["state"] == "ok"
    assert checks[f"topic {settings.topic_reviews}"]["detail"].startswith("4 partitions")


def test_missing_topics_fail_with_the_command_that_makes_them(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_SCORER", "constant")
    code, checks = examine(capsys, monkeypatch)
    assert code == 1
    assert checks[f"topic {settings.topic_alerts}"]["remedy"] == "reviewpulse topics"


def test_servers_that_accept_and_say_nothing_do_not_hang_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.doctor.KAFKA_TIMEOUT_S", 0.5)
    monkeypatch.setattr("stream.doctor.ROOM_TIMEOUT_S", 3.0)
    monkeypatch.setenv("REVIEWPULSE_BUNDLE", "/nowhere")
    with socket.create_server(("127.0.0.1", 0)) as kafka, socket.create_server(("127.0.0.1", 0)) as valkey:
        monkeypatch.setenv("REVIEWPULSE_KAFKA", f"127.0.0.1:{kafka.getsockname()[1]}")
        monkeypatch.setenv("REVIEWPULSE_REDIS", f"redis://127.0.0.1:{valkey.getsockname()[1]}/0")
        code, checks = examine(capsys, monkeypatch)
    assert code == 1
    for name in ("kafka", "redis", "bundle"):
        assert checks[name]["state"] == "fail"
        assert checks[name]["remedy"]


def test_a_worker_here_is_healthy_while_it_reports(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def post(name: str, age_s: float) -> None:
        status = WorkerStatus.of(name, ConstantScorer(), Progress(), partitions=[], events_per_s=0)
        status.at -= age_s
        with connect(settings) as client:
            client.hset(f"{settings.namespace}:workers", name, msgspec.json.encode(status))

    arguments = ["doctor", "--worker-here", "--json"]
    here = f"{socket.gethostname()}-4711"
    assert run(capsys, monkeypatch, *arguments)[0] == 1
    post("elsewhere-4711", age_s=0)
    post(here, age_s=60)
    assert run(capsys, monkeypatch, *arguments)[0] == 1
    post(here, age_s=0)
    code, report = run(capsys, monkeypatch, *arguments)
    assert code == 0
    assert report["checks"][0]["detail"] == f"{here} is at work"
