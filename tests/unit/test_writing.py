"""What people read, in each format; hostile text stays text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from builders import alert
from msgspec.structs import replace

from stream.core.events import Quote
from stream.core.messages import of_alert
from stream.core.phrases import Phrase
from stream.deliver.examples import EXAMPLES
from stream.deliver.writing import Style, Writer, WritingError

if TYPE_CHECKING:
    from pathlib import Path

    from stream.core.messages import Message

HOSTILE = (
    "<script>alert(1)</script> & <!channel> @all [x](http://evil) ![](http://evil) *b* \u202egnp\x1b[2J\nnext"
)


def hostile() -> Message:
    quote = Quote(event_id="1", text=HOSTILE, p_negative=0.9, event_time="2024-01-17T09:30:00.000Z")
    return of_alert(
        alert(product_id=HOSTILE, category=HOSTILE, quotes=[quote], phrases=[Phrase(HOSTILE, 3, 0.5)])
    )


def chat(format_: Any, message: Message, **style: Any) -> str:
    writer = Writer(format_, Style(**style))
    return writer.write(writer.built_in("chat"), message)


def own(tmp_path: Path, format_: Any, text: str, message: Message) -> str:
    (tmp_path / "own.j2").write_text(text, "utf-8")
    writer = Writer(format_, Style(), tmp_path)
    return writer.write(writer.load("own.j2"), message)


def test_a_chat_says_what_to_know_in_english() -> None:
    assert chat("slack", EXAMPLES["firing"], zone="Asia/Shanghai", product_url="https://x/{product_id}") == (
        "*22 of 40 negative (55%)*, usually 10%; since 2026-11-23 17:12 CST (48 min)\n\n"
        "New: *battery died* (64%), *does not charge* (27%)\n\n"
        "> This is an example: the battery died after a week.\n\n"
        "21 known authors, category examples, alert 0123456789abcdef\n\n"
        "https://x/EXAMPLE-1"
    )


def test_and_in_chinese() -> None:
    assert chat("markdown", EXAMPLES["resolved"], language="zh") == (
        "**40 条中有 22 条负面（55%）**，平时 10%；始于 2026-11-23 09:12 UTC（持续 48分钟）\n\n"  # noqa: RUF001
        "2026-11-23 10:00 UTC 结束：已恢复到平时水平。峰值 60%。\n\n"  # noqa: RUF001
        "已知作者 21 人，类目 examples，告警 0123456789abcdef"  # noqa: RUF001
    )


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("format_", ["slack", "markdown", "text", "html"])
@pytest.mark.parametrize("kind", ["subject", "chat", "page"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_built_in_template_takes_whatever_can_happen(
    language: Any, format_: Any, kind: str, name: str
) -> None:
    writer = Writer(format_, Style(language))
    text = writer.write(writer.built_in(kind), EXAMPLES[name])
    assert text
    assert "None" not in text


@pytest.mark.parametrize("language", ["en", "zh"])
def test_in_a_chat_nobody_is_mentioned_and_nothing_links_or_loads(language: Any) -> None:
    for format_ in ("slack", "markdown"):
        writer = Writer(format_, Style(language))
        for kind in ("subject", "chat"):
            text = writer.write(writer.built_in(kind), hostile())
            assert "<" not in text
            assert "@all" not in text
            assert "](" not in text
            assert "\x1b" not in text
            assert "\u202e" not in text
            assert "\nnext" not in text, "a value begins no line"


def test_slacks_own_escapes_are_entities() -> None:
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;!channel&gt;" in chat("slack", hostile())


@pytest.mark.parametrize("language", ["en", "zh"])
def test_in_html_everything_is_escaped(language: Any) -> None:
    writer = Writer("html", Style(language, product_url="https://x/{product_id}?a=1&b=2"))
    text = writer.write(writer.built_in("page"), hostile())
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &lt;!channel&gt;" in text
    assert 'href="https://x/%3Cscript%3E' in text
    assert "?a=1&amp;b=2" in text


def test_in_a_subject_there_is_no_second_line() -> None:
    writer = Writer("text", Style())
    assert "\n" not in writer.line(writer.built_in("subject"), hostile())


def test_in_json_each_value_is_a_value(tmp_path: Path) -> None:
    template = (
        '{"id": {{ message.id }}, "text": {{ alert.product_id ~ ": " ~ state_word }},'
        ' "n": {{ alert.negatives }},'
        ' "said": {{ said }}, "whole": {{ everything }}, "link": {{ link }}}'
    )
    found = json.loads(own(tmp_path, "json", template, hostile()))
    assert found["text"] == f"{HOSTILE}: FIRING"
    assert (found["id"], found["n"], found["said"], found["link"]) == ("a1-1", 20, [HOSTILE], None)
    assert found["whole"]["alert"]["category"] == HOSTILE


def test_a_macro_and_a_filter_of_a_template_are_made_harmless_once(tmp_path: Path) -> None:
    template = "{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(alert.product_id) }} {{ [alert.category]|join }}"
    message = of_alert(alert(product_id="a&b", category="c&d"))
    assert own(tmp_path, "slack", template, message) == "<a&amp;b> c&amp;d"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ alert.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os }}",
        "{% for x in range(99999999) %}x{% endfor %}",
        "{{ message.alert.quotes.clear() }}",
    ],
)
def test_a_template_stays_in_its_sandbox(tmp_path: Path, template: str) -> None:
    with pytest.raises(WritingError):
        own(tmp_path, "text", template, hostile())


def test_what_is_too_long_is_cut() -> None:
    quote = Quote(event_id="1", text="x" * 10_000, p_negative=0.9, event_time="")
    text = chat("text", of_alert(alert(quotes=[quote])))
    assert "x" * 299 + "…" in text
    assert len(text) < 1_000


def test_a_time_that_is_none_stands_as_it_is() -> None:
    assert "since yesterday" in chat("text", replace(EXAMPLES["firing"], alert=alert(onset="yesterday")))
