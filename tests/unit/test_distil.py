"""Distillation between BERTs of a few tiny layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import tiny_models  # noqa: E402
from transformers import BertModel  # noqa: E402

from models import distil as room  # noqa: E402
from models.checkpoint import (  # noqa: E402
    RECORD,
    TrainingRecord,
    load_checkpoint,
    read_record,
    save_checkpoint,
    write_record,
)
from models.distil import (  # noqa: E402
    DistilOptions,
    distil,
    distillation_loss,
    some_layers,
    teacher_logits,
    unlabelled,
)
from models.examples import Example, PreparedSet  # noqa: E402
from models.finetune import predict  # noqa: E402
from models.fitting import Silent  # noqa: E402
from models.losses import soft_loss  # noqa: E402
from stream.bundle import TrainingSource  # noqa: E402
from stream.errors import UsageError  # noqa: E402

TWO: Any = ("negative", "positive")
QUICK = DistilOptions(
    learning_rate=3e-3,
    head_learning_rate=1e-2,
    epochs=4,
    batch_size=16,
    max_length=32,
    save_minutes=60,
    seeds=(1,),
)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{' '.join(rng.choice(tiny_models.WORDS, 4))} {seed}{at}" for at in range(n)]


def teacher(folder: Path, layers: int = 3, labels: tuple[str, ...] = TWO) -> str:
    tokenizer = tiny_models.wordpiece()
    network = tiny_models.classifier(tokenizer.get_vocab_size(), num_hidden_layers=layers, labels=labels)
    save_checkpoint(network, tokenizer, folder)
    return str(folder)


def prepared(labels: Any = TWO) -> PreparedSet:
    def split(n: int, seed: int) -> list[Example]:
        return [
            Example(
                text=text, target=tuple(float(column == at % len(labels)) for column in range(len(labels)))
            )
            for at, text in enumerate(texts(n, seed))
        ]

    return PreparedSet(labels=labels, splits={"train": split(40, 1), "validation": split(40, 2), "test": []})


class Said:
    def __init__(self, logits: Any) -> None:
        self.logits = torch.tensor(logits)


def test_the_loss_is_divergence_and_hard_labels_in_their_shares() -> None:
    logits, target, taught = [[0.3, -0.2]], [1.0, 0.0], [2.0, 1.0]
    hard = soft_loss(None, 0.0)
    loss = distillation_loss(0.7, 2.0, hard)(Said(logits), torch.tensor([target + taught]))
    said = torch.tensor(logits).div(2).log_softmax(-1)
    wanted = torch.tensor([taught]).div(2).softmax(-1)
    divergence = (wanted * (wanted.log() - said)).sum()
    expected = 0.7 * 4 * divergence + 0.3 * hard(Said(logits), torch.tensor([target]))
    torch.testing.assert_close(loss, expected)


def test_the_loss_of_two_micro_batches_is_that_of_one() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(6, 2)).astype(np.float32)
    labels = torch.tensor(
        np.hstack([np.eye(2)[[0, 1, 0, 1, 1, 0]], rng.normal(size=(6, 2))]), dtype=torch.float32
    )
    loss = distillation_loss(0.5, 2.0, soft_loss(None, 0.0))
    whole = loss(Said(logits), labels)
    count = torch.tensor(labels.numel())
    parts = loss(Said(logits[:2]), labels[:2], count) + loss(Said(logits[2:]), labels[2:], count)
    torch.testing.assert_close(parts, whole)


def test_held_out_and_repeated_texts_are_not_learned_from() -> None:
    data = prepared()
    held = data["validation"][0].text
    assert unlabelled(["new", held, "new", " ", data["train"][0].text], data) == ["new"]
    assert unlabelled(["New", f"{held.upper()} !", held.replace(" ", ",  ")], data) == ["New"]


def test_the_teacher_reads_each_text_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", 4)

    class Counting:
        name, labels, temperature, neutral_band = "t", TWO, 1.0, 0.0
        read = 0

        def logits(self, given: Any) -> Any:
            self.read += len(given)
            return np.array([[len(text), 0] for text in given], np.float32)

    counting = Counting()
    given = texts(10, 1)
    first = teacher_logits(counting, given, tmp_path / "teacher", Silent())
    assert first[:, 0].tolist() == [len(text) for text in given]
    (tmp_path / "teacher" / "00002.safetensors").unlink()
    assert np.array_equal(teacher_logits(counting, given, tmp_path / "teacher", Silent()), first)
    assert counting.read == 12


def test_a_student_of_the_teachers_layers_starts_with_their_weights(tmp_path: Path) -> None:
    source = teacher(tmp_path / "teacher", layers=4)
    whole, _ = load_checkpoint(tmp_path / "teacher", 32)
    student = some_layers(source, 2, TWO)
    assert student.config.num_hidden_layers == 2
    for kept, old in ((0, 0), (1, 3)):
        one = student.bert.encoder.layer[kept].state_dict()
        for name, weight in whole.bert.encoder.layer[old].state_dict().items():
            assert torch.equal(one[name], weight)
    assert torch.equal(student.classifier.weight, whole.classifier.weight)


GOOD, BAD = ("good", "great", "works"), ("bad", "awful", "broke", "refund")


def opinions(n: int, seed: int) -> list[Example]:
    rng = np.random.default_rng(seed)
    return [
        Example(
            text=f"{' '.join(rng.choice(BAD if at % 2 else GOOD, 3))} {seed}{at}",
            target=(float(at % 2), 1.0 - at % 2),
        )
        for at in range(n)
    ]


class Rule:
    """A teacher that counts words."""

    name, labels, temperature, neutral_band = "rule", TWO, 1.0, 0.0

    def logits(self, given: Any) -> Any:
        counts = [[sum(text.count(word) for word in words) for words in (BAD, GOOD)] for text in given]
        return np.array(counts, np.float32)


def test_a_student_learns_from_unlabelled_texts_what_its_teacher_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tiny_models.wordpiece()
    BertModel.save_pretrained(tiny_models.classifier(tokenizer.get_vocab_size()).bert, tmp_path / "base")
    tokenizer.save(str(tmp_path / "base" / "tokenizer.json"))
    monkeypatch.setattr(room, "open_classifier", lambda path: Rule())
    # The four labelled texts would teach little; the teacher is asked about 160.
    data = PreparedSet(labels=TWO, splits={"train": opinions(4, 1), "validation": opinions(40, 2)})
    options = msgspec.structs.replace(
        QUICK, teacher="rule", student=str(tmp_path / "base"), pooling="mean", soft=0.9, epochs=3
    )
    done = distil(data, [each.text for each in opinions(160, 3)], options, tmp_path / "run", Silent())
    student, tokenizer = load_checkpoint(tmp_path / "run" / "checkpoint", 32)
    fresh = opinions(60, 4)
    said = predict(student, tokenizer, [each.text for each in fresh]).argmax(axis=1)
    assert (said == [int(each.target[1]) for each in fresh]).mean() > 0.9
    assert done.record.base_model == "base"


def test_a_students_card_names_what_its_teacher_and_the_unlabelled_texts_were(tmp_path: Path) -> None:
    source = teacher(tmp_path / "teacher")
    learned = TrainingSource(name="letters", licence="MIT", rows=7)
    file = Path(source) / RECORD
    record = TrainingRecord(
        name="t",
        languages=("en",),
        base_model="tiny",
        base_licence="MIT",
        max_length=32,
        temperature=1.0,
        neutral_band=0.0,
        trained_on=(learned,),
        metrics=(),
        caveats=(),
    )
    write_record(record, file)
    options = msgspec.structs.replace(QUICK, teacher=source, layers=2, texts=("chats/april.txt",), epochs=1)
    done = distil(prepared(), ["a text of its own"], options, tmp_path / "run", Silent())
    own, *rest = done.record.trained_on
    assert own.rows == len(prepared()["train"])
    assert rest == [
        learned,
        TrainingSource(name="Unlabelled texts: april.txt", licence="not stated", rows=1),
    ]


def test_a_distillation_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    options = msgspec.structs.replace(
        QUICK, teacher=teacher(tmp_path / "teacher"), layers=2, epochs=2, save_steps=2
    )

    class PowerCut(Exception):  # noqa: N818
        pass

    class Cutter(Silent):
        def step(self, step: int, steps: int, loss: float | None) -> None:
            if step == 5 and steps < 40:
                raise PowerCut

    with pytest.raises(PowerCut):
        distil(prepared(), texts(60, 3), options, tmp_path / "cut", Cutter())
    distil(prepared(), texts(60, 3), options, tmp_path / "cut", Silent())
    distil(prepared(), texts(60, 3), options, tmp_path / "whole", Silent())
    one, _ = load_checkpoint(tmp_path / "cut" / "checkpoint", 32)
    assert one.config.num_hidden_layers == 2
    assert read_record(tmp_path / "cut" / "checkpoint").base_model == "teacher, 2 of its 3 layers"
    other, _ = load_checkpoint(tmp_path / "whole" / "checkpoint", 32)
    for name, weight in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], weight, rtol=1e-5, atol=1e-6)


def test_students_and_teachers_that_do_not_fit_get_a_sentence(tmp_path: Path) -> None:
    source = teacher(tmp_path / "teacher")
    three: Any = ("negative", "neutral", "positive")
    for changes, said in (
        ({}, "Name the student"),
        ({"layers": 3}, r"The teacher has 3 layers; --layers must be from 1 to 2"),
        ({"layers": 2, "student": source}, "one of both"),
    ):
        options = msgspec.structs.replace(QUICK, teacher=source, **changes)
        with pytest.raises(UsageError, match=said):
            distil(prepared(), [], options, tmp_path / "run", Silent())
    options = msgspec.structs.replace(QUICK, teacher=source, layers=2)
    with pytest.raises(UsageError, match=r"tells negative, positive apart"):
        distil(prepared(three), [], options, tmp_path / "run", Silent())
