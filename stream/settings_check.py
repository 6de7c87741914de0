"""What is wrong with the settings, all at once, each in one sentence: variable, what is wrong, what to write.

Rules:
- A sentence never repeats a value: somebody may have put a secret where it does not belong. Paths are the
  exception, for a file that is not there has to be named.
- Nothing is said twice: a setting that is wrong by itself is left out of what must fit together.
- Only what can be seen from here is looked at: values, and whether the certificates' files are there. What
  stands in files is for ``stream.config``.
"""

from __future__ import annotations

import math
import re
import typing
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from stream.redis_url import scheme_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

    from stream.settings import Settings

PREFIX = "REVIEWPULSE_"
PATTERNS = {"namespace": "1 to 32 letters, digits, _, . or -"}
"""In words, what a setting's regular expression says."""
TOPICS = ("topic_reviews", "topic_chats", "topic_alerts", "topic_scores")
DEAD_LETTERS = ("topic_reviews", "topic_chats")
"""Those that have a dead-letter topic beside them."""
TOPIC_NAME = re.compile(r"[A-Za-z0-9._-]{1,245}")
"""Kafka's own rule, less the four characters of ``.dlq``."""
ADDRESS = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:,\[\]/@]+):(\d{1,5})")


class Wrong(NamedTuple):
    """One thing that is wrong."""

    names: tuple[str, ...]
    """Of the fields it is about."""
    sentence: str


def variable(name: str) -> str:
    """The variable of a field.

    >>> variable("kafka_security")
    'REVIEWPULSE_KAFKA_SECURITY'
    """
    return f"{PREFIX}{name.upper()}"


def value_errors(fields: dict[str, FieldInfo], errors: Iterable[ErrorDetails]) -> list[Wrong]:
    """What pydantic refused, in our words.

    Args:
        fields: of ``Settings``.
        errors: pydantic's, without their inputs.
    """
    found: dict[str, Wrong] = {}
    for each in errors:
        name = str(each["loc"][0]) if each["loc"] else ""
        if name in fields:
            sentence = f"{variable(name)} is {_fault(each['type'])}: write {wanted(name, fields[name])}."
        else:
            sentence = f"{variable(name)}: {each['msg']}."
        found.setdefault(name, Wrong((name,), sentence))
    return list(found.values())


def _fault(kind: str) -> str:
    return {
        "int_parsing": "no whole number",
        "int_from_float": "no whole number",
        "int_parsing_size": "too large a number",
        "float_parsing": "no number",
        "bool_parsing": "neither true nor false",
        "literal_error": "not one of its values",
        "greater_than": "too small",
        "greater_than_equal": "too small",
        "less_than": "too large",
        "less_than_equal": "too large",
        "string_too_short": "empty",
    }.get(kind, "not what it should be")


def wanted(name: str, field: FieldInfo) -> str:
    """What may be written there.

    Args:
        name: the field's.
        field: of ``Settings``.
    """
    kinds = [each for each in _alternatives(field.annotation) if each is not NoneType]
    kind = kinds[0] if len(kinds) == 1 else str
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, typing.get_args(kind)))}"
    if kind is bool:
        return "true or false"
    if kind in (int, float):
        return _number("a whole number" if kind is int else "a number", field.metadata)
    if name in PATTERNS:
        return PATTERNS[name]
    return "a path" if kind is Path else "some text"


def _alternatives(annotation: Any) -> tuple[Any, ...]:
    return (
        typing.get_args(annotation)
        if typing.get_origin(annotation) in (typing.Union, UnionType)
        else (annotation,)
    )


def _number(what: str, metadata: list[Any]) -> str:
    least = next((each.ge for each in metadata if hasattr(each, "ge")), None)
    above = next((each.gt for each in metadata if hasattr(each, "gt")), None)
    most = next((each.le for each in metadata if hasattr(each, "le")), None)
    if least is not None and most is not None:
        return f"{what} from {least:.12g} to {most:.12g}"
    if least is not None:
        return f"{what} of at least {least:.12g}"
    return what if above is None else f"{what} above {above:.12g}"


def combination_errors(settings: Settings, wrong: Iterable[str] = ()) -> list[Wrong]:
    """What does not fit together, and what is no address, file or topic.

    Args:
        settings: with the defaults in place of what is wrong by itself.
        wrong: the fields that are.
    """
    bad = set(wrong)
    checks = (_numbers, _kafka_address, _kafka_tls, _kafka_login, _redis_tls, _files, _topics, _web)
    return [each for check in checks for each in check(settings) if not bad & set(each.names)]


def _numbers(settings: Settings) -> Iterator[Wrong]:
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, float) and not math.isfinite(value):
            yield Wrong((name,), f"{variable(name)} is not finite: write a number.")


def _kafka_address(settings: Settings) -> Iterator[Wrong]:
    addresses = [ADDRESS.fullmatch(each) for each in settings.kafka.split(",")]
    if not all(each and 0 < int(each[2]) <= 65_535 for each in addresses):
        sentence = "is no list of addresses: write host:port, or several with commas and no blanks between."
        yield Wrong(("kafka",), f"{variable('kafka')} {sentence}")


def _kafka_tls(settings: Settings) -> Iterator[Wrong]:
    given = [name for name in _KAFKA_FILES if getattr(settings, name) is not None]
    if "SSL" not in settings.kafka_security:
        with_tls = "SASL_SSL" if "SASL" in settings.kafka_security else "SSL"
        remedy = f"write {with_tls} in REVIEWPULSE_KAFKA_SECURITY, or unset it"
        for name in given:
            yield Wrong((name, "kafka_security"), f"{variable(name)} needs TLS: {remedy}.")
    if "kafka_key_file" in given and "kafka_cert_file" not in given:
        yield _alone("kafka")


def _kafka_login(settings: Settings) -> Iterator[Wrong]:
    if not settings.kafka_security.startswith("SASL"):
        return
    secrets = "(or a file reviewpulse_kafka_password in REVIEWPULSE_SECRETS_DIR)"
    lacks = [
        f"REVIEWPULSE_{name.upper()}"
        for name, value in (
            ("kafka_username", settings.kafka_username),
            ("kafka_password", settings.kafka_password and settings.kafka_password.get_secret_value()),
        )
        if not value
    ]
    if lacks:
        needs = f"REVIEWPULSE_KAFKA_SECURITY={settings.kafka_security} needs REVIEWPULSE_KAFKA_USERNAME and"
        says = f"{needs} REVIEWPULSE_KAFKA_PASSWORD {secrets}: set {' and '.join(lacks)}."
        yield Wrong(("kafka_security", "kafka_username", "kafka_password"), says)


def _redis_tls(settings: Settings) -> Iterator[Wrong]:
    scheme = scheme_of(settings.redis)
    given = [name for name in _REDIS_FILES if getattr(settings, name) is not None]
    if scheme.startswith("redis") and not scheme.startswith("rediss"):
        with_tls = scheme.replace("redis", "rediss", 1)
        for name in given:
            sentence = f"{variable(name)} needs TLS: write {with_tls}:// in REVIEWPULSE_REDIS."
            yield Wrong((name, "redis"), sentence)
    if "redis_key_file" in given and "redis_cert_file" not in given:
        yield _alone("redis")


def _alone(server: str) -> Wrong:
    key, certificate = f"{server}_key_file", f"{server}_cert_file"
    return Wrong((key, certificate), f"{variable(key)} is set without {variable(certificate)}: set both.")


def _files(settings: Settings) -> Iterator[Wrong]:
    for name in type(settings).model_fields:
        path = getattr(settings, name)
        if not isinstance(path, Path):
            continue
        if path == Path():
            yield Wrong((name,), f"{variable(name)} is empty: name a path, or unset it.")
        elif name.endswith("_file") and not path.is_file():
            yield Wrong((name,), f"{variable(name)}: there is no file {path}; name one that is there.")


def _topics(settings: Settings) -> Iterator[Wrong]:
    taken: dict[str, str] = {}
    for name in TOPICS:
        topic = getattr(settings, name)
        if not TOPIC_NAME.fullmatch(topic) or topic in {".", ".."}:
            says = "is no topic's name: write up to 245 letters, digits, _, . or -."
            yield Wrong((name,), f"{variable(name)} {says}")
        elif topic in taken:
            first = taken[topic]
            says = f"{variable(name)} names the same topic as {variable(first)}: give each one of its own."
            yield Wrong((first, name), says)
        taken.setdefault(topic, name)
    for name in DEAD_LETTERS:
        other = taken.get(f"{getattr(settings, name)}.dlq")
        if other is not None:
            says = f"is the dead-letter topic of {variable(name)}: name another."
            yield Wrong((name, other), f"{variable(other)} {says}")


def _web(settings: Settings) -> Iterator[Wrong]:
    if settings.web_inflight_bytes < 2 * settings.web_batch_bytes:
        says = "must be at least twice REVIEWPULSE_WEB_BATCH_BYTES: raise it, or lower the other."
        yield Wrong(("web_inflight_bytes", "web_batch_bytes"), f"REVIEWPULSE_WEB_INFLIGHT_BYTES {says}")


_KAFKA_FILES = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file")
_REDIS_FILES = ("redis_ca_file", "redis_cert_file", "redis_key_file")


def told(wrong: Iterable[Wrong]) -> str:
    """All of it, as the message of one error.

    >>> told([Wrong(("a",), "A is wrong.")])
    'A is wrong.'
    """
    sentences = [each.sentence for each in wrong]
    if len(sentences) == 1:
        return sentences[0]
    return "\n".join(
        [f"{len(sentences)} things are wrong with the settings:", *(f"- {each}" for each in sentences)]
    )
