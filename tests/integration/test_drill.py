"""The drill itself: faults are caused, the deployed rules fire and end, and every event is counted once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SHORT = ("redis-full", "broker-down")


def drill(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "drill", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.mark.slow
@pytest.mark.timeout(600)  # the drill's own patience ends first, and it says what was missing
@pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)
def test_rules_fire_on_real_faults_and_end_with_the_runbook_s_step(tmp_path: Path) -> None:
    report: dict[str, Any] = json.loads(drill(*SHORT, "--patience", "100", "--json").stdout)
    assert report["ok"]
    assert [met["fault"] for met in report["faults"]] == list(SHORT)
    for met in report["faults"]:
        (rule,) = met["rules"]
        assert rule["fired_after_s"] > 0
        assert met["ended_after_s"] > 0
        assert met["sent"] == met["counted"] > 0
        assert met["problems"] == []
    assert [met["rules"][0]["rule"] for met in report["faults"]] == [
        "ReviewpulseRedisFull",
        "ReviewpulseKafkaDown",
    ]
    assert report["faults"][0]["rules"][0]["runbook"] == "docs/runbook.md#reviewpulseredisfull"


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which("prometheus") is None,
    reason="Prometheus is not installed (Debian: apt-get install prometheus)",
)
def test_a_rule_that_cannot_fire_is_found_out(tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    (rules / "deaf.yml").write_text(
        "groups:\n- name: deaf\n  rules:\n"
        "  - alert: ReviewpulseRedisFull\n    expr: vector(0) > 1\n    labels: {severity: page}\n"
        "    annotations: {panel: none, runbook_url: none}\n"
    )
    done = drill(
        *(
            "redis-full",
            "--rules",
            str(rules),
            "--patience",
            "5",
            "--keep",
            str(tmp_path / "drill"),
            "--json",
        ),
        code=1,
    )
    (met,) = json.loads(done.stdout)["faults"]
    assert met["problems"] == ["ReviewpulseRedisFull did not fire."]
    assert met["sent"] == met["counted"] > 0  # the fault was mended all the same


def test_without_prometheus_it_says_that_nobody_can_judge(tmp_path: Path) -> None:
    done = drill("redis-full", "--prometheus", str(tmp_path / "absent"), code=2)
    assert "Without Prometheus nobody can judge whether the rules fire" in done.stderr


def test_a_fault_that_there_is_not_is_named() -> None:
    done = drill("coffee-spilt", code=2)
    assert "There is no fault coffee-spilt: take of nothing, broker-down, redis-down" in done.stderr
