"""The bundle: the folder that training hands to serving. Written by ``export/``, read here.

    model.onnx       input_ids, attention_mask (int64, batch x sequence) -> logits (float32, batch x labels)
    tokenizer.json   of the ``tokenizers`` library; truncation and padding are the scorer's
    manifest.json    the ``Manifest`` below
    README.md        the model card
    manifest.sig     optional: a signature over the manifest, see ``stream.signature``

Rules:
- ``manifest.json`` carries the sha256 of every other file. A folder is used only after ``verify`` has read
  all of them, so a truncated copy or an altered model never scores an event.
- ``version`` changes with the content; every score and alert names it.
- What is wrong is one sentence that names the folder or file and the remedy.
- Serving needs neither torch nor transformers for any of this.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

import msgspec

from stream import signature
from stream.core.events import Label  # noqa: TC001
from stream.core.reference import Reference  # noqa: TC001  # msgspec reads the annotations
from stream.errors import BundleError, UsageError
from stream.writing import write_whole

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 1
"""Changes when a reader of the old format would misread the new one."""

MANIFEST = "manifest.json"
MODEL = "model.onnx"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
REQUIRED = (MODEL, TOKENIZER, CARD)

FileName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", max_length=128)]
"""A plain name: a manifest must not reach outside its folder."""

Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class TrainingSource(msgspec.Struct, frozen=True, kw_only=True):
    """A data set the weights were fitted to."""

    name: str
    licence: str
    rows: int


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One figure on one data set, with its 95% bootstrap interval."""

    dataset: str
    name: str
    value: float
    interval: tuple[float, float]
    rows: int


class ParityRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What comparing the bundle with its checkpoint found, on one provider; see ``export/parity``."""

    provider: str
    texts: int
    lengths: tuple[int, int, int]
    """In tokens: the shortest, the median, the longest."""
    max_logit_difference: float
    max_probability_difference: float
    mean_probability_difference: float
    label_agreement: float
    batch_difference: float
    """Most that batch mates move a probability."""
    padding_difference: float
    """Most that padding does."""
    accuracy: tuple[float, float] | None = None
    """Before and after; None where too few texts have labels."""
    calibration: tuple[float, float] | None = None
    """Expected calibration error, likewise."""
    labelled: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What serving has to know about a model, and what a reader should."""

    format: int
    name: str
    version: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    created: str
    """RFC 3339."""
    languages: tuple[str, ...]
    labels: tuple[Label, ...]
    """Meaning of the model's output columns: negative, positive; or negative, neutral, positive."""
    label_meaning: dict[str, str]
    max_length: Annotated[int, msgspec.Meta(ge=8, le=8192)]
    """Most tokens of a text that are read, the special ones included."""
    pad_id: Annotated[int, msgspec.Meta(ge=0)]
    temperature: Annotated[float, msgspec.Meta(gt=0)]
    """Logits are divided by it before the softmax, so that probabilities are calibrated."""
    neutral_band: Annotated[float, msgspec.Meta(ge=0, lt=1)]
    """A two-label model's text is neutral where |P(positive) - P(negative)| is below it."""
    precision: str
    """How the weights are stored, and how they are computed with."""
    opset: int
    base_model: str
    base_licence: str
    trained_on: tuple[TrainingSource, ...]
    metrics: tuple[Metric, ...]
    files: dict[FileName, Sha256]
    libraries: dict[str, str]
    """Versions that trained and exported it."""
    parity: tuple[ParityRecord, ...] = ()
    """By execution provider; empty of bundles that were exported before it was kept."""
    forced: tuple[str, ...] = ()
    """What its export found wrong, where it was forced: such a bundle is promoted by force alone."""
    tail_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Of ``max_length``, how many are a longer text's last ones, its closing special token included."""
    reference: Reference | None = None
    """What its texts and scores looked like at export, for the metrics of drift; None of older bundles."""
    fine_products: tuple[str, ...] = ()
    """Of a model that computes in int8, the linear layers whose activations have 16 bits."""

    @property
    def computes_int8(self) -> bool:
        """Whether its linear layers are products of integers."""
        return "computed int8" in self.precision

    @property
    def computes_half(self) -> bool:
        """Whether it was exported, and compared, to be computed in float16."""
        return "computed float16" in self.precision

    @property
    def is_packed(self) -> bool:
        """Whether its graph takes the padding out, by numbers that are known on the GPU alone."""
        return ", packed," in self.precision


LABEL_SETS: tuple[tuple[Label, ...], ...] = (("negative", "positive"), ("negative", "neutral", "positive"))


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_manifest(path: Path) -> Manifest:
    """Reads a bundle's manifest; its files are not looked at.

    Raises:
        BundleError: there is no such folder, no manifest in it, or it cannot be used.
    """
    return _read_manifest(path)[0]


def _read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """The manifest, and the bytes that it was read from."""
    if not path.is_dir():
        raise BundleError(
            f"There is no bundle folder {path}; name one that is there, in REVIEWPULSE_BUNDLE or here."
        )
    file = path / MANIFEST
    try:
        raw = file.read_bytes()
    except FileNotFoundError:
        raise BundleError(
            f"{path} is not a model bundle: it has no {MANIFEST}; `reviewpulse export` writes one."
        ) from None
    except OSError as error:
        raise BundleError(
            f"{file} cannot be read: {error.strerror or error}; check its permissions."
        ) from None
    try:
        stated = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON ({error}); copy the bundle again or export it anew.") from None
    version = stated.get("format") if isinstance(stated, dict) else None
    if version != FORMAT:
        raise BundleError(
            f"{file} has bundle format {version!r} and this version of Reviewpulse reads format {FORMAT}; "
            "export the model anew or install a matching version."
        )
    try:
        manifest = msgspec.convert(stated, Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(f"{file} is incomplete or wrong: {error}; export the bundle anew.") from None
    if manifest.labels not in LABEL_SETS:
        raise BundleError(
            f"{file} has labels {list(manifest.labels)}; wanted one of {[*map(list, LABEL_SETS)]}."
        )
    if manifest.tail_tokens >= manifest.max_length:
        raise BundleError(
            f"{file} reads {manifest.tail_tokens} tokens of a text's end and {manifest.max_length} in all; "
            "export the bundle anew."
        )
    return manifest, raw


def sign(path: Path, private_key: Path) -> Manifest:
    """Signs a bundle that is whole; an earlier signature is replaced.

    Raises:
        BundleError: as ``verify``.
        UsageError: the key cannot be used, or the signature not be written.
    """
    verify(path)
    manifest, raw = _read_manifest(path)
    line = signature.sign(raw, private_key)
    unfinished = path / f".{signature.SIGNATURE}.new"
    try:
        unfinished.write_bytes(line)
        unfinished.replace(path / signature.SIGNATURE)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}.") from None
    return manifest


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a bundle's manifest in one step, in place of the one there.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    write_whole(path / MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)) + b"\n")


def verify(path: Path, key: Path | None = None) -> Manifest:
    """Checks that a bundle is whole: every file is there and has the checksum its manifest states.

    Args:
        path: its folder.
        key: the public key that its manifest must be signed for; None asks for no signature.

    Raises:
        BundleError: as ``load_manifest``, or a file is missing, unreadable or not the one that was exported;
            or the signature is missing or wrong.
        UsageError: the key cannot be used.
    """
    manifest, raw = _read_manifest(path)
    if key is not None:
        signature.check(path, raw, key)
    for name in REQUIRED:
        if name not in manifest.files:
            raise BundleError(f"{path / MANIFEST} states no checksum of {name}; export the bundle anew.")
    for name, stated in manifest.files.items():
        file = path / name
        try:
            found = sha256(file)
        except FileNotFoundError:
            raise BundleError(f"The bundle {path} lacks {name}; copy it again or export it anew.") from None
        except OSError as error:
            raise BundleError(f"{file} cannot be read: {error.strerror or error}; check it.") from None
        if found != stated:
            raise BundleError(
                f"{file} is not the file that was exported: its checksum differs from {MANIFEST}, so it was "
                "altered or badly copied; copy the bundle again or export it anew."
            )
    return manifest
