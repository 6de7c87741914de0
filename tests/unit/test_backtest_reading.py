"""History to labelled observations: what counts, who says what is negative, and scores that are kept."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from stream.backtest import labels
from stream.backtest.labels import Verdict, by_file, by_model, by_stars, observed
from stream.backtest.read import read_countable
from stream.backtest.windows import read_windows
from stream.core.backtest import Window
from stream.core.decode import Limits
from stream.errors import UsageError
from stream.scorer.constant import ConstantScorer
from stream.settings import load

if TYPE_CHECKING:
    from pathlib import Path

    from stream.backtest.read import Countable
    from stream.settings import Settings

T0 = 1_700_000_000


def row(number: int, **fields: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"event_id": f"e{number}", "product_id": "kettle", "text": f"text {number}"}
    made |= {"event_time": T0 + number}
    return {name: value for name, value in {**made, **fields}.items() if value is not None}


def written(folder: Path, *rows: dict[str, Any] | str, name: str = "history.jsonl") -> Path:
    file = folder / name
    lines = "".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in rows)
    file.write_bytes(gzip.compress(lines.encode()) if name.endswith(".gz") else lines.encode())
    return file


def read(file: Path, channel: str = "reviews", kept: int | None = 1) -> Countable:
    return read_countable(str(file), "jsonl", channel, [], Limits(), kept)  # type: ignore[arg-type]


def constant() -> Settings:
    return load(scorer="constant")


# --- reading ----------------------------------------------------------------------------------------------


def test_events_come_in_event_time_order_and_arrive_at_their_own_time(tmp_path: Path) -> None:
    countable = read(written(tmp_path, row(2), row(0), row(1), name="history.jsonl.gz"))
    assert [event.event_id for event in countable.events] == ["e0", "e1", "e2"]
    assert [event.arrival_ms for event in countable.events] == [1000 * (T0 + number) for number in range(3)]
    assert [told.number for told in countable.told] == [2, 3, 1]


def test_what_a_worker_would_not_count_is_not_judged_and_named_by_its_row(tmp_path: Path) -> None:
    file = written(tmp_path, row(0), row(1, text=" "), "nope", row(0), row(2, product_id=None), row(3))
    countable = read(file)
    assert [event.event_id for event in countable.events] == ["e0", "e3"]
    assert (countable.rows, countable.duplicates, countable.flaws.count) == (6, 1, 3)
    assert {flaw.number: flaw.reason for flaw in countable.flaws.named if flaw.number != 3} == {
        5: "no product_id",
        2: "the text is empty",
    }


def test_duplicates_count_where_the_settings_say_so(tmp_path: Path) -> None:
    assert len(read(written(tmp_path, row(0), row(0)), kept=None).events) == 2


def test_agents_lines_are_left_out_of_chats(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        row(0, conversation_id="c", role="agent"),
        row(1, conversation_id="c", role="customer"),
    )
    countable = read(file, "chats")
    assert ([event.event_id for event in countable.events], countable.agents_lines) == (["e1"], 1)


def test_a_file_without_events_is_refused_with_its_first_flaw(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no event to judge: 1 rows were read\. Row 1: the text is empty\."):
        read(written(tmp_path, row(0, text="")))


# --- labels -----------------------------------------------------------------------------------------------


def test_one_and_two_stars_are_negative(tmp_path: Path) -> None:
    file = written(tmp_path, *(row(number, rating=number) for number in range(1, 6)))
    assert [each and each.negative for each in by_stars(read(file)).of_event] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_an_event_without_a_rating_is_named_and_not_judged(tmp_path: Path) -> None:
    countable = read(written(tmp_path, row(0), row(1, rating=1)))
    verdicts = by_stars(countable)
    assert verdicts.flaws.named == [(1, "no rating")]
    assert [each.event_id for each in observed(countable, verdicts)["kettle"]] == ["e1"]


def test_a_history_without_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"All 1 events have no rating\. Name its column"):
        by_stars(read(written(tmp_path, row(0))))


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ({"label": "negative"}, Verdict(True, 1.0)),
        ({"label": "neutral", "p_negative": 0.4}, Verdict(False, 0.4)),
        ({"label": "positive"}, Verdict(False, 0.0)),
        ({"p_negative": 0.5}, Verdict(True, 0.5)),
        ({"p_negative": "0.49"}, Verdict(False, 0.49)),
        ({"p_negative": 1.5}, None),
        ({"p_negative": float("nan")}, None),
        ({"label": "bad", "p_negative": 0.9}, None),
        ({}, None),
    ],
)
def test_a_file_labels_its_own_rows(said: dict[str, Any], verdict: Verdict | None, tmp_path: Path) -> None:
    line = json.dumps(row(1, **said)).replace("NaN", '"nan"')
    countable = read(written(tmp_path, row(0, label="neutral"), line))
    assert by_file(countable).of_event[1] == verdict


# --- scores that are kept ---------------------------------------------------------------------------------


class ByLength(ConstantScorer):
    """Says negative of long texts, cannot take one that says so, and counts what it scores."""

    version = "by-length"
    scored = 0

    def encode(self, texts: Any) -> Any:
        if any("poison" in text for text in texts):
            raise ValueError("poisoned")
        encoded = super().encode(texts)
        self.texts = list(texts)
        return encoded

    def score(self, encoded: Any, rows: Any) -> Any:
        type(self).scored += len(rows)
        long = np.array([len(self.texts[row]) > 10 for row in rows])
        return np.where(long[:, None], [[0.7, 0.0, 0.3]], [[0.2, 0.0, 0.8]]).astype(np.float32)

    def label(self, probabilities: Any) -> Any:
        return probabilities.argmax(axis=1).astype(np.int8)


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> type[ByLength]:
    ByLength.scored = 0
    monkeypatch.setattr(labels, "load_scorer", lambda settings: ByLength())
    monkeypatch.setattr(labels, "_version", lambda settings: "by-length")
    return ByLength


HISTORY = (row(0), row(1, text="a long complaint"), row(2, text="poison"), row(3))


def test_the_model_labels_and_a_text_it_cannot_take_is_named(tmp_path: Path, scorer: type[ByLength]) -> None:
    verdicts = by_model(read(written(tmp_path, *HISTORY)), constant(), None, lambda _: None)
    assert verdicts.by == "by-length"
    assert [each and each.negative for each in verdicts.of_event] == [False, True, None, False]
    assert verdicts.flaws.named == [(3, "the model cannot take the text")]


def test_kept_scores_give_the_same_verdicts_and_nothing_is_scored_again(
    tmp_path: Path, scorer: type[ByLength]
) -> None:
    countable = read(written(tmp_path, *HISTORY))
    first = by_model(countable, constant(), tmp_path / "scores", lambda _: None)
    scored = scorer.scored
    assert by_model(countable, constant(), tmp_path / "scores", lambda _: None) == first
    assert scorer.scored == scored
    assert [each.name for each in tmp_path.glob("scores*")] == ["scores"]


def test_scores_of_another_model_are_refused(tmp_path: Path, scorer: type[ByLength]) -> None:
    countable = read(written(tmp_path, *HISTORY))
    kept = tmp_path / "scores"
    by_model(countable, constant(), kept, lambda _: None)
    stored = msgspec.json.decode(kept.read_bytes())
    kept.write_bytes(msgspec.json.encode({**stored, "model_version": "older"}))
    with pytest.raises(UsageError, match="of model older, and the bundle is by-length: delete it"):
        by_model(countable, constant(), kept, lambda _: None)


@pytest.mark.parametrize("history", [HISTORY[:3], (*HISTORY[:3], row(3, text="other"))])
def test_scores_of_other_texts_are_refused(
    history: tuple[dict[str, Any], ...], tmp_path: Path, scorer: type[ByLength]
) -> None:
    kept = tmp_path / "scores"
    by_model(read(written(tmp_path, *HISTORY)), constant(), kept, lambda _: None)
    other = read(written(tmp_path, *history, name="other.jsonl"))
    with pytest.raises(UsageError, match="holds scores of other texts"):
        by_model(other, constant(), kept, lambda _: None)


def test_scores_hold_for_the_same_events_whatever_the_order_of_the_file(
    tmp_path: Path, scorer: type[ByLength]
) -> None:
    kept = tmp_path / "scores"
    first = by_model(read(written(tmp_path, *HISTORY)), constant(), kept, lambda _: None)
    backwards = read(written(tmp_path, *HISTORY[::-1]))
    assert by_model(backwards, constant(), kept, lambda _: None).of_event == first.of_event


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format":2}', b"[1]"])
def test_a_file_that_is_none_of_scores_is_refused_before_the_model_is_loaded(
    content: bytes, tmp_path: Path, scorer: type[ByLength]
) -> None:
    kept = tmp_path / "scores"
    kept.write_bytes(content)
    with pytest.raises(UsageError, match="is no file of scores"):
        by_model(read(written(tmp_path, *HISTORY)), constant(), kept, lambda _: None)
    assert (scorer.scored, kept.read_bytes()) == (0, content)


# --- labelled windows -------------------------------------------------------------------------------------


def windows(tmp_path: Path, content: str) -> list[Window]:
    file = tmp_path / "labels"
    file.write_text(content, "utf-8")
    return read_windows(str(file), "reviews", {"kettle", "lamp"})


def test_windows_are_csv_or_json_lines(tmp_path: Path) -> None:
    expected = [Window("kettle", None, 1_705_449_600_000, 1_705_536_000_000)]
    assert windows(tmp_path, "product_id,start,end\nkettle,2024-01-17,2024-01-18\n") == expected
    line = '{"product_id": "kettle", "start": 1705449600, "end": "January 18, 2024"}\n'
    assert windows(tmp_path, line) == expected


def test_windows_of_the_other_channel_are_left_out(tmp_path: Path) -> None:
    rows = "product_id,start,end,channel\nkettle,1,2,chats\nlamp,1,2,reviews\nlamp,3,4,\n"
    assert [each.channel for each in windows(tmp_path, rows)] == ["reviews", None]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("product,start,end\n", "has no column product_id"),
        ("product_id,start,end\n", "labels no incident on reviews"),
        ("product_id,start,end\nkettle,1,2\nkettle,5,4\n", "row 2: start is after end"),
        ("product_id,start,end\nkettle,soon,4\n", "row 1: start is 'soon', no time that can be read"),
        ("product_id,start,end\nkettle,1\n", "row 1: end is None"),
        ("product_id,start,end\n,1,2\n", "row 1: no product_id"),
        ("product_id,start,end,channel\nkettle,1,2,mail\n", "channel is 'mail'; write reviews or chats"),
        ('{"product_id": 5}', "row 1: no product_id"),
        ('{"product_id": ', "row 1: no JSON object"),
        ("product_id,start,end\ntoaster,1,2\n", "products that the history does not have: toaster"),
    ],
)
def test_wrong_labels_are_a_sentence(content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        windows(tmp_path, content)
    assert said in str(refused.value)
