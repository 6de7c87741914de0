"""The Grafana dashboard asks the HTTP API only for what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import observing
import pytest
import yaml

from stream.settings import load

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "reviewpulse.json").read_text("utf-8"))
PANELS = [each for each in DASHBOARD["panels"] if each["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
PLUGIN = "yesoreyeram-infinity-datasource"


def test_panels_have_ids_of_their_own_and_lie_beside_each_other() -> None:
    observing.check_places(DASHBOARD["panels"])


def test_every_panel_reads_the_provisioned_data_source() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/reviewpulse.yaml").read_text())[
        "datasources"
    ]
    assert source["type"] == PLUGIN
    for _, target in TARGETS:
        assert target["datasource"] == {"type": PLUGIN, "uid": source["uid"]}
        assert (target["type"], target["source"], target["parser"]) == ("json", "url", "backend")
        assert target["url_options"]["method"] == "GET"
        assert target["format"] in ("table", "timeseries")
    assert source["jsonData"]["allowedHosts"] == [source["url"]]  # the token goes nowhere else
    assert source["secureJsonData"] == {"bearerToken": "$REVIEWPULSE_TOKEN"}


def test_a_time_series_has_a_time_and_overrides_name_columns() -> None:
    for panel in PANELS:
        columns = [column for target in panel["targets"] for column in target["columns"]]
        if panel["type"] == "timeseries":
            assert [each["selector"] for each in columns if each["type"] == "timestamp"] == ["at"]
        named = {each["text"] for each in columns}
        assert {each["matcher"]["options"] for each in panel["fieldConfig"]["overrides"]} <= named


def test_every_variable_that_is_used_is_there() -> None:
    used = set(re.findall(r"\$\{(\w+)", json.dumps(DASHBOARD["panels"])))
    assert used == {each["name"] for each in DASHBOARD["templating"]["list"]}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The API's OpenAPI document."""
    app = pytest.importorskip("stream.web.app")
    schema: dict[str, Any] = app.create_app(load()).openapi_schema.to_schema()
    return schema


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=lambda each: each if isinstance(each, str) else "")
def test_every_address_parameter_and_field_is_in_the_openapi_document(
    title: str, target: dict[str, Any], document: dict[str, Any]
) -> None:
    operation = document["paths"][target["url"]]["get"]
    parameters = {each["name"]: each for each in operation.get("parameters", [])}
    for given in target["url_options"]["params"]:
        assert given["key"] in parameters, title
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    root = field(document, schema, target["root_selector"])
    rows = resolved(document, root)
    item = rows["items"] if target["root_selector"] else schema
    for column in target["columns"]:
        field(document, item, column["selector"])


def field(document: dict[str, Any], schema: dict[str, Any], selector: str) -> dict[str, Any]:
    """The schema that a selector with dots leads to."""
    for name in filter(None, selector.split(".")):
        schema = resolved(document, schema)
        if name.isdigit():
            schema = schema["prefixItems"][int(name)] if "prefixItems" in schema else schema["items"]
        elif name in schema.get("properties", {}):
            schema = schema["properties"][name]
        else:
            assert isinstance(schema.get("additionalProperties"), dict), f"there is no {selector}"
            schema = schema["additionalProperties"]
    return schema


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without its reference, and without a null beside it."""
    while True:
        options = [each for key in ("oneOf", "anyOf") for each in schema.get(key, [])]
        options = [each for each in options if each.get("type") != "null"]
        if "$ref" in schema:
            schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif options:
            (schema,) = options
        else:
            return schema
