"""Signed bundles: what is refused where a key is asked for, and what is never said."""

from __future__ import annotations

import base64
import shutil
import stat
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tiny_bundles import make_bundle
from typer.testing import CliRunner

from stream import bundle, signature
from stream.cli.bundle import bundle as commands
from stream.cli.bundle import keygen, sign
from stream.errors import BundleError, UsageError
from stream.scorer.check import examine
from stream.scorer.load import load_scorer
from stream.settings import load

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("made") / "bundle")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "bundle")


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private key and its public half."""
    keygen(tmp_path / "key")
    return tmp_path / "key", tmp_path / "key.pub"


def test_a_signed_bundle_is_loaded_by_who_has_the_public_key(folder: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    sign(folder, private)
    assert bundle.verify(folder, public).name == bundle.verify(folder).name
    assert load_scorer(load(bundle=folder, bundle_key=public, provider="cpu")).version
    checks = {each.name: each for each in examine(load(bundle=folder, bundle_key=public, provider="cpu"))}
    assert checks["signature"].detail == f"the manifest is signed for {public}"
    assert signature.PREFIX not in (folder / "manifest.sig").read_bytes()


def test_an_unsigned_bundle_is_refused_only_where_a_key_is_asked_for(
    folder: Path, keys: tuple[Path, Path]
) -> None:
    bundle.verify(folder)
    for attempt in (bundle.verify, lambda path, key: load_scorer(load(bundle=path, bundle_key=key))):
        with pytest.raises(BundleError, match=r"is not signed, and REVIEWPULSE_BUNDLE_KEY asks for it"):
            attempt(folder, keys[1])
    (check,) = examine(load(bundle=folder, bundle_key=keys[1], provider="cpu"))
    assert not check.ok


def test_an_unsigned_bundle_is_not_promoted_nor_verified(
    folder: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_BUNDLE_KEY", str(keys[1]))
    monkeypatch.setenv("REVIEWPULSE_REDIS", "redis://127.0.0.1:1/0")  # it does not come to that
    for command in ("promote", "verify"):
        done = CliRunner().invoke(commands, [command, str(folder)])
        assert done.exit_code == 1
        assert "is not signed, and REVIEWPULSE_BUNDLE_KEY asks for it" in " ".join(done.output.split())


def test_another_key_s_signature_is_refused(folder: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    keygen(tmp_path / "other")
    sign(folder, tmp_path / "other")
    with pytest.raises(BundleError, match="is not signed with the key that"):
        bundle.verify(folder, keys[1])


@pytest.mark.parametrize("altered", ["manifest.json", "model.onnx", "manifest.sig"])
def test_what_is_altered_after_it_was_signed_is_refused(
    folder: Path, keys: tuple[Path, Path], altered: str
) -> None:
    private, public = keys
    sign(folder, private)
    file = folder / altered
    raw = file.read_bytes()
    changed = {
        # Still a right manifest, only another one.
        "manifest.json": raw.replace(b"{", b"{ ", 1),
        "model.onnx": raw + b"\0",
        "manifest.sig": base64.b64encode(bytes(64)),
    }
    file.write_bytes(changed[altered])
    with pytest.raises(BundleError):
        bundle.verify(folder, public)


@pytest.mark.parametrize("content", [b"", b"not base64!", b"QUJD\n"])
def test_a_signature_that_is_none_is_refused_in_a_sentence(
    folder: Path, keys: tuple[Path, Path], content: bytes
) -> None:
    (folder / "manifest.sig").write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot be read|is not signed with"):
        bundle.verify(folder, keys[1])


def test_a_bundle_that_is_not_whole_is_not_signed(folder: Path, keys: tuple[Path, Path]) -> None:
    (folder / "model.onnx").write_bytes(b"another")
    with pytest.raises(BundleError, match="is not the file that was exported"):
        sign(folder, keys[0])
    assert not (folder / "manifest.sig").exists()


def test_keys_are_made_for_their_owner_alone_and_never_overwritten(keys: tuple[Path, Path]) -> None:
    private, public = keys
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes(), public.read_bytes()
    with pytest.raises(UsageError, match="is there already"):
        keygen(private)
    public.unlink()
    with pytest.raises(UsageError, match=f"{private} is there already"):
        keygen(private)
    assert private.read_bytes() == before[0]


def test_a_key_that_cannot_be_used_is_told_without_what_is_in_the_file(
    folder: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    private, public = keys
    wrong = tmp_path / "wrong.pem"
    rsa_key = rsa.generate_private_key(65_537, 2_048)
    of_rsa = rsa_key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for content in (b"hunter2", of_rsa, private.read_bytes()):
        wrong.write_bytes(content)
        with pytest.raises(UsageError, match="holds no Ed25519 public key") as raised:
            bundle.verify(folder, wrong)
        assert content.decode().splitlines()[-1] not in str(raised.value)
    with pytest.raises(UsageError, match="holds no Ed25519 private key"):
        sign(folder, public)
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        bundle.verify(folder, tmp_path / "nowhere")


def test_without_cryptography_a_key_is_told_what_to_install(
    folder: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    bundle.verify(folder)
    with pytest.raises(UsageError, match=r"pip install 'reviewpulse\[signing\]'"):
        bundle.verify(folder, keys[1])
