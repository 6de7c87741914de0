"""The operations dashboard asks Prometheus only for what there is, in units, and finds its data source."""

from __future__ import annotations

import re
from typing import Any

import observing
import pytest
import yaml
from observing import DEPLOY, OPERATIONS, PANELS

SOURCE = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())[
    "datasources"
][0]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
UNITS = {"short", "s", "percentunit", "reqps", "bytes"}

every_target = pytest.mark.parametrize(
    ("title", "target"), TARGETS, ids=lambda each: each if isinstance(each, str) else each["refId"]
)


@every_target
def test_an_expression_asks_for_metrics_labels_and_values_that_there_are(
    title: str, target: dict[str, Any]
) -> None:
    assert observing.problems(target["expr"]) == [], title


@every_target
def test_a_legend_names_labels_that_the_result_has(title: str, target: dict[str, Any]) -> None:
    used = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    has: set[str] = set().union(
        *(observing.labels_of(each.metric) for each in observing.selectors(target["expr"]))
    )
    assert used <= has, title


def test_annotations_are_expressions_like_any_other() -> None:
    for each in OPERATIONS["annotations"]["list"]:
        assert observing.problems(each["expr"]) == []


def test_every_panel_reads_the_provisioned_data_source() -> None:
    uid = {"type": "prometheus", "uid": SOURCE["uid"]}
    assert SOURCE["type"] == "prometheus"
    assert all(panel["datasource"] == uid for panel in PANELS)
    assert all(target["datasource"] == uid for _, target in TARGETS)


def test_every_panel_has_a_title_of_its_own_a_description_and_a_unit() -> None:
    titles = [each["title"] for each in PANELS]
    assert len(set(titles)) == len(titles)
    for panel in PANELS:
        assert len(panel["description"]) > 3, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]


def test_what_is_measured_in_seconds_or_bytes_is_shown_so() -> None:
    for panel in PANELS:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        for target in panel["targets"]:
            metrics = [each.metric for each in observing.selectors(target["expr"])]
            if metrics and all(re.search(r"_bytes$", each) for each in metrics):
                assert unit == "bytes", panel["title"]
            if "histogram_quantile" in target["expr"] and metrics[0].endswith("_seconds_bucket"):
                assert unit == "s", panel["title"]


def test_panels_have_ids_of_their_own_and_lie_beside_each_other() -> None:
    observing.check_places(OPERATIONS["panels"])


def test_the_first_row_says_whether_it_is_healthy_whether_it_is_behind_and_since_when() -> None:
    top = [each["title"] for each in PANELS if each["gridPos"]["y"] == 1]
    assert top == [
        "Pages now",
        "Tickets now",
        "Behind by",
        "Behind since",
        "Counted",
        "Workers",
        "Kafka",
        "Redis",
    ]
