"""Alert rules, dashboards and the runbook as data, and which metrics an expression asks for."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import promql_parser
import yaml

from stream.metrics.catalogue import CATALOGUE, label

DEPLOY = Path(__file__).parents[1] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
OPERATIONS: dict[str, Any] = json.loads((DEPLOY / "grafana" / "operations.json").read_text("utf-8"))
PANELS: list[dict[str, Any]] = [each for each in OPERATIONS["panels"] if each["type"] != "row"]
RUNBOOK = Path(__file__).parents[1] / "docs" / "runbook.md"

SCRAPED = {"job", "instance"}
"""Labels that Prometheus itself adds."""
METRICS = {each.name: each for each in CATALOGUE}
FOREIGN = {
    "up": set(),
    "ALERTS": {"alertname", "alertstate", "severity"},
    "process_start_time_seconds": set(),
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
}
"""Prometheus' own, and prometheus_client's of each process: labels by name."""


def _rules() -> list[dict[str, Any]]:
    return [
        {**rule, "file": file.name}
        for file in RULE_FILES
        for group in yaml.safe_load(file.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    ]


RULES = _rules()
ALERTS = {each["alert"]: each for each in RULES if "alert" in each}
RECORDED = {each["record"]: each for each in RULES if "record" in each}


class Selector(NamedTuple):
    """A metric that an expression asks for, and the values it wants of labels."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator (``=``, ``!=``, ``=~``, ``!~``), value."""


def parse(expression: str) -> Any:
    """The syntax tree; Grafana's own variables are filled in."""
    return promql_parser.parse(expression.replace("$__rate_interval", "1m"))


def selectors(expression: str) -> list[Selector]:
    """All that it asks for."""
    found: list[Selector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.MatrixSelector):
            node = node.vector_selector
        if isinstance(node, promql_parser.VectorSelector):
            signs = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}
            matchers = tuple(
                (m.name, signs[str(m.op).rpartition(".")[2]], m.value) for m in node.matchers.matchers
            )
            found.append(Selector(str(node.name), matchers))

    promql_parser.walk(parse(expression), visit)
    return list(dict.fromkeys(found))


def grouping(expression: str) -> set[str]:
    """Labels that it aggregates by, or matches on."""
    found: set[str] = set()

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            found.update(node.modifier.labels)
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            found.update(node.modifier.matching.labels)

    promql_parser.walk(parse(expression), visit)
    return found


def labels_of(metric: str) -> set[str]:
    """Labels that a metric's series have, those that Prometheus adds included.

    Raises:
        LookupError: there is no such metric.
    """
    if metric in FOREIGN:
        return FOREIGN[metric] | SCRAPED
    if metric in RECORDED:
        (outermost,) = re.findall(r"^(?:max|sum|min|count) by \(([\w, ]+)\)", RECORDED[metric]["expr"]) or [
            ""
        ]
        return {each.strip() for each in outermost.split(",")} - {""}
    known = METRICS.get(metric)
    if known is not None and known.kind != "histogram":
        return {*known.labels, *SCRAPED}
    base, _, part = metric.rpartition("_")
    if base in METRICS and METRICS[base].kind == "histogram" and part in ("bucket", "sum", "count"):
        return {*METRICS[base].labels, *SCRAPED, *(["le"] if part == "bucket" else [])}
    raise LookupError(f"{metric} is in no catalogue")


def problems(expression: str) -> list[str]:
    """What is wrong with the metrics and labels of an expression; nothing for most."""
    found: list[str] = []
    known: set[str] = set()
    for selector in selectors(expression):
        try:
            labels = labels_of(selector.metric)
        except LookupError as error:
            found.append(str(error))
            continue
        known |= labels
        for name, operator, value in selector.matchers:
            if name not in labels:
                found.append(f"{selector.metric} has no label {name}")
            elif name not in SCRAPED and (values := _values(selector.metric, name)):
                matches = re.compile(re.escape(value) if operator in ("=", "!=") else value)
                if not any(matches.fullmatch(each) for each in values):
                    found.append(f"{selector.metric} has no {name} {value}")
    found += [f"nothing in it has a label {name}" for name in sorted(grouping(expression) - known)]
    return found


def _values(metric: str, name: str) -> tuple[str, ...]:
    if metric in FOREIGN or name == "le":
        return ()
    if metric in RECORDED:
        return next((_values(each.metric, name) for each in selectors(RECORDED[metric]["expr"])), ())
    base = metric if metric in METRICS else metric.rpartition("_")[0]
    return label(base, name).values


def check_places(panels: list[dict[str, Any]]) -> None:
    """Panels have ids of their own and lie beside each other."""
    ids = [each["id"] for each in panels]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for each in panels:
        place = each["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, each["title"]
        taken |= cells
