"""Alert rules ask for what there is, are tried on series, and lead to a panel and a page of the runbook."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from typing import Any

import observing
import pytest
import typer
import yaml
from observing import ALERTS, METRICS, PANELS, PROMETHEUS, RECORDED, RULE_FILES, RULES, RUNBOOK

from stream.cli.main import command_line

COMPOSE = yaml.safe_load((PROMETHEUS.parents[1] / "docker-compose.yml").read_text())
CONFIG: dict[str, Any] = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
JOBS = {each["job_name"] for each in CONFIG["scrape_configs"]}

every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
every_alert = pytest.mark.parametrize("name", ALERTS)


def promtool(*arguments: str) -> None:
    binary = shutil.which("promtool")
    if binary is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=False, cwd=PROMETHEUS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", *map(str, RULE_FILES))


def test_promtool_accepts_the_configuration() -> None:
    promtool("check", "config", str(PROMETHEUS / "prometheus.yml"))


def test_each_rule_fires_when_it_should_and_not_when_it_should_not() -> None:
    promtool("test", "rules", *map(str, TESTS))


@every_rule
def test_a_rule_asks_for_metrics_labels_and_values_that_there_are(rule: dict[str, Any]) -> None:
    assert observing.problems(rule["expr"]) == []


def test_what_there_is_not_is_found() -> None:
    assert observing.problems("sum by (stgae) (rate(reviewpulse_events_dead_total[5m]))") == [
        "nothing in it has a label stgae"
    ]
    assert observing.problems('reviewpulse_events_dead_total{stage="decoed"}') == [
        "reviewpulse_events_dead_total has no stage decoed"
    ]
    assert observing.problems("reviewpulse_event_dead_total") == [
        "reviewpulse_event_dead_total is in no catalogue"
    ]
    assert observing.problems("reviewpulse_stage_seconds") == ["reviewpulse_stage_seconds is in no catalogue"]


@every_rule
def test_a_rule_about_a_job_names_one_that_is_scraped(rule: dict[str, Any]) -> None:
    for selector in observing.selectors(rule["expr"]):
        for label, _, value in selector.matchers:
            if label == "job":
                found = {job for job in JOBS if re.fullmatch(value, job)}
                assert found, f"no job is {value}"


@every_alert
def test_an_alert_says_what_it_is_how_bad_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
    annotations = rule["annotations"]
    assert set(annotations) == {"summary", "description", "panel", "runbook_url"}
    assert annotations["runbook_url"] == f"{{{{ $externalLabels.runbook }}}}#{name.lower()}"
    assert not annotations["summary"].endswith(".")
    assert annotations["description"].endswith((".", "}}"))
    assert name.startswith("Reviewpulse")


@every_alert
def test_an_alert_s_words_use_labels_that_its_result_has(name: str) -> None:
    rule = ALERTS[name]
    words = " ".join(rule["annotations"].values())
    used = set(re.findall(r"\$labels\.(\w+)", words))
    has: set[str] = set().union(
        *(observing.labels_of(each.metric) for each in observing.selectors(rule["expr"]))
    )
    assert used <= has


@every_alert
def test_an_alert_is_tried_on_series_on_which_it_fires_and_on_others(name: str) -> None:
    found = {True: 0, False: 0}
    for file in TESTS:
        for group in yaml.safe_load(file.read_text())["tests"]:
            for each in group["promql_expr_test"]:
                if f'"{name}"' in each["expr"]:
                    found[bool(each["exp_samples"])] += 1
    assert found[True] >= 1
    assert found[False] >= 1


@every_alert
def test_an_alert_has_a_panel_that_asks_for_what_it_asks_for(name: str) -> None:
    rule = ALERTS[name]
    (panel,) = [each for each in PANELS if each["title"] == rule["annotations"]["panel"]]
    shown = set().union(*(asked(target["expr"]) for target in panel["targets"]))
    assert shown & asked(rule["expr"]), f"{panel['title']} shows {sorted(shown)}"


def asked(expression: str) -> set[str]:
    """Metrics that an expression asks for, through recording rules, too."""
    found: set[str] = set()
    for selector in observing.selectors(expression):
        found.add(selector.metric)
        if selector.metric in RECORDED:
            found |= asked(RECORDED[selector.metric]["expr"])
    return found


def test_every_recording_rule_is_used() -> None:
    used = {each.metric for rule in RULES for each in observing.selectors(rule["expr"])}
    used |= {each.metric for p in PANELS for t in p["targets"] for each in observing.selectors(t["expr"])}
    assert set(RECORDED) <= used


def test_the_runbook_has_a_section_for_each_alert_and_for_no_other() -> None:
    sections = re.findall(r"^### (Reviewpulse\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert sorted(sections) == sorted(ALERTS)


@every_alert
def test_a_section_of_the_runbook_names_the_panel_and_answers_what_is_asked_at_night(name: str) -> None:
    text = RUNBOOK.read_text("utf-8")
    section = text.split(f"### {name}\n")[1].split("\n### ")[0].split("\n## ")[0]
    severity = ALERTS[name]["labels"]["severity"]
    assert section.lstrip().startswith(f"*{severity}*")
    for heading in (
        "**Means:**",
        "**Users see:**",
        "**Look first:**",
        "**Do:**",
        "**Over when:**",
        "**Prevent:**",
    ):
        assert heading in section, heading
    assert f'"{ALERTS[name]["annotations"]["panel"]}"' in section


def test_prometheus_finds_what_compose_runs_where_it_serves_metrics() -> None:
    services = COMPOSE["services"]
    for job in CONFIG["scrape_configs"]:
        (discovery,) = job["dns_sd_configs"]
        for name in discovery["names"]:
            _, port = services[name]["environment"]["REVIEWPULSE_HEALTH"].rsplit(":", 1)
            assert int(port) == discovery["port"], name


def test_the_catalogue_is_watched() -> None:
    """What nobody draws or judges nobody needs: all but the few that are for a closer look."""
    drawn = {each.metric for p in PANELS for t in p["targets"] for each in observing.selectors(t["expr"])}
    drawn |= {each.metric for rule in RULES for each in observing.selectors(rule["expr"])}
    bare = {re.sub(r"_(bucket|sum|count)$", "", each) if each not in METRICS else each for each in drawn}
    assert set(METRICS) - bare == set()


def test_every_command_of_the_runbook_is_one_that_reviewpulse_has() -> None:
    commands = re.findall(r"`reviewpulse ([^`]+)`", RUNBOOK.read_text("utf-8"))
    assert len(commands) > 30
    everything = typer.main.get_command(command_line())
    for command in sorted(set(commands)):
        parse(everything, shlex.split(" ".join(command.split())))


def parse(command: Any, arguments: list[str]) -> None:
    """Parses a command line without running it; raises when there is no such command."""
    name = "reviewpulse"
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context(name, arguments, resilient_parsing=hasattr(command, "commands") and not arguments)
