"""The reference and the picture are made from the code, and are up to date."""

from __future__ import annotations

import importlib.util
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def make() -> Any:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "reference" / "make.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says(make: Any) -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in make.written().items()
        if not path.exists() or path.read_text("utf-8") != text
    ]
    assert stale == [], "`make docs` writes them anew"


def test_the_picture_is_svg_and_has_every_room_and_its_lines(make: Any) -> None:
    import picture  # noqa: PLC0415  # found by way of make.written()

    svg = ET.fromstring((ROOT / "docs" / "architecture.svg").read_text("utf-8"))  # noqa: S314  # ours
    shown = {str(each.text) for each in svg.iter("{http://www.w3.org/2000/svg}text")}
    rooms = picture.rooms()
    assert [
        room.name for room in rooms if not any(room.name.startswith(text.rstrip(" …")) for text in shown)
    ] == []
    assert any(each.is_core for each in rooms)
    assert len(list(svg.iter("{http://www.w3.org/2000/svg}path"))) > 5


def test_every_exit_code_of_an_error_is_explained(make: Any) -> None:
    from stream import errors  # noqa: PLC0415

    codes = {each.exit_code for each in vars(errors).values() if hasattr(each, "exit_code")}
    assert codes | {errors.EXIT_STUCK} <= set(make.EXIT_CODES)


def test_the_index_of_the_docs_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    pages = {each.name for each in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert sorted(each for each in pages if f"]({each})" not in index) == []
