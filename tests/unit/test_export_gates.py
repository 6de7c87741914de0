"""What can be exported, and what is said of what cannot: families, the parity gate, bad input."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

import onnx
import tiny_models
import torch
import transformers
from typer.testing import CliRunner

import export.bundle as room
from export.bundle import write_bundle
from export.parity import RUNGS, Sample, beyond, of_every_length
from models.checkpoint import CONFIG, TOKENIZER, load_checkpoint, save_checkpoint
from models.classifier import open_classifier
from stream import bundle
from stream.cli.main import command_line
from stream.errors import BundleError, ReviewpulseError, UsageError
from stream.scorer.load import load_scorer
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXTS = [
    "good",
    "the battery broke, awful!",
    "great player, works.",
    "bad refund",
    "rare 123. " * 30,
    "",
    "ok",
]
LENGTH = 24
RECORD = tiny_models.record(LENGTH)
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 64,
}
DISTILLED = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64}


def network_of(family: str, entries: int, pad_id: int, **changes: Any) -> Any:
    """A random classifier of a family whose labels are in another order than ours."""
    torch.manual_seed(3)
    names = {0: "positive", 1: "negative"}
    stated = {
        **(DISTILLED if family == "distilbert" else SIZES),
        "vocab_size": entries,
        "pad_token_id": pad_id,
        "id2label": names,
        "label2id": {name: column for column, name in names.items()},
        **({"embedding_size": 16} if family == "electra" else {}),
        **changes,
    }
    config = transformers.AutoConfig.for_model(family, **stated)
    network = transformers.AutoModelForSequenceClassification.from_config(config)
    for parameter in network.parameters():
        parameter.data *= 3  # else all texts are alike to it
    return network.eval()


def checkpoint(folder: Path, family: str = "bert", **changes: Any) -> Path:
    tokenizer, pad_id = tiny_models.wordpiece(), 0
    if "roberta" in family:
        tokenizer, pad_id = tiny_models.unigram(), 1
    network = network_of(family, tokenizer.get_vocab_size(), pad_id, **changes)
    save_checkpoint(network, tokenizer, folder, RECORD)
    return folder


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "distilbert", "electra"])
def test_a_checkpoint_of_each_family_becomes_a_bundle_that_says_the_same(tmp_path: Path, family: str) -> None:
    folder = checkpoint(tmp_path / "c", family)
    network, tokenizer = load_checkpoint(folder, LENGTH)
    done = write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage="float32")
    served, trained = open_classifier(tmp_path / "b"), open_classifier(folder)
    logits = trained.logits(TEXTS)
    np.testing.assert_allclose(served.logits(TEXTS), logits, atol=1e-4)
    assert np.ptp(logits[:, 0]) > 1e-3  # texts differ, so that a graph that reads none would show
    said = CliRunner().invoke(command_line(), ["bundle", "verify", str(tmp_path / "b"), "--json"])
    assert said.exit_code == 0, said.output
    assert [each["name"] for each in json.loads(said.stdout)["checks"]] == ["files", "loads", "scores"]
    (parity,) = bundle.verify(tmp_path / "b").parity
    assert parity == done.parity
    assert (parity.provider, parity.texts, parity.lengths[2]) == ("CPUExecutionProvider", 7 + RUNGS, LENGTH)
    assert max(parity.batch_difference, parity.padding_difference) < 1e-5
    assert parity.max_logit_difference < 1e-4


def test_every_length_is_among_the_texts_compared() -> None:
    tokenizer = tiny_models.wordpiece()
    tokenizer.enable_truncation(LENGTH)
    made = of_every_length(["good battery broke", "works!"], tokenizer, LENGTH)
    lengths = [len(tokenizer.encode(text).ids) for text in made]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1], len(set(lengths))) == (3, LENGTH, RUNGS)
    assert of_every_length([""], tokenizer, LENGTH) == []


def labelled(number: int) -> Sample:
    some = ["good battery", "awful, it broke", "great player", "bad refund 9"]
    texts = [f"{some[n % 4]} {n}" for n in range(number)]
    return Sample(texts, ["positive" if n % 2 == 0 else "negative" for n in range(number)])


def test_where_texts_have_labels_accuracy_and_calibration_are_compared(tmp_path: Path) -> None:
    network, tokenizer = load_checkpoint(checkpoint(tmp_path / "c"), LENGTH)
    done = write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=labelled(120))
    assert done.parity.labelled == 120
    assert done.parity.accuracy
    assert done.parity.accuracy[0] == pytest.approx(done.parity.accuracy[1], abs=0.02)
    assert "On the 120 with a label, accuracy goes from" in (tmp_path / "b" / bundle.CARD).read_text()
    few = write_bundle(network, tokenizer, RECORD, tmp_path / "few", parity_texts=labelled(20))
    assert few.parity.accuracy is None


PARITY = bundle.ParityRecord(
    provider="CPUExecutionProvider",
    texts=100,
    lengths=(2, 10, 24),
    max_logit_difference=0.0,
    max_probability_difference=0.0,
    mean_probability_difference=0.0,
    label_agreement=1.0,
    batch_difference=0.0,
    padding_difference=0.0,
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_probability_difference": 2e-4}, "by 0.0002 in a probability"),
        ({"max_logit_difference": 0.002}, "by 0.002 in a logit"),
        ({"label_agreement": 0.99}, "gives 99.00% of the texts the label"),
        ({"batch_difference": 2e-5}, "depend on batch mates by 2e-05"),
        ({"padding_difference": 2e-5}, "depend on padding by 2e-05"),
        ({"accuracy": (0.91, 0.904)}, "Accuracy falls from 0.9100 to 0.9040"),
        ({"calibration": (0.02, 0.031)}, "calibration error rises from 0.0200 to 0.0310"),
    ],
)
def test_each_tolerance_is_a_sentence_of_its_own(changes: dict[str, Any], said: str) -> None:
    assert beyond(PARITY, "float32") == []
    (why,) = beyond(msgspec.structs.replace(PARITY, **changes), "float32")
    assert said in why
    assert "CPUExecutionProvider" in why


def test_what_is_outside_a_tolerance_is_written_by_force_alone_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, tokenizer = load_checkpoint(checkpoint(tmp_path / "c"), LENGTH)
    stranger = network_of("bert", tokenizer.get_vocab_size(), 0)
    stranger.classifier.weight.data *= -1
    exported = room.export_onnx
    monkeypatch.setattr(room, "export_onnx", lambda _, path, **options: exported(stranger, path, **options))
    with pytest.raises(BundleError, match=r"differs .* in a logit .* No bundle was written"):
        write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage="float32")
    assert [each.name for each in tmp_path.iterdir()] == ["c"]
    done = write_bundle(
        network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage="float32", force=True
    )
    assert any("in a logit" in why for why in done.manifest.forced)
    assert "**Its export was forced.**" in (tmp_path / "b" / bundle.CARD).read_text()
    assert bundle.verify(tmp_path / "b").forced == done.manifest.forced


def test_the_version_changes_with_the_temperature_though_the_model_does_not(tmp_path: Path) -> None:
    network, tokenizer = load_checkpoint(checkpoint(tmp_path / "c"), LENGTH)
    calibrated = msgspec.structs.replace(RECORD, temperature=1.3)
    one, other = (
        write_bundle(network, tokenizer, record, tmp_path / name, parity_texts=TEXTS).manifest
        for name, record in (("a", RECORD), ("b", calibrated))
    )
    assert one.files[bundle.MODEL] == other.files[bundle.MODEL]
    assert one.version != other.version


# ---- Bad input


def restate(folder: Path, **changes: Any) -> None:
    file = folder / CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def of_another_kind(folder: Path) -> None:
    restate(folder, model_type="gpt2", architectures=["GPT2ForSequenceClassification"])


def no_classifier(folder: Path) -> None:
    restate(folder, architectures=["BertForMaskedLM"])


def labels_missing(folder: Path) -> None:
    restate(folder, id2label={"0": "LABEL_0", "1": "LABEL_1"}, label2id={"LABEL_0": 0, "LABEL_1": 1})


def labels_not_ours(folder: Path) -> None:
    restate(folder, id2label={"0": "angry", "1": "happy"}, label2id={"angry": 0, "happy": 1})


def tokenizer_too_large(folder: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    tokenizer.add_tokens([f"word{n}" for n in range(50)])
    tokenizer.save(str(folder / TOKENIZER))


def tokenizer_of_another(folder: Path) -> None:
    """Of as many entries, and with its padding elsewhere."""
    stated = json.loads((folder / TOKENIZER).read_text())
    words = stated["model"]["vocab"]
    words["[PAD]"], words["[unused0]"] = words["[unused0]"], words["[PAD]"]
    for each in stated["added_tokens"]:
        each["id"] = words[each["content"]]
    (folder / TOKENIZER).write_text(json.dumps(stated))


def no_tokenizer(folder: Path) -> None:
    (folder / TOKENIZER).unlink()


def too_long(folder: Path) -> None:
    file = folder / "training.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"max_length": 512}))


def no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def torn_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:5000])


def other_columns(folder: Path) -> None:
    names = {"0": "negative", "1": "neutral", "2": "positive"}
    restate(folder, id2label=names, label2id={name: int(n) for n, name in names.items()})


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (of_another_kind, "is of kind gpt2, which cannot be exported; wanted one of BERT"),
        (no_classifier, "is a BertForMaskedLM, and no classifier of texts"),
        (labels_missing, "does not say which of its 2 columns means what"),
        (labels_not_ours, "tells angry, happy apart; wanted one of"),
        (tokenizer_too_large, "does not match the network: its ids go to"),
        (tokenizer_of_another, "does not match the network: its padding has id 1"),
        (no_tokenizer, "is not a tokenizer"),
        (too_long, "is to read 512 tokens of a text and its network has 64 positions"),
        (no_weights, "holds no network that can be read"),
        (torn_weights, "holds no network that can be read"),
        (other_columns, "holds no network that can be read"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_half_written(
    tmp_path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    folder = checkpoint(tmp_path / "c")
    spoil(folder)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    given = ["export", str(folder), "--out", str(tmp_path / "b"), "--texts", str(tmp_path / "texts.txt")]
    result = CliRunner().invoke(command_line(), given)
    assert isinstance(result.exception, ReviewpulseError), result.exception
    assert result.exception.exit_code == 2
    message = str(result.exception)
    assert said in message
    assert "\n" not in message
    assert len(message) < 400
    assert sorted(each.name for each in tmp_path.iterdir()) == ["c", "texts.txt"]


def test_columns_without_names_are_named_on_the_command_line(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c")
    trained = open_classifier(folder).logits(TEXTS)
    labels_missing(folder)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    given = ["export", str(folder), "--out", str(tmp_path / "b"), "--texts", str(tmp_path / "texts.txt")]
    said = CliRunner().invoke(
        command_line(), [*given, "--labels", "positive,negative", "--storage", "float32"]
    )
    assert said.exit_code == 0, said.output
    np.testing.assert_allclose(open_classifier(tmp_path / "b").logits(TEXTS), trained, atol=1e-4)
    said = CliRunner().invoke(command_line(), [*given, "--labels", "negative,positive,neutral"])
    assert "has 2 columns and --labels names 3" in str(said.exception)
    said = CliRunner().invoke(command_line(), [*given, "--labels", "good,bad"])
    assert "--labels good,bad: wanted each of" in str(said.exception)


def test_a_vocabulary_far_larger_than_its_tokenizer_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    network = network_of("bert", 2 * tokenizer.get_vocab_size(), 0)
    with pytest.raises(UsageError, match=r"it knows \d+ entries of a vocabulary of \d+"):
        write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS)


def exported(tmp_path: Path) -> Path:
    network, tokenizer = load_checkpoint(checkpoint(tmp_path / "c"), LENGTH)
    write_bundle(network, tokenizer, RECORD, tmp_path / "b", parity_texts=TEXTS, storage="float32")
    return tmp_path / "b"


def rewrite(folder: Path, name: str, content: bytes) -> None:
    """Another file in a bundle, and checksums that agree: what only loading can find."""
    (folder / name).write_bytes(content)
    file = folder / bundle.MANIFEST
    stated = json.loads(file.read_text())
    stated["files"][name] = bundle.sha256(folder / name)
    file.write_text(json.dumps(stated))


@pytest.mark.parametrize(
    ("part", "said"), [("opset", "is of ONNX opset 99"), ("ir", "is of ONNX IR version 99")]
)
def test_a_model_that_is_too_new_for_the_runtime_is_one_sentence(
    tmp_path: Path, part: str, said: str
) -> None:
    folder = exported(tmp_path)
    model = onnx.load(str(folder / bundle.MODEL))
    if part == "opset":
        model.opset_import[0].version = 99
    else:
        model.ir_version = 99
    rewrite(folder, bundle.MODEL, model.SerializeToString())
    with pytest.raises(BundleError, match=said) as caught:
        load_scorer(load(bundle=folder, provider="cpu"))
    assert "install a newer one" in str(caught.value)
    assert "\n" not in str(caught.value)
    told = CliRunner().invoke(command_line(), ["bundle", "verify", str(folder), "--json"])
    assert told.exit_code == 1
    checks = json.loads(told.stdout)["checks"]
    assert [(each["name"], each["ok"]) for each in checks] == [("files", True), ("loads", False)]


def test_a_tokenizer_that_knows_more_than_its_model_is_not_loaded(tmp_path: Path) -> None:
    folder = exported(tmp_path)
    tokenizer_too_large(folder)
    rewrite(folder, bundle.TOKENIZER, (folder / bundle.TOKENIZER).read_bytes())
    with pytest.raises(BundleError, match=r"does not match model.onnx: the model does not know its id \d+"):
        load_scorer(load(bundle=folder, provider="cpu"))
