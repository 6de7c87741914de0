"""The bill of materials, the audit, and the image's file."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from referencing import Registry, Resource

ROOT = Path(__file__).parents[2]
SBOM, AUDIT = ROOT / "deploy" / "sbom.py", ROOT / "deploy" / "audit.py"
SCHEMAS = ("bom-1.6", "spdx", "jsf-0.82", "cryptography-defs")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module")
def printed() -> str:
    return subprocess.run([sys.executable, SBOM], capture_output=True, text=True, check=True).stdout


def test_the_bill_of_materials_is_valid_by_its_schema(printed: str) -> None:
    folder = files("cyclonedx.schema") / "_res"
    schemas = {
        f"http://cyclonedx.org/schema/{name}.SNAPSHOT.schema.json": json.loads(
            (folder / f"{name}.SNAPSHOT.schema.json").read_text("utf-8")
        )
        for name in SCHEMAS
    }
    registry: Any = Registry().with_resources(
        (uri, Resource.from_contents(schema)) for uri, schema in schemas.items()
    )
    main = schemas["http://cyclonedx.org/schema/bom-1.6.SNAPSHOT.schema.json"]
    validator = Draft7Validator(main, registry=registry)
    validator.validate(json.loads(printed))
    assert not validator.is_valid(json.loads(printed) | {"components": [{"name": "no type"}]})


def test_the_bill_of_materials_lists_every_package_that_is_installed(printed: str) -> None:
    bill = json.loads(printed)
    listed = {(each["name"], each["version"]) for each in bill["components"]}
    root = bill["metadata"]["component"]
    listed.add((root["name"], root["version"]))
    installed = {
        (re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(), each.version) for each in distributions()
    }
    assert listed == installed
    of_root = next(each for each in bill["dependencies"] if each["ref"] == root["bom-ref"])
    named = {each.partition("@")[0] for each in of_root["dependsOn"]}
    assert {"pkg:pypi/redis", "pkg:pypi/aiokafka", "pkg:pypi/kafka-python"} <= named
    assert "pkg:pypi/torch" not in named  # of an extra


def test_the_bill_of_materials_is_the_same_each_time(printed: str) -> None:
    again = json.dumps(module(SBOM).document(module(SBOM).here()), indent=2) + "\n"
    assert again == printed


@pytest.mark.parametrize(
    ("dependencies", "code", "says"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 package audited"),
        (
            [{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}],
            1,
            "a 1: CVE-1; fixed in 2",
        ),
        ([{"name": "a", "skip_reason": "not found"}], 3, "NOT AUDITED"),
        (
            [{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}],
            3,
            "1 of 2 packages (b)",
        ),
        ([], 3, "NOT AUDITED"),
    ],
)
def test_an_audit_that_did_not_ask_about_all_does_not_pass(
    dependencies: list[dict[str, Any]], code: int, says: str
) -> None:
    found, lines = module(AUDIT).judge(dependencies)
    assert found == code
    assert says in "\n".join(lines)


@pytest.mark.parametrize(
    ("stdout", "stderr", "says"),
    [
        ("", "ConnectionError: no route\n", "could not ask the advisory service: ConnectionError: no route"),
        ("[]", "", "NOT AUDITED"),
    ],
)
def test_an_advisory_service_out_of_reach_is_said(
    stdout: str, stderr: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    audit = module(AUDIT)
    done = subprocess.CompletedProcess([], 1, stdout, stderr)
    monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)
    assert audit.main() == 3
    assert says in capsys.readouterr().out


# The image.


def stages() -> list[list[str]]:
    """Instructions by stage, with continued lines joined."""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE)).splitlines()
    found: list[list[str]] = []
    for line in filter(None, map(str.strip, lines)):
        if line.startswith("FROM "):
            found.append([])
        if found:
            found[-1].append(line)
    return found


def test_the_base_image_is_pinned_and_may_be_pinned_by_digest() -> None:
    assert re.search(r"^ARG BASE=python:3\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE)
    assert [stage[0] for stage in stages()] == ["FROM ${BASE} AS build", "FROM ${BASE}"]


def test_the_image_runs_as_nobody_in_particular_without_a_shell_or_build_tools() -> None:
    *_, final = stages()
    assert [line for line in final if line.startswith("USER")] == ["USER 10001:10001"]
    assert [line for line in final if line.startswith("RUN")] == []  # nothing is installed in it
    assert [line for line in final if line.startswith("COPY")] == [
        "COPY --from=build /opt/reviewpulse /opt/reviewpulse"
    ]
    for name in ("ENTRYPOINT", "CMD", "HEALTHCHECK"):
        (line,) = [each for each in final if each.startswith(name)]
        assert "[" in line  # the exec form: no shell
        assert isinstance(json.loads(line[line.index("[") :]), list)
    assert final.index("USER 10001:10001") < final.index('ENTRYPOINT ["reviewpulse"]')
    assert "venv --without-pip" in " ".join(stages()[0])


def test_no_secret_is_baked_into_the_image() -> None:
    assert not re.search(r"(ARG|ENV)[^\n]*(PASSWORD|SECRET|TOKEN|KEY)", DOCKERFILE)
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*"  # only what is named is sent to the builder
    named = [line for line in ignored if line.startswith("!") and "deploy" in line]
    assert named == ["!deploy/image_requirements.py"]  # no secrets, no settings of a site


def test_every_container_of_ours_is_read_only_without_capabilities_or_new_privileges() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ours = {name: each for name, each in services.items() if each["image"].startswith("reviewpulse")}
    assert ours
    for each in ours.values():
        assert each["read_only"] is True
        assert each["cap_drop"] == ["ALL"]
        assert each["security_opt"] == ["no-new-privileges:true"]
        assert each["user"] == "10001:10001"
        named = set(each["environment"]) - {"REVIEWPULSE_BUNDLE_KEY"}  # the path of a public key
        assert not any(name.endswith(("_PASSWORD", "_TOKENS", "_KEY")) for name in named)
