"""Signed bundles: an Ed25519 signature over the manifest, which has the checksums of all that is loaded.

    manifest.sig     one line of base64, beside the manifest

Rules:
- With ``REVIEWPULSE_BUNDLE_KEY`` set, a bundle without a signature, with another's, or altered since it was
  signed is not used: not at a start, not by a promotion, not by `bundle verify`. Without it nobody asks.
- What is signed is a line of ours and then the manifest's very bytes, so that the signature is of no use for
  anything else that the key may sign.
- The private key is made readable for its owner alone, and never overwritten. Serving needs the public one.
- ``cryptography`` is imported when a key is used: the extra ``signing``.
"""

from __future__ import annotations

import base64
import binascii
import os
from typing import TYPE_CHECKING, Any

from stream.errors import BundleError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

SIGNATURE = "manifest.sig"
PREFIX = b"reviewpulse bundle manifest 1\n"
MOST_KEY_BYTES = 16_384
MOST_SIGNATURE_BYTES = 1_024


def make_keys(private: Path, public: Path) -> None:
    """Writes a new pair of keys as PEM.

    Raises:
        UsageError: a file is there already, or cannot be written; or ``cryptography`` is not installed.
    """
    _needs_cryptography()
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415

    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    shown = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    if public.exists():  # before the private one is made: half a pair is of no use
        raise UsageError(f"{public} is there already: name another, or move it away.")
    _write_new(private, secret, 0o600)
    _write_new(public, shown, 0o644)


def sign(manifest: bytes, key_file: Path) -> bytes:
    """What ``manifest.sig`` is to hold.

    Args:
        manifest: the manifest's bytes.
        key_file: the private key.

    Raises:
        UsageError: it is no Ed25519 private key, or ``cryptography`` is not installed.
    """
    key = _load(key_file, "private")
    return base64.b64encode(key.sign(PREFIX + manifest)) + b"\n"


def check(folder: Path, manifest: bytes, key_file: Path) -> None:
    """That a bundle's manifest is signed with the key's other half.

    Args:
        folder: the bundle's.
        manifest: the manifest's bytes, as they were read.
        key_file: the public key.

    Raises:
        BundleError: it is not.
        UsageError: the file holds no Ed25519 public key, or ``cryptography`` is not installed.
    """
    key = _load(key_file, "public")
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415

    try:
        with (folder / SIGNATURE).open("rb") as file:
            signature = base64.b64decode(file.read(MOST_SIGNATURE_BYTES).strip(), validate=True)
    except FileNotFoundError:
        raise BundleError(
            f"The bundle {folder} is not signed, and REVIEWPULSE_BUNDLE_KEY asks for it: sign it with"
            " `reviewpulse bundle sign`, or copy it again together with its manifest.sig."
        ) from None
    except (OSError, binascii.Error) as error:
        raise BundleError(f"{folder / SIGNATURE} cannot be read ({error}): sign the bundle again.") from None
    try:
        key.verify(signature, PREFIX + manifest)
    except InvalidSignature:
        raise BundleError(
            f"The bundle {folder} is not signed with the key that {key_file} belongs to, or its manifest was"
            " altered since: do not use it before you know which. REVIEWPULSE_BUNDLE_KEY names the key."
        ) from None


def _load(path: Path, half: str) -> Any:
    """A key from its PEM file; ``half`` is ``private`` or ``public``."""
    _needs_cryptography()
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

    try:
        with path.open("rb") as file:
            pem = file.read(MOST_KEY_BYTES)
    except OSError as error:
        raise UsageError(f"The {half} key {path} cannot be read: {error.strerror}.") from None
    key: Any = None
    try:
        if half == "private":
            key = serialization.load_pem_private_key(pem, None)
        else:
            key = serialization.load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        pass  # nothing of the file is in what is said
    wanted = ed25519.Ed25519PrivateKey if half == "private" else ed25519.Ed25519PublicKey
    if not isinstance(key, wanted):
        raise UsageError(
            f"{path} holds no Ed25519 {half} key in PEM, without a passphrase: `reviewpulse bundle keygen`"
            " makes a pair."
        )
    return key


def _needs_cryptography() -> None:
    try:
        import cryptography  # noqa: F401, PLC0415
    except ImportError:
        raise UsageError(
            "Signed bundles need the extra `signing`: pip install 'reviewpulse[signing]'."
        ) from None


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
    except FileExistsError:
        raise UsageError(f"{path} is there already: name another, or move it away.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}.") from None
