"""Parts of the drill that need no servers."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from observing import ALERTS, PANELS, RULE_FILES, RUNBOOK

from stream import bundle
from stream.cli.drill import markdown
from stream.drill.bundles import exchanged, last_layer
from stream.drill.durations import scaled
from stream.drill.faults import FAULTS
from stream.drill.fleet import Supervised
from stream.drill.run import Judged, Met, Report
from stream.errors import BundleError
from stream.scorer.load import load_scorer
from stream.settings import SHIPPED_BUNDLE, load

if TYPE_CHECKING:
    from pathlib import Path

EIGHT = {
    "broker-down",
    "redis-down",
    "redis-full",
    "poison-message",
    "slow-model",
    "skewed-partition",
    "clock-skew",
    "bad-bundle",
}


def test_each_of_the_eight_faults_has_a_rule_a_panel_and_a_step_of_the_runbook() -> None:
    assert {fault.name for fault in FAULTS} == {*EIGHT, "nothing"}
    titles = {panel["title"] for panel in PANELS}
    runbook = RUNBOOK.read_text("utf-8")
    for fault in FAULTS:
        assert bool(fault.step) is bool(fault.rules) is (fault.name in EIGHT)
        for name in fault.rules:
            assert ALERTS[name]["annotations"]["panel"] in titles
            assert f"### {name}\n" in runbook


@pytest.mark.parametrize("file", RULE_FILES, ids=lambda file: file.name)
def test_a_scaled_rule_file_differs_in_durations_and_thresholds_of_lag_alone(file: Path) -> None:
    text = file.read_text("utf-8")
    as_deployed = scaled(text, 60)
    assert not re.search(r"\[\d+[smhd]\]|for: \d+[smhd]$|offset \d+[smhd]\b", as_deployed, re.MULTILINE)
    differing = [
        (before, after)
        for before, after in zip(text.splitlines(), scaled(text, 1).splitlines(), strict=True)
        if before != after
    ]
    for before, after in differing:
        assert re.sub(r"\d+(\.\d+)?(ms|[smhd])?", "#", before) == re.sub(
            r"\d+(\.\d+)?(ms|[smhd])?", "#", after
        )
        assert before.strip().startswith("#") is False


def test_a_bundle_that_says_the_contrary_is_whole_and_says_it(tmp_path: Path) -> None:
    bad = exchanged(SHIPPED_BUNDLE, tmp_path / "bad")
    assert bundle.verify(bad).version == f"{bundle.load_manifest(SHIPPED_BUNDLE).version}-exchanged"
    texts = ["It broke after a day, I want my money back.", "I love it, works perfectly."]
    said = []
    for folder in (SHIPPED_BUNDLE, bad):
        scorer = load_scorer(load(bundle=folder, provider="cpu", threads=1))
        said.append(scorer.score(scorer.encode(texts), np.arange(2)))
    assert said[0][0, 0] > 0.8
    assert said[0][1, 0] < 0.2
    np.testing.assert_allclose(said[0][:, ::-1], said[1], atol=1e-5)


def test_a_file_that_is_no_model_is_refused() -> None:
    with pytest.raises(BundleError, match="no ONNX file"):
        list(last_layer(b"\x07\x00\x00"))


def test_the_table_says_what_did_not_fire_and_what_did_not_end() -> None:
    fired = Judged(
        rule="ReviewpulseLag", severity="page", panel="How far behind", runbook="", fired_after_s=3.5
    )
    silent = Judged(rule="ReviewpulseOnCpu", severity="page", panel="Model", runbook="", fired_after_s=None)
    met = Met(
        fault="slow-model",
        what="it is slow",
        rules=[fired, silent],
        also_fired=[],
        step="more workers",
        minute_s=1.0,
        ended_after_s=None,
        sent=1200,
        counted=1199,
        dead=1,
        duplicates=0,
        problems=["ReviewpulseOnCpu did not fire."],
    )
    assert not met.ok
    assert markdown(Report(ok=False, minute_s=1.0, faults=[met])).splitlines()[2] == (
        "| `slow-model`: it is slow | [ReviewpulseLag](#reviewpulselag) (page)<br>[ReviewpulseOnCpu]"
        "(#reviewpulseoncpu) (page) | 3.5 s<br>never | How far behind<br>Model | more workers | never"
        " | 1,200 sent, 1,199 counted, 1 dead<br>ReviewpulseOnCpu did not fire. |"
    )


def test_a_worker_that_ends_is_started_again_until_it_is_stopped(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    worker = Supervised(load(), 0, ("this",), log)  # a program that ends at once
    deadline = time.monotonic() + 60
    while worker.starts < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    worker.stop()
    starts = worker.starts
    assert starts >= 2
    assert log.read_text().count("The Zen of Python") >= starts - 1  # the last may not have got so far
