"""What people read: the templates and what surrounds them.

Rules:
- Texts and names are hostile, whatever they stand in. Each value that a template prints is made harmless for
  the format: HTML is escaped; in chats nobody is mentioned, nothing links or loads; in mail and JSON a value
  stays in its place. What a template itself says is the operator's, and stays as it is.
- Control characters and direction overrides are written out, line breaks in values become spaces.
- A template of the operator's runs in Jinja2's sandbox. A name that it does not know is an error, never an
  empty place; ``check`` tries each template on examples of all that can happen.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from urllib.parse import quote
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup, escape

from stream.core.messages import STATES
from stream.pages import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from jinja2 import Template

    from stream.core.messages import Message

BUILT_IN = Path(__file__).parent / "templates"
MOST_CHARS = 20_000
"""Of a text; DingTalk takes 20,000 bytes, and nobody reads as much."""

Format = Literal["slack", "markdown", "text", "html", "json"]
Language = Literal["en", "zh"]

_HARMLESS = {
    # Mattermost mentions by a bare @, and loads what stands in ![](). Slack's own < > are entities below.
    "slack": str.maketrans({"@": "@\u200b", "[": "［", "]": "］", "`": "ˋ"}),  # noqa: RUF001
    # DingTalk and WeCom know no escapes: what they would obey becomes what looks like it.
    "markdown": str.maketrans(
        {
            "<": "＜", ">": "＞", "[": "［", "]": "］", "`": "ˋ", "*": "＊", "#": "＃", "@": "＠", "&": "＆",  # noqa: RUF001
            "\\": "＼", "~": "～", "|": "｜",  # noqa: RUF001
        }
    ),
}  # fmt: skip
SIGNS = {"firing": "🔴", "still_firing": "🔴", "escalated": "🟣", "resolved": "🟢"}
STATE_WORDS: dict[Language, dict[str, str]] = {
    "en": {"firing": "FIRING", "still_firing": "FIRING STILL", "escalated": "WORSE", "resolved": "RESOLVED"},
    "zh": {"firing": "触发", "still_firing": "仍在触发", "escalated": "升级", "resolved": "已恢复"},
}
SEVERITY_WORDS: dict[Language, dict[str, str]] = {
    "en": {"warning": "WARNING", "critical": "CRITICAL"},
    "zh": {"warning": "警告", "critical": "严重"},
}
UNITS: dict[Language, tuple[str, str, str, str]] = {
    "en": (" d", " h", " min", " s"),
    "zh": ("天", "小时", "分钟", "秒"),
}


class WritingError(Exception):
    """A template cannot be made into a text; the message says where and why, on one line."""


class Style(NamedTuple):
    """How texts of a target are written."""

    language: Language = "en"
    zone: str = "UTC"
    product_url: str | None = None


class Writer:
    """Writes messages in one format.

    Args:
        format_: what the text is for.
        style: how it is written.
        folder: of the operator's own templates.
    """

    def __init__(self, format_: Format, style: Style, folder: Path | None = None) -> None:
        self._format = format_
        self._style = style
        self._zone = ZoneInfo(style.zone)
        folders = [BUILT_IN] if folder is None else [folder, BUILT_IN]
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(folders),
            # What finalize gives is marked as done, so this leaves it alone, and macros' results, too.
            autoescape=True,
            finalize=_finalizer(format_),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "percent": percent,
            "when": self._when,
            "lasting": lambda seconds: lasting(seconds, style.language),
            "shortened": shortened,
        }

    def load(self, name: str) -> Template:
        """A template by its file's name.

        Raises:
            WritingError: there is none, or it is no template.
        """
        try:
            return self._environment.get_template(name)
        except (TemplateError, OSError, UnicodeDecodeError) as error:
            raise WritingError(_told(error, name)) from None

    def built_in(self, kind: str) -> Template:
        """One of ours, in the style's language: ``subject``, ``chat``, ``mail`` (text) or ``page`` (HTML)."""
        return self.load(f"{kind}.{self._style.language}.j2")

    def write(self, template: Template, message: Message) -> str:
        """The text.

        Raises:
            WritingError: the template does not take the message.
        """
        try:
            text = template.render(self._names(message))
        except Exception as error:  # noqa: BLE001 - a template runs the operator's code
            raise WritingError(_told(error, template.name or "")) from None
        if self._format == "json":
            _check_json(text, template.name or "")
            return text
        return text.strip() if len(text) <= MOST_CHARS else text[: MOST_CHARS - 1].strip() + "…"

    def line(self, template: Template, message: Message) -> str:
        """The text on one line."""
        return " ".join(self.write(template, message).split())

    def link(self, message: Message) -> str | None:
        """The address of a message's product, if any is known."""
        url = self._style.product_url
        if url is None or (message.alert is None and "{" in url):
            return None
        product_id = message.alert.product_id if message.alert else ""
        return url.replace("{product_id}", quote(product_id, safe="", errors="replace"))

    def _names(self, message: Message) -> dict[str, Any]:
        """What a template knows; docs/notify.md lists it."""
        language = self._style.language
        return {
            "message": message,
            "alert": message.alert,
            "incident": message.incident,
            "state": message.state,
            "severity": message.severity,
            "state_word": STATE_WORDS[language][message.state],
            "severity_word": SEVERITY_WORDS[language][message.severity],
            "sign": SIGNS[message.state],
            "link": self._linked(message),
            "bold": Markup({"slack": "*", "markdown": "**"}.get(self._format, "")),  # noqa: S704 - ours
            "said": said_by_customers(message),
            "everything": msgspec.to_builtins(message),
        }

    def _linked(self, message: Message) -> str | None:
        """The link as it stands in a text: the operator's own, with the product's id encoded."""
        url = self.link(message)
        if url is None or self._format == "json":
            return url
        return escape(url) if self._format == "html" else Markup(url)  # noqa: S704

    def _when(self, at: str) -> str:
        try:
            moment = datetime.fromisoformat(at)
        except ValueError:
            return at
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return f"{moment.astimezone(self._zone):%Y-%m-%d %H:%M %Z}"


def said_by_customers(message: Message) -> list[str]:
    """Two or three sentences of the customers' own."""
    if message.alert is None:
        return []
    return [each.text for each in message.alert.summary] or [each.text for each in message.alert.quotes[:2]]


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0.256)
    '26%'
    """
    return f"{share:.0%}"


def lasting(seconds: float, language: Language) -> str:
    """A length of time in two units at most.

    >>> lasting(42, "en"), lasting(3_700, "en"), lasting(200_000, "zh")
    ('42 s', '1 h 1 min', '2天7小时')
    """
    day, hour, minute, second = UNITS[language]
    space = " " if language == "en" else ""
    whole = round(seconds)
    for unit_s, unit, less_s, less in ((86_400, day, 3_600, hour), (3_600, hour, 60, minute)):
        if whole >= unit_s:
            rest = whole % unit_s // less_s
            return f"{whole // unit_s}{unit}" + (f"{space}{rest}{less}" if rest else "")
    return f"{whole // 60}{minute}" if whole >= 60 else f"{whole}{second}"


def shortened(text: str, chars: int = 300) -> str:
    """A text cut to what is worth reading."""
    return text if len(text) <= chars else text[: chars - 1] + "…"


def cut_to_bytes(text: str, most: int) -> str:
    """A text that fits into so many bytes of UTF-8.

    >>> cut_to_bytes("abc", 3), cut_to_bytes("茶茶茶", 8)
    ('abc', '茶…')
    """
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= most:
        return text
    return encoded[: most - 3].decode("utf-8", "ignore") + "…"


def _finalizer(format_: Format) -> Callable[[Any], Any]:
    if format_ == "json":
        return lambda value: Markup(json.dumps(msgspec.to_builtins(_named(value))))  # noqa: S704 - ASCII

    def made_harmless(value: Any) -> Any:
        if hasattr(value, "__html__"):  # the template's own
            return value
        text = visible(re.sub(r"\s+", " ", str(_named(value))))
        if format_ == "html":
            return escape(text)
        if format_ == "slack":
            text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        return Markup(text.translate(_HARMLESS.get(format_, {})))  # noqa: S704 - harmless by now

    return made_harmless


def _named(value: Any) -> Any:
    """The value; a name that a template does not know raises here, as Jinja2 has it."""
    if isinstance(value, StrictUndefined):
        str(value)
    return value


def _check_json(text: str, name: str) -> None:
    try:
        json.loads(text)
    except ValueError as error:
        raise WritingError(f"{name}: what it makes is no JSON: {error}") from None


def _told(error: Exception, name: str) -> str:
    """What is wrong with a template, on one line."""
    line = getattr(error, "lineno", None) or _line_of(error, name)
    where = f"{name}:{line}" if line else name
    said = " ".join(str(error).split()) or type(error).__name__
    return f"{where}: {shortened(said)}"


def _line_of(error: BaseException, name: str) -> int | None:
    """Jinja2 writes its template's lines into the traceback."""
    found, step = None, error.__traceback__
    while step is not None:
        if Path(step.tb_frame.f_code.co_filename).name == Path(name).name:
            found = step.tb_lineno
        step = step.tb_next
    return found


assert set(SIGNS) == set(STATES)
