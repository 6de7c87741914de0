"""``reviewpulse backtest`` from a file to its report, and the worker's own judge beside it."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from stream.backtest.labels import by_stars, observed
from stream.backtest.read import read_countable
from stream.backtest.run import RuleSet, detector_of, rule_set_of, transitions_of
from stream.cli.main import command_line
from stream.core.decode import Limits, decode_run
from stream.core.seen import Seen
from stream.errors import UsageError
from stream.record import Basis, Judge, Part, Timing
from stream.scorer.isolate import Scored
from stream.settings import load
from tests.builders import REVIEWS, record

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings


HOUR_S = 3600
T0 = 1_700_000_000
INCIDENT_FROM, INCIDENT_TO = 300, 360
"""Of the kettle's hourly reviews, those that turn bad."""


def history() -> list[dict[str, Any]]:
    """A review an hour of two products, a tenth of them negative; the kettle's turn bad for 60 hours."""
    rng = random.Random(1)
    rows = []
    for hour in range(600):
        for product in ("kettle", "lamp"):
            bad = product == "kettle" and INCIDENT_FROM <= hour < INCIDENT_TO
            negative = rng.random() < (0.8 if bad else 0.1)
            rows.append(
                {
                    "event_id": f"{product}-{hour}",
                    "product_id": product,
                    "text": f"complaint {hour}" if negative else f"praise {hour}",
                    "event_time": T0 + HOUR_S * hour,
                    "rating": 1 if negative else 5,
                    "author_id": f"author {hour}",
                }
            )
    return rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in history()), "utf-8")
    return path


@pytest.fixture(autouse=True)
def _share_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The surge rule would tell of the same incident once more."""
    rules = tmp_path / "share-alone.toml"
    rules.write_text("version = 1\n[surge]\nenabled = false\n")
    monkeypatch.setenv("REVIEWPULSE_RULES", str(rules))


def labels(folder: Path, *windows: tuple[str, int, int]) -> str:
    path = folder / "labels.csv"
    rows = [f"{product},{T0 + HOUR_S * start},{T0 + HOUR_S * end}\n" for product, start, end in windows]
    path.write_text("product_id,start,end\n" + "".join(rows), "utf-8")
    return str(path)


def run(file: Path | str, *arguments: str) -> tuple[int, str]:
    """Exit code and standard output; the budget is one false alarm in 10,000 events."""
    budget = ("--expected-events-per-day", "10000")
    found = CliRunner().invoke(
        command_line(), ["backtest", str(file), "--format", "jsonl", *budget, *arguments]
    )
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def report(file: Path, *arguments: str) -> dict[str, Any]:
    code, out = run(file, "--json", *arguments)
    assert code == 0
    read: dict[str, Any] = json.loads(out)
    return read


# --- what would have fired --------------------------------------------------------------------------------


def test_a_planted_incident_is_found_and_ends_and_nothing_else_fires(file: Path, tmp_path: Path) -> None:
    planted = labels(tmp_path, ("kettle", INCIDENT_FROM, INCIDENT_TO))
    found = report(file, "--stars", "--labels", planted)
    [rule_set] = found["rule_sets"]
    [alert] = rule_set["alerts"]
    assert (found["events"], found["products"], found["labelled_by"]) == (1200, 2, "stars")
    assert (alert["product_id"], alert["rule"]) == ("kettle", "negative_share")
    assert alert["fired"] < alert["resolved"]
    [window] = rule_set["labelled"]["by_window"]
    assert window["alert_id"] == alert["id"]
    # An event an hour from the start on, the one that fired included.
    assert window["delay_s"] == (window["delay_events"] - 1) * HOUR_S
    assert 8 <= window["delay_events"] <= 16
    assert (rule_set["labelled"]["recall"], rule_set["labelled"]["precision"]) == (1.0, 1.0)
    assert rule_set["labelled"]["false_alarms_per_day"] == 0.0


def test_the_alerts_are_the_workers_own_whatever_the_batches(file: Path) -> None:
    """The same bytes that ``stream.record.Judge`` puts into the outbox."""
    settings = load(expected_events_per_day=10_000)
    rule_set = RuleSet("test", None, {})
    countable = read_countable(str(file), "jsonl", "reviews", [], Limits(), 1)
    by_product = observed(countable, by_stars(countable))
    ours = transitions_of(detector_of(rule_set, settings, "stars"), "reviews", by_product)
    assert len(ours) == 3  # it fires, becomes critical, resolves
    for batch in (1, 7, 64, 1200):
        assert _workers_alerts(settings, batch) == [msgspec.json.encode(each.alert) for each in ours]


def _workers_alerts(settings: Settings, batch: int) -> list[bytes]:
    """Alerts of a worker that gets the history in batches, labelled by stars as the backtest is."""
    judge = Judge(
        detector=detector_of(RuleSet("test", None, {}), settings, "stars"),
        model_version="stars",
        late_after_ms=HOUR_S * 1000,
        with_scores=False,
    )
    rows = sorted(history(), key=lambda row: row["event_time"])
    records = [record(at, row, arrival_ms=1000 * row["event_time"]) for at, row in enumerate(rows)]
    seen, applied = Seen(kept=1), -1
    states: dict[str, bytes | None] = {"kettle": None, "lamp": None}
    alerts: list[bytes] = []
    for first in range(0, len(records), batch):
        some = records[first : first + batch]
        decoded = decode_run("reviews", some, Limits())
        part = Part.of(REVIEWS, 1, "reviews", some, decoded, seen, first_row=0, log="")
        negative = np.array([rows[event.offset]["rating"] == 1 for event in part.events])
        probabilities = np.where(negative[:, None], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]).astype(np.float32)
        scored = Scored(probabilities, np.where(negative, 0, 2).astype(np.int8), {})
        judged = judge.judge(part, scored, Basis((applied,), states, seen), Timing(0.0, 0.0))
        states |= judged.states
        applied = judged.steps[0].last
        alerts += [alert for step in judged.steps for alert in step.transitions]
    return alerts


def test_the_same_history_gives_the_same_report(file: Path, tmp_path: Path) -> None:
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    reports = [report(file, "--stars", "--html", str(page)) for page in pages]
    assert reports[0] == reports[1]
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_scores_are_kept_beside_and_used_again(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_SCORER", "constant")
    kept = tmp_path / "scores.json"
    first = report(file, "--scores", str(kept))
    assert kept.exists()
    assert (first["labelled_by"], first["rule_sets"][0]["alerts"]) == ("constant", [])
    assert report(file, "--scores", str(kept)) == first


# --- two rule sets ----------------------------------------------------------------------------------------


def test_a_rule_set_that_asks_for_more_negatives_is_later_side_by_side(file: Path) -> None:
    found = report(file, "--stars", "--against", "min_negatives=20")
    assert [each["budget"]["min_negatives"] for each in found["rule_sets"]] == [8, 20]
    [pair] = found["compared"]
    first, second = (each["alerts"][0] for each in found["rule_sets"])
    assert (pair["first"], pair["second"]) == (first["id"], second["id"])
    assert pair["second_later_by_events"] == second["delay_events"] - first["delay_events"] > 0
    assert second["negatives"] == 20


def test_the_command_line_stands_above_the_rules_file_and_that_above_the_settings(
    file: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("version = 1\n[spike]\nmin_events = 30\nmin_negatives = 9\n", "utf-8")
    found = report(file, "--stars", "--rules", str(rules), "--min-negatives", "11")
    assert found["rule_sets"][0]["budget"] == {
        "false_alarms_per_day": 0.5,  # the surge rule has the other half
        "expected_events_per_day": 10_000.0,
        "min_events": 30,
        "min_negatives": 11,
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[spike\n", "is no TOML"),
        ("", "version: it is missing; write version = 1"),
        ("version = 1\n[surprise]\n", "surprise in the file: there is no such key"),
        ("version = 1\nspike = 3\n", "[spike]: 3 is not a table"),
        ("version = 1\n[spike]\nmin_event = 3\n", "there is no such key; write min_events"),
        ("version = 1\n[spike]\nmin_events = 2.5\n", "2.5 is not a whole number"),
        ("version = 1\n[spike]\nfalse_alarms_per_day = 0\n", "0 is not a number above 0"),
    ],
)
def test_a_wrong_rules_file_is_a_sentence(content: str, said: str, file: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(content, "utf-8")
    with pytest.raises(UsageError) as refused:
        run(file, "--stars", "--rules", str(rules))
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["min_negatives=", "min_negatives=-1", "min_negatives=nan", "nothing=1"])
def test_a_wrong_budget_to_compare_with_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--against"):
        rule_set_of(text, RuleSet("first", None, {}))


# --- exit codes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bounds", "code"),
    [
        (("--fail-under-recall", "0.5", "--fail-over-false-alarms", "0"), 0),
        (("--fail-under-recall", "0.51"), 1),
    ],
)
def test_a_recall_below_the_bound_is_code_1(
    bounds: tuple[str, ...], code: int, file: Path, tmp_path: Path
) -> None:
    one_of_two = labels(tmp_path, ("kettle", INCIDENT_FROM, INCIDENT_TO), ("lamp", 10, 20))
    assert run(file, "--stars", "--labels", one_of_two, *bounds)[0] == code


def test_more_false_alarms_than_the_bound_are_code_1(file: Path, tmp_path: Path) -> None:
    elsewhere = labels(tmp_path, ("lamp", 10, 20))
    assert run(file, "--stars", "--labels", elsewhere, "--fail-over-false-alarms", "0")[0] == 1
    assert run(file, "--stars", "--labels", elsewhere, "--fail-over-false-alarms", "1")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--stars", "--labelled"), "Give one of --stars, --labelled: each says what is negative."),
        (("--stars", "--fail-under-recall", "0.5"), "need --labels FILE"),
        (("--stars", "--html", "nowhere/page.html"), "There is no folder nowhere to write page.html in"),
        (("--stars", "--rules", "absent.toml"), "There is no rules file absent.toml"),
        (("--stars", "--min-negatives", "1001"), "choose at most 1000"),
        (("--labelled",), "have no label and no p_negative that can be used"),
    ],
)
def test_wrong_usage_is_a_sentence(arguments: tuple[str, ...], said: str, file: Path) -> None:
    with pytest.raises(UsageError) as refused:
        run(file, *arguments)
    assert said in str(refused.value)


# --- what is printed --------------------------------------------------------------------------------------


def test_the_table_says_when_it_fired_and_how_good_that_is(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    planted = labels(tmp_path, ("kettle", INCIDENT_FROM, INCIDENT_TO))
    code, out = run(file, "--stars", "--labels", planted, "--against", "min_negatives=200")
    assert code == 0
    assert "1,200 events of 2 products judged; 0 duplicates, 0 cannot be judged" in out
    assert "recall 1.00 (1 of 1), precision 1.00, 0 false alarms: 0 a day" in out
    assert "recall 0.00 (0 of 1), precision -" in out
    assert "0 alerts of both, 1 of the settings alone, 0 of min_negatives=200 alone" in out


def test_a_product_id_cannot_restyle_the_terminal(tmp_path: Path) -> None:
    hostile = "[red]\x1b[31mkettle\u202e"
    rows = [{**row, "product_id": hostile} for row in history() if row["product_id"] == "kettle"]
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    _, out = run(path, "--stars")
    assert "1 alert, " in out
    assert "[red]\\x1b[31mke" in out
    assert "\x1b" not in out
    assert "\u202e" not in out


def test_an_alert_of_the_report_has_the_evidence(file: Path) -> None:
    alert: dict[str, Any] = report(file, "--stars")["rule_sets"][0]["alerts"][0]
    assert alert["share"] == alert["negatives"] / alert["delay_events"]
    assert [quote["text"].split()[0] for quote in alert["quotes"]] == ["complaint"] * 5
    assert alert["peak_share"] >= alert["share"] > alert["baseline_share"]
