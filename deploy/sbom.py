"""What is installed, as a CycloneDX 1.6 document: ``make sbom``, or this beside the image's own Python.

Rules:
- Read from the installed packages' own metadata, of the Python that runs this; no network is asked.
- Deterministic: the same packages give the same bytes. So there is neither a date nor a random serial number;
  the serial number is made from the content.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from uuid import UUID

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement

ROOT = "reviewpulse"


def name_of(name: str) -> str:
    """A package's name as indexes normalise it (PEP 503).

    >>> name_of("Typing_Extensions")
    'typing-extensions'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def document(installed: dict[str, Distribution]) -> dict[str, Any]:
    """The document of what is installed, by normalised name."""
    components = [component(name, each) for name, each in sorted(installed.items()) if name != ROOT]
    root = component(ROOT, installed[ROOT]) | {"type": "application"}
    body = {
        "metadata": {"component": root},
        "components": components,
        "dependencies": [
            {"ref": reference(name, each), "dependsOn": sorted(needed(each, installed))}
            for name, each in sorted(installed.items())
        ],
    }
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": UUID(bytes=digest[:16], version=8 if sys.version_info >= (3, 14) else 5).urn,
        "version": 1,
        **body,
    }


def reference(name: str, installed: Distribution) -> str:
    """The package URL, which is what others refer to it by."""
    return f"pkg:pypi/{name}@{installed.version.replace('+', '%2B')}"


def component(name: str, installed: Distribution) -> dict[str, Any]:
    """One package."""
    found: dict[str, Any] = {
        "type": "library",
        "bom-ref": reference(name, installed),
        "name": name,
        "version": installed.version,
        "purl": reference(name, installed),
    }
    metadata = installed.metadata
    # One line: some packages put the whole text there.
    licence = (metadata["License-Expression"] or metadata["License"] or "").strip()
    if licence and "\n" not in licence:
        found["licenses"] = [{"license": {"name": licence[:200]}}]
    return found


def needed(installed: Distribution, known: dict[str, Distribution]) -> set[str]:
    """References of the installed packages that one requires without extras."""
    found = set()
    environment: dict[str, str] = {**default_environment(), "extra": ""}  # type: ignore[dict-item]
    for line in installed.requires or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        name = name_of(requirement.name)
        if name in known and (requirement.marker is None or requirement.marker.evaluate(environment)):
            found.add(reference(name, known[name]))
    return found


def here() -> dict[str, Distribution]:
    """The packages of the Python that runs this, by normalised name; of a name the one that is imported."""
    found: dict[str, Distribution] = {}
    for each in distributions():
        found.setdefault(name_of(each.metadata["Name"]), each)
    return found


def main() -> None:
    """Writes the document to a file or to standard output."""
    parser = argparse.ArgumentParser(description="The software bill of materials, CycloneDX 1.6 as JSON.")
    parser.add_argument("--out", type=Path, help="where it goes; standard output if left out")
    out: Path | None = parser.parse_args().out
    text = json.dumps(document(here()), indent=2) + "\n"
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
