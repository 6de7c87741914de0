"""Bundles that compute in int8: the graph, its calibration, the command, and where it is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("torch")

import onnxruntime
import tiny_models
import torch
from typer.testing import CliRunner

from export import calibrate
from export.bundle import write_bundle
from export.calibrate import modules_of, observe, round_network, rounded_rows, sensitivities, worst
from export.cpu_graph import recast
from export.int8_graph import Int8, Product, write_probe
from export.onnx import export_onnx
from export.parity import COMPUTED_INT8, beyond
from export.rounding import nearest
from models.checkpoint import load_checkpoint, save_checkpoint
from stream import bundle
from stream.cli.main import command_line
from stream.errors import DependencyError, UsageError
from stream.scorer import integers
from stream.scorer.load import load_scorer
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WORDS = ["good battery", "awful, it broke", "great player", "bad refund 9", "works", "rare the battery"]
TEXTS = [f"{WORDS[n % 6]} {WORDS[n * 5 % 6]} {n}" for n in range(60)]
LENGTH = 40
RECORD = tiny_models.record(LENGTH)


def network(**changes: Any) -> Any:
    return tiny_models.mean_pooled(tiny_models.wordpiece().get_vocab_size(), **changes)


def tokenizer() -> Any:
    made = tiny_models.wordpiece()
    made.enable_truncation(LENGTH)
    return made


@pytest.fixture(scope="module")
def products() -> dict[str, Product]:
    return round_network(network(), tokenizer(), TEXTS, fine_share=0.4)


@pytest.fixture(scope="module")
def graph(products: dict[str, Product], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A session of the graph that computes in int8."""
    folder = tmp_path_factory.mktemp("graph")
    export_onnx(network(), folder / "plain.onnx")
    assert recast(folder / "plain.onnx", folder / "int8.onnx", Int8(products))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        str(folder / "int8.onnx"), options, providers=["CPUExecutionProvider"]
    )


def said(session: Any, texts: list[list[int]], width: int = 0) -> np.ndarray:
    """Logits of texts as one batch, padded to the longest of them, and to ``width`` at least."""
    width = max(width, *map(len, texts))
    ids = np.array([[*ids, *[0] * (width - len(ids))] for ids in texts], np.int64)
    mask = np.array([[1] * len(ids) + [0] * (width - len(ids)) for ids in texts], np.int64)
    return session.run(None, {"input_ids": ids, "attention_mask": mask})[0]


def some_ids() -> list[list[int]]:
    chance = np.random.default_rng(5)
    return [chance.integers(4, 60, n).tolist() for n in (3, 40, 11, 25, 7, 40, 1, 18)]


class InPlace:
    """A linear layer computed in numpy as the graph computes it."""

    def __init__(self, of: Any, name: str, products: Mapping[str, Product]) -> None:
        self.layer, self.product, self.value = of.get_submodule(name), products[name], None
        if name.endswith("attention.output.dense"):
            self.value = of.get_submodule(name.replace("output.dense", "self.value"))

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        bias = self.layer.bias
        if self.value is not None:  # the values' bias comes afterwards, unrounded
            tokens, bias = tokens - self.value.bias, bias + self.value.bias @ self.layer.weight.T
        rows = tokens.detach().numpy().reshape(-1, tokens.shape[-1])
        out = torch.from_numpy(rounded_rows(rows, self.product))
        return out.reshape(*tokens.shape[:-1], -1) + bias


def in_integers(products: Mapping[str, Product]) -> Any:
    """The network in torch, its linear layers in numpy."""
    made = network()
    for name in products:
        made.get_submodule(name).forward = InPlace(network(), name, products)
    return made


def test_the_graph_says_what_the_same_integers_say_in_numpy(graph: Any, products: dict[str, Product]) -> None:
    reference = in_integers(products)
    for ids in some_ids():
        with torch.inference_mode():
            wanted = reference(input_ids=torch.tensor([ids])).logits.numpy()
        # A step more or less here and there: float32 rounding before the integers is another one in torch.
        np.testing.assert_allclose(said(graph, [ids]), wanted, atol=0.02)


def test_it_says_nearly_what_the_network_says(graph: Any) -> None:
    of = network()
    with torch.inference_mode():
        wanted = np.concatenate([of(input_ids=torch.tensor([ids])).logits.numpy() for ids in some_ids()])
    found = np.concatenate([said(graph, [ids]) for ids in some_ids()])
    assert np.abs(found - wanted).max() < 0.05 * np.ptp(wanted)


def test_batch_mates_and_their_order_change_nothing_at_all(graph: Any) -> None:
    chance = np.random.default_rng(6)
    texts = chance.integers(4, 60, (9, 23)).tolist()
    alone = np.concatenate([said(graph, [ids]) for ids in texts])
    np.testing.assert_array_equal(said(graph, texts), alone)
    np.testing.assert_array_equal(said(graph, texts[::-1])[::-1], alone)


def test_padding_changes_what_float32_rounding_in_the_attention_does(graph: Any) -> None:
    texts = some_ids()
    alone = np.concatenate([said(graph, [ids]) for ids in texts])
    padded = np.concatenate([said(graph, [ids], 64) for ids in texts])
    for other in (padded, said(graph, texts), said(graph, texts[::-1])[::-1]):
        np.testing.assert_allclose(other, alone, atol=1e-5)


def test_fine_products_are_the_more_exact_ones(products: dict[str, Product]) -> None:
    chance = np.random.default_rng(1)
    for product in products.values():
        rows = chance.normal(size=(50, len(product.rounded.steps))).astype(np.float32)
        if product.offset is not None:
            rows = np.maximum(rows, np.float32(-0.17))
        smooth = 1 if product.smoothing is None else product.smoothing
        wanted = (rows / smooth) @ product.rounded.weight
        coarse, fine = (
            np.abs(rounded_rows(rows, product._replace(fine=each)) - wanted).max() for each in (False, True)
        )
        assert fine < coarse / 50


def test_products_of_the_same_inputs_share_their_steps(graph: Any, products: dict[str, Product]) -> None:
    made = [products[f"bert.encoder.layer.0.attention.self.{name}"] for name in ("query", "key", "value")]
    assert all((each.smoothing == made[0].smoothing).all() for each in made)
    last = products["bert.encoder.layer.1.output.dense"]
    assert last.smoothing is None
    assert last.offset is not None
    assert last.offset >= 0.17


def test_calibration_sees_every_token_and_no_padding() -> None:
    of, texts = network(), TEXTS[:9]
    encoded = [each.ids for each in tokenizer().encode_batch_fast(texts)]
    name = "bert.encoder.layer.0.attention.self.query"
    seen = observe(of, tokenizer(), texts, [(name,)])[name]
    rows = []
    hook = of.get_submodule(name).register_forward_pre_hook(
        lambda _, inputs: rows.append(inputs[0][0].detach())
    )
    with torch.inference_mode():
        for ids in encoded:
            of(input_ids=torch.tensor([ids]))
    hook.remove()
    every = torch.cat(rows).numpy()
    np.testing.assert_allclose(seen.hessian, every.T @ every, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(seen.largest, np.abs(every).max(axis=0), rtol=1e-4)


def test_the_products_made_fine_are_those_that_move_scores_most_for_their_work() -> None:
    made = {
        name: Product(nearest(np.ones((rows, 2), np.float32)))
        for name, rows in (("a", 10), ("b", 10), ("c", 40), ("d", 40))
    }
    errors = {"a": 1.0, "b": 3.0, "c": 8.0, "d": 2.0}
    assert worst(errors, made, 0.1) == ["b"]
    assert worst(errors, made, 0.5) == ["b", "c"]
    assert worst(errors, made, 0) == []
    assert len(worst(errors, made, 1)) == 4


def test_the_error_of_one_product_is_what_rounding_it_alone_does(products: dict[str, Product]) -> None:
    name = "bert.encoder.layer.1.output.dense"
    product = products[name]._replace(fine=False)
    exact = InPlace(network(), name, {name: product._replace(fine=True)})
    rough = InPlace(network(), name, {name: product})
    moved = []
    for text in TEXTS[:20]:
        ids = torch.tensor([tokenizer().encode(text).ids])
        margins = []
        for forward in (exact, rough):
            of = network()
            of.get_submodule(name).forward = forward
            with torch.inference_mode():
                margins.append(float(of(input_ids=ids).logits.diff().abs()))
        moved.append(margins[1] - margins[0])
    found = sensitivities(network(), tokenizer(), TEXTS[:20], {name: product})
    assert found[name] == pytest.approx(np.square(moved).mean(), rel=0.3)


def checkpoint(folder: Path, **changes: Any) -> Path:
    save_checkpoint(network(**changes), tiny_models.wordpiece(), folder, RECORD)
    return folder


def export(tmp_path: Path, *options: str, **changes: Any) -> Any:
    """The command, on texts that calibration shares in part."""
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS[:30]))
    (tmp_path / "others.txt").write_text("\n".join(TEXTS[20:]))
    given = ["export", str(checkpoint(tmp_path / "c", **changes)), "--out", str(tmp_path / "b")]
    return CliRunner().invoke(command_line(), [*given, "--texts", str(tmp_path / "texts.txt"), *options])


def test_the_command_exports_what_computes_in_int8_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    before = calibrate.observe

    def listening(of: Any, its: Any, texts: Any, modules: Any) -> Any:
        read.extend(texts)
        return before(of, its, texts, modules)

    monkeypatch.setattr(calibrate, "observe", listening)
    answer = export(tmp_path, "--compute", "int8", "--calibrate", str(tmp_path / "others.txt"), "--force")
    assert answer.exit_code == 0, answer.output
    assert read == TEXTS[30:]  # those that are compared on are left out
    manifest = bundle.verify(tmp_path / "b")
    assert manifest.precision == "stored int8 and float16, computed int8, a scale for each row"
    assert manifest.computes_int8
    assert manifest.fine_products == ()  # of so small a network, one is more than its share
    parity = json.loads(answer.stdout)["parity"]
    assert max(parity["batch_difference"], parity["padding_difference"]) < 1e-6
    assert load_scorer(load(bundle=tmp_path / "b", provider="auto")).provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--compute", "int8"], "wants texts like those to come: name them with --calibrate"),
        (["--calibrate", "x.txt"], "--calibrate is for --compute int8"),
        (["--compute", "int8", "--calibrate", "x.txt", "--target", "cuda"], "--compute int8 is for CPUs"),
        (["--compute", "int8", "--calibrate", "{texts}"], "that are not compared on, too"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    options = [each.format(texts=tmp_path / "texts.txt") for each in options]
    answer = export(tmp_path, *options)
    assert isinstance(answer.exception, UsageError)
    assert sentence in str(answer.exception)
    assert not (tmp_path / "b").exists()


def test_another_architecture_is_one_sentence(tmp_path: Path) -> None:
    others = ["--compute", "int8", "--calibrate", str(tmp_path / "others.txt")]
    answer = export(tmp_path, *others, pooling="first")
    assert isinstance(answer.exception, UsageError)
    assert "export it with --compute float32" in str(answer.exception)
    with pytest.raises(UsageError, match=r"this checkpoint is a bert;"):
        modules_of(tiny_models.classifier(60))
    assert not (tmp_path / "b").exists()


def test_computing_in_int8_has_its_own_tolerance() -> None:
    found = bundle.ParityRecord(
        provider="CPUExecutionProvider",
        texts=500,
        lengths=(3, 20, 40),
        max_logit_difference=0.5,
        max_probability_difference=0.12,
        mean_probability_difference=0.002,
        label_agreement=0.996,
        batch_difference=0.0,
        padding_difference=0.0,
    )
    assert beyond(found, "float16", "int8") == []
    assert len(beyond(found, "float16")) == 2
    import msgspec  # noqa: PLC0415  # here alone

    worse = msgspec.structs.replace(
        found, max_probability_difference=COMPUTED_INT8 + 0.01, label_agreement=0.99
    )
    difference, labels = beyond(worse, "float16", "int8")
    assert "computing in int8 allows 0.15" in difference
    assert "Calibrate it on more texts" in labels


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    """A bundle that computes in int8."""
    write_bundle(
        *load_checkpoint(checkpoint(tmp_path / "c"), LENGTH),
        RECORD,
        tmp_path / "b",
        parity_texts=TEXTS[:9],
        calibrate=TEXTS[9:],
        fine_share=0.4,
        force=True,
    )
    return tmp_path / "b"


def test_manifest_and_card_name_what_is_fine(exported: Path) -> None:
    fine, card = bundle.verify(exported).fine_products, (exported / bundle.CARD).read_text()
    assert fine
    assert set(fine) < {name for group in modules_of(network()) for name in group}
    assert "It is for CPUs; on x86 it needs VNNI." in card
    assert f"With activations of 16 bits: {', '.join(fine)}." in card


def test_where_integer_products_saturate_it_is_not_loaded(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integers, "is_exact", lambda: False)
    with pytest.raises(
        DependencyError, match=r"products .* saturate .* Export the bundle with --compute float32"
    ):
        load_scorer(load(bundle=exported))


def test_a_gpu_that_is_demanded_is_not_for_it(exported: Path) -> None:
    with pytest.raises(DependencyError, match=r"computes in int8, which is for CPUs"):
        load_scorer(load(bundle=exported, provider="cuda"))


def test_the_probe_is_the_model_that_export_writes_and_saturation_would_show(tmp_path: Path) -> None:
    write_probe(tmp_path / "probe.onnx")
    assert (tmp_path / "probe.onnx").read_bytes() == integers.PROBE.read_bytes()
    weight = integers.probe_weight().astype(np.int64)
    # What VPMADDUBSW does: two neighbours are added in 16 bits, and no further than their ends.
    for step in (255, 254):
        pairs = step * (weight[::2] + weight[1::2])
        assert (np.clip(pairs, -(2**15), 2**15 - 1) != pairs).any(axis=0).sum() >= 16
