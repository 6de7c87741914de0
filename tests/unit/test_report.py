"""Evaluations, their baseline and the page made of them."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")
pytest.importorskip("jinja2")

from typer.testing import CliRunner
from word_counter import WordCounter

from models import baseline, classifier
from models.checkpoint import TrainingRecord, keep_figures, read_record, write_record
from models.classifier import probabilities
from models.evaluate import Evaluation, evaluate, for_card
from models.examples import Example, PreparedSet, write_prepared
from models.report import html
from stream.bundle import Metric
from stream.cli.main import command_line
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from stream.core.events import Label

TWO: tuple[Label, ...] = ("negative", "positive")
THREE: tuple[Label, ...] = ("negative", "neutral", "positive")
HOSTILE = '<script>alert(1)</script> good \u202egnp.exe\x07 & "quoted" $x_1$'


def example(text: str, positive: bool, **known: object) -> Example:
    return Example(text=text, target=(0.0, 1.0) if positive else (1.0, 0.0), **known)  # type: ignore[arg-type]


def examples(n: int = 40) -> list[Example]:
    """Half of each label, all told by a word, save one that says the opposite."""
    made = [example(f"good {at}" if at % 2 else f"bad {at}", bool(at % 2), language="en") for at in range(n)]
    return [*made, example(HOSTILE, False, language="en", category="<b>toys</b>", stars=1.0, source="shop")]


def measured(**changes: object) -> Evaluation:
    return evaluate(WordCounter(**changes), examples(), name="a set", draws=50)  # type: ignore[arg-type]


# --- evaluation -------------------------------------------------------------------------------------------


def test_an_evaluation_has_the_figures_of_what_was_said() -> None:
    found = measured()
    assert found.set.rows == 41
    assert found.set.rows_by_label == {"negative": 21, "positive": 20}
    assert found.figures["accuracy"].value == pytest.approx(40 / 41)
    assert found.confusion == ((20, 1), (0, 20))
    [mistake] = found.mistakes
    assert (mistake.row, mistake.said, mistake.truth, mistake.text) == (40, "positive", "negative", HOSTILE)
    assert mistake.confidence == pytest.approx(np.exp(1) / (1 + np.exp(1)))


def test_an_evaluation_is_the_same_after_json() -> None:
    found = measured(neutral_band=0.1)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Evaluation) == found


def test_the_most_confident_mistake_comes_first() -> None:
    texts = [
        example("bad", True),
        example("bad bad bad", True),
        example("bad bad", True),
        example("bad", False),
    ]
    assert [each.row for each in evaluate(WordCounter(), texts, draws=10).mistakes] == [1, 2, 0]


def test_three_labels_are_measured_each_against_the_rest() -> None:
    targets = {"bad": (1.0, 0.0, 0.0), "it is": (0.0, 1.0, 0.0), "good": (0.0, 0.1, 0.9)}
    texts = [Example(text=text, target=target) for text, target in targets.items()] * 4
    found = evaluate(WordCounter(labels=THREE), texts, draws=20)
    assert found.figures["accuracy"].value == 1
    assert [each.label for each in found.curves] == list(THREE)
    assert "said neutral" in html(found)


def test_labels_that_do_not_match_are_named() -> None:
    with pytest.raises(
        UsageError, match=r"tells negative, neutral, positive apart, and a set has the labels"
    ):
        evaluate(WordCounter(labels=THREE), examples(), name="a set")


def test_an_empty_split_is_named() -> None:
    with pytest.raises(UsageError, match=r"The split 'test' of a set is empty"):
        evaluate(WordCounter(), [], name="a set")


# --- the baseline -----------------------------------------------------------------------------------------

GOOD = ["great", "love it", "works well", "很好", "很满意", "不错"]
BAD = ["awful", "broke", "want a refund", "很差", "不满意", "太烂"]


def prepared(labels: tuple[Label, ...] = TWO) -> PreparedSet:
    rng = np.random.default_rng(0)
    splits = {}
    for split, n in (("train", 200), ("validation", 40), ("test", 60)):
        made = []
        for at in range(n):
            positive = bool(rng.random() < 0.5)
            words = " ".join(rng.choice(GOOD if positive else BAD, 2))
            made.append(example(f"{split} {at} {words}", positive, language="en"))
        splits[split] = made
    return PreparedSet(labels=labels, splits=splits)  # type: ignore[arg-type]


def test_the_baseline_learns_words_of_both_scripts() -> None:
    fitted = baseline.fit(prepared())
    said = probabilities(fitted, ["it broke", "love it", "质量很差", "很满意", "不满意"])
    assert (said[:, 1] > 0.5).tolist() == [False, True, False, True, False]
    assert fitted.logits([]).shape == (0, 2)


def test_the_baseline_gives_a_label_it_never_saw_no_chance() -> None:
    three = [
        msgspec.structs.replace(each, target=(each.target[0], 0.0, each.target[1]))
        for each in prepared()["train"]
    ]
    fitted = baseline.fit(PreparedSet(labels=THREE, splits={"train": three, "validation": [], "test": []}))
    assert probabilities(fitted, ["great", "awful"])[:, 1].max() < 1e-6


def test_a_baseline_of_one_class_is_refused() -> None:
    one = PreparedSet(labels=TWO, splits={"train": [example("good", True)], "validation": [], "test": []})
    assert not baseline.can_learn(one)
    with pytest.raises(UsageError, match=r"the train split has only 'positive'"):
        baseline.fit(one)


# --- the page ---------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Tags, ids and attributes of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.values: list[str] = []
        self.words = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.values += [value or "" for name, value in attrs if name not in {"d", "xmlns:xlink", "xmlns"}]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def page() -> str:
    return html(measured())


def test_a_text_cannot_become_markup(page: str) -> None:
    assert "script" not in Page(page).tags
    assert "<b>toys" not in page
    assert '<script>alert(1)</script> good \\u202egnp.exe\\x07 & "quoted" $x_1$' in Page(page).words
    assert "\u202e" not in page


def test_a_hostile_name_cannot_become_markup() -> None:
    rows = examples()
    found = evaluate(
        WordCounter(name="<img src=x onerror=alert(1)>"), rows, name="</title><script>", draws=20
    )
    tags = Page(html(found)).tags
    assert "img" not in tags
    assert "script" not in tags


def test_the_page_loads_nothing_and_its_ids_are_its_own(page: str) -> None:
    read = Page(page)
    assert not {"link", "script", "img", "iframe", "object"} & {*read.tags}
    assert not [value for value in read.values if re.search(r"https?:|//", value)]
    assert len(read.ids) == len(set(read.ids))
    assert read.tags.count("svg") == 3


def test_the_page_takes_its_colours_from_its_variables(page: str) -> None:
    drawings = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    assert "var(--first)" in drawings
    assert set(re.findall(r"#[0-9a-fA-F]{6}\b", drawings)) <= {"#ffffff"}


def test_the_same_evaluation_gives_the_same_page(page: str) -> None:
    assert html(measured()) == page


def test_sentences_of_the_page_are_apart(page: str) -> None:
    words = Page(page).words
    assert "20 positive. Small figures" in words
    assert "true negative · row 40" in words


def test_the_page_shows_the_baseline_beside_the_model() -> None:
    whole = prepared()
    model, beside = (
        evaluate(each, whole["test"], name="a set", draws=50)
        for each in (WordCounter(("great", "很好"), ("awful", "很差")), baseline.fit(whole))
    )
    words = Page(html(msgspec.structs.replace(model, baseline=beside))).words
    assert "TF-IDF + logistic regression" in words
    assert "No baseline" not in words
    assert "No baseline" in Page(html(model)).words


def test_a_model_without_mistakes_or_curves_has_a_page_too() -> None:
    found = evaluate(WordCounter(), [example("good", True)] * 3, draws=10)
    words = Page(html(found)).words
    assert "There are none." in words
    assert "ROC" not in words.replace("ROC AUC", "")


# --- the commands -----------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(command_line(), list(arguments))
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A prepared set; every model folder opens as one that knows half of its words."""
    write_prepared(prepared(), tmp_path / "set")
    monkeypatch.setattr(
        classifier,
        "open_classifier",
        lambda path: WordCounter(("great", "很好"), ("awful", "很差"), name=path.name),
    )
    return tmp_path


def test_evaluate_prints_figures_of_model_and_baseline_and_writes_a_report(folder: Path) -> None:
    report = folder / "report.html"
    code, out = run(
        "evaluate", "model", str(folder / "set"), "--html", str(report), "--draws", "100", "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert found["chats"] is None
    assert found["evaluation"]["set"]["name"] == "set"
    assert found["evaluation"]["baseline"]["figures"]["accuracy"]["value"] == 1.0
    assert 0.5 < found["evaluation"]["figures"]["accuracy"]["value"] < 1.0
    assert report.read_text("utf-8").startswith("<!doctype html>")


def test_evaluate_prints_a_table(folder: Path) -> None:
    code, out = run("evaluate", "model", str(folder / "set"), "--draws", "100", "--split", "validation")
    assert code == 0
    assert out.startswith("model on 40 texts of set, validation\n")
    assert re.search(r"^ *Macro F1 +0\.\d{3} +0\.\d{3} to", out, re.MULTILINE)


def test_evaluate_reads_a_recipe(folder: Path) -> None:
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f'[evaluate]\nmodel = "m"\nprepared = "{folder / "set"}"\nbaseline = false\ndraws = 100\n'
    )
    code, out = run("evaluate", "--recipe", str(recipe), "--json")
    assert code == 0
    assert json.loads(out)["evaluation"]["baseline"] is None


def test_what_goes_onto_a_card_is_the_set_and_the_slices_that_are_worse() -> None:
    texts = [example(f"good {at}", True, category="a") for at in range(80)]
    texts += [example(f"bad {at}", True, category="b") for at in range(40)]
    kept = for_card(evaluate(WordCounter(), texts, name="shop", draws=100))
    assert [each.name for each in kept] == ["accuracy", "macro_f1", "ece", "accuracy, category b"]
    assert {each.dataset for each in kept} == {"shop"}
    assert (kept[0].value, kept[0].rows) == (pytest.approx(80 / 120, abs=1e-4), 120)
    assert (kept[3].value, kept[3].rows) == (0.0, 40)


def test_figures_are_kept_once_a_set(tmp_path: Path) -> None:
    def metric(dataset: str, value: float) -> Metric:
        return Metric(dataset=dataset, name="accuracy", value=value, interval=(0.0, 1.0), rows=1)

    record = TrainingRecord(
        name="m",
        languages=("en",),
        base_model="b",
        base_licence="MIT",
        max_length=64,
        temperature=1.0,
        neutral_band=0.0,
        trained_on=(),
        metrics=(),
        caveats=(),
    )
    write_record(record, tmp_path / "training.json")
    keep_figures(tmp_path, [metric("a", 0.1)])
    keep_figures(tmp_path, [metric("b", 0.2)])
    keep_figures(tmp_path, [metric("a", 0.3)])
    assert [(each.dataset, each.value) for each in read_record(tmp_path).metrics] == [("b", 0.2), ("a", 0.3)]


def test_figures_are_kept_with_a_checkpoint_alone(folder: Path) -> None:
    with pytest.raises(UsageError, match="--record keeps the figures of a prepared set with a checkpoint"):
        run("evaluate", "model", str(folder / "set"), "--record", "model")


def test_evaluate_without_a_set_says_what_is_missing() -> None:
    with pytest.raises(UsageError, match=r"Name a model and a prepared set"):
        run("evaluate", "model")


def test_compare_takes_the_baseline_for_one_of_the_two(folder: Path) -> None:
    code, out = run("compare", "model", "baseline", str(folder / "set"), "--draws", "100", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["pair"]["only_a"] == 0
    assert found["differences"]["accuracy"]["value"] > 0
    assert found["verdict"].startswith("TF-IDF + logistic regression is better than model on these 60 texts")


@pytest.mark.parametrize(
    ("report", "said"),
    [("nowhere/r.html", r"there is no folder .*nowhere"), (".", r"is a folder; name a file")],
)
def test_a_report_that_cannot_be_written_is_refused_before_the_scoring(
    folder: Path, report: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "open_classifier", lambda path: pytest.fail("it was opened"))
    with pytest.raises(UsageError, match=said):
        run("evaluate", "model", str(folder / "set"), "--html", str(folder / report))


def test_models_of_one_name_are_told_apart_by_their_folders(folder: Path) -> None:
    recipe = folder / "recipe.toml"
    recipe.write_text(f'[compare]\na = "one/m"\nb = "two/m"\nprepared = "{folder / "set"}"\ndraws = 100\n')
    code, out = run("compare", "--recipe", str(recipe), "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["a"], found["b"]) == ("one/m", "two/m")
    assert found["verdict"].startswith("one/m and two/m cannot be told apart")


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_a_negative_seed_is_refused(command: str) -> None:
    with pytest.raises(UsageError, match="seed"):
        run(command, "a", "b", *(["c"] if command == "compare" else []), "--seed", "-1")


def test_a_set_with_broken_bytes_is_named(folder: Path) -> None:
    file = folder / "set" / "test.jsonl.gz"
    whole = file.read_bytes()
    file.write_bytes(whole[:60] + bytes(40) + whole[100:])
    with pytest.raises(UsageError, match=r"test.jsonl.gz cannot be read: .*; prepare the set again"):
        run("evaluate", "model", str(folder / "set"))
