from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING

import pytest

from stream import bundle
from stream.errors import BundleError
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the shipped bundle that a test may spoil."""
    return shutil.copytree(SHIPPED_BUNDLE, tmp_path / "bundle")


def rewrite(folder: Path, **changes: object) -> None:
    file = folder / bundle.MANIFEST
    stated = json.loads(file.read_text())
    file.write_text(json.dumps(stated | changes))


def test_the_shipped_bundle_is_whole() -> None:
    manifest = bundle.verify(SHIPPED_BUNDLE)
    assert manifest.labels == ("negative", "positive")
    assert set(manifest.files) == {"model.onnx", "tokenizer.json", "README.md"}


def test_the_shipped_bundle_is_small_enough_for_a_package() -> None:
    assert sum(file.stat().st_size for file in SHIPPED_BUNDLE.iterdir()) <= 40_000_000


def test_the_shipped_bundle_names_a_licence_for_everything_it_was_trained_on() -> None:
    manifest = bundle.load_manifest(SHIPPED_BUNDLE)
    assert manifest.base_licence == "MIT"
    assert {source.licence for source in manifest.trained_on} == {
        "MIT",
        "CC BY 4.0",
        "MIT (repository)",
        "as the texts they are made of",
    }
    assert all(source.rows > 0 for source in manifest.trained_on)
    assert manifest.trained_on


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no bundle folder .*nowhere; name one that is there"):
        bundle.verify(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is not a model bundle: it has no manifest.json"):
        bundle.verify(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 10_000])
def test_a_manifest_that_is_not_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / bundle.MANIFEST).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest.json is not JSON"):
        bundle.verify(folder)


@pytest.mark.parametrize("version", [None, 0, 2, "1"])
def test_another_format_version_is_refused(folder: Path, version: object) -> None:
    rewrite(folder, format=version)
    with pytest.raises(BundleError, match=r"has bundle format .* reads format 1"):
        bundle.verify(folder)


def test_a_manifest_that_is_a_list_is_refused(folder: Path) -> None:
    (folder / bundle.MANIFEST).write_text("[]")
    with pytest.raises(BundleError, match=r"has bundle format None"):
        bundle.verify(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": 0},
        {"neutral_band": 1.5},
        {"max_length": 2},
        {"labels": ["positive", "negative"]},
        {"labels": ["angry", "happy"]},
        {"files": {"../../etc/passwd": "0" * 64}},
        {"files": {"model.onnx": "short"}},
    ],
)
def test_a_manifest_with_a_wrong_value_is_refused(folder: Path, changes: dict[str, object]) -> None:
    rewrite(folder, **changes)
    with pytest.raises(BundleError, match=r"incomplete or wrong|has labels"):
        bundle.verify(folder)


@pytest.mark.parametrize("name", bundle.REQUIRED)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(BundleError, match=rf"lacks {name}"):
        bundle.verify(folder)


@pytest.mark.parametrize("name", bundle.REQUIRED)
def test_a_file_without_a_checksum_is_refused(folder: Path, name: str) -> None:
    files = json.loads((folder / bundle.MANIFEST).read_text())["files"]
    del files[name]
    rewrite(folder, files=files)
    with pytest.raises(BundleError, match=rf"states no checksum of {name}"):
        bundle.verify(folder)


@pytest.mark.parametrize("name", bundle.REQUIRED)
def test_one_altered_bit_is_noticed_and_its_file_named(folder: Path, name: str) -> None:
    file = folder / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        BundleError, match=rf"{name} is not the file that was exported.*altered or badly copied"
    ):
        bundle.verify(folder)


def test_a_truncated_copy_is_noticed(folder: Path) -> None:
    file = folder / bundle.MODEL
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(BundleError, match=r"checksum differs"):
        bundle.verify(folder)
