"""The configuration as a whole: every setting with where it comes from, all that is wrong, all that is odd.

Rules:
- A secret is shown as ``***``, whatever it is, and so is a password in the URL of Redis; the length is not
  shown. What is wrong is not shown at all.
- An error keeps something from starting. A warning is about what has no effect, or hardly the one meant.
- Each room says what is wrong with its own settings and files; here all are asked, and no server is.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import structlog
from pydantic import SecretStr

from stream.errors import UsageError
from stream.redis_url import is_cluster, scheme_of, shown_url
from stream.settings import SECRETS_DIR, Settings, read, unknown_variables
from stream.settings_check import PREFIX, Wrong, told, variable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Source = Literal["default", "environment", "secrets file"]
MASK = "***"


class Setting(NamedTuple):
    """One setting as it is now."""

    name: str
    """The variable."""
    value: str | float | bool | None
    """Masked where it is a secret; None where it is unset, or wrong."""
    default: str | float | bool | None
    source: Source
    changed: bool
    """Whether the value differs from the default."""
    secret: bool
    meaning: str
    wrong: str | None = None
    """What is wrong with it by itself."""


class Configuration(NamedTuple):
    """All there is to say of it."""

    settings: list[Setting]
    errors: list[str]
    warnings: list[str]


def configuration(environ: Mapping[str, str]) -> Configuration:
    """The configuration of this process, with everything that is wrong or odd.

    Args:
        environ: ``os.environ``; settings are read from there in any case.

    Raises:
        UsageError: there is no folder of secrets where it should be.
    """
    found, wrong = read()
    blamed = {each.names[0]: each.sentence for each in wrong if len(each.names) == 1}
    errors = [each.sentence for each in wrong]
    for sentence in file_errors(found, ALL_ROOMS, wrong):
        if sentence not in errors:
            errors.append(sentence)
    shown = [_setting(name, found, environ, blamed.get(name)) for name in Settings.model_fields]
    return Configuration(shown, errors, [*unknown(environ), *oddities(found)])


def start_settings(rooms: Iterable[str], **overrides: Any) -> Settings:
    """Settings of something that is about to start, with all that it will need looked at first.

    Args:
        rooms: names of ``ROOMS``.
        overrides: options of the command line, that win where they are not None.

    Raises:
        UsageError: something is wrong; everything that is, is named.
    """
    found, wrong = read(**overrides)
    errors = [*wrong, *(Wrong((), sentence) for sentence in file_errors(found, rooms, wrong))]
    if errors:
        raise UsageError(told(errors))
    return found


def file_errors(settings: Settings, rooms: Iterable[str], wrong: Iterable[Wrong] = ()) -> Iterator[str]:
    """What each room finds wrong with its settings and the files they name.

    Args:
        settings: with the defaults in place of what is wrong by itself.
        rooms: whom to ask: names of ``ROOMS``.
        wrong: what is known to be wrong; rooms that it concerns are not asked.
    """
    bad = {name for each in wrong for name in each.names}
    for room in rooms:
        look, about = ROOMS[room]
        if any(name.startswith(about) for name in bad):
            continue
        try:
            look(settings)
        except UsageError as error:
            yield str(error)


def _kafka(settings: Settings) -> None:
    from stream.kafka_config import kafka_python_config  # noqa: PLC0415 (each room only where it is asked)

    kafka_python_config(settings)


def _redis(settings: Settings) -> None:
    from stream.redis_config import connect_async  # noqa: PLC0415

    connect_async(settings)  # which connects on first use


def _health(settings: Settings) -> None:
    from stream.health import address_of  # noqa: PLC0415

    if settings.health:  # empty is off, too
        address_of(settings.health)


def _bundle(settings: Settings) -> None:
    from stream.bundle import load_manifest  # noqa: PLC0415

    if settings.scorer == "onnx":
        load_manifest(settings.bundle)


def _rules(settings: Settings) -> None:
    from stream.rules import load_rules  # noqa: PLC0415

    load_rules(settings)


def _priors(settings: Settings) -> None:
    from stream.priors import load_priors  # noqa: PLC0415

    load_priors(settings)


def _notify(settings: Settings) -> None:
    from stream.deliver.config import parse_file  # noqa: PLC0415

    if settings.notify is not None:
        parse_file(settings.notify)


def _web(settings: Settings) -> None:
    from stream.web.server import check_reach  # noqa: PLC0415
    from stream.web.tokens import Tokens  # noqa: PLC0415

    written = settings.web_tokens
    check_reach(settings, bool(Tokens.of(None if written is None else written.get_secret_value())))


ROOMS: dict[str, tuple[Callable[[Settings], object], tuple[str, ...]]] = {
    "kafka": (_kafka, ("kafka",)),
    "redis": (_redis, ("redis",)),
    "health": (_health, ("health",)),
    "bundle": (_bundle, ("bundle", "scorer")),
    "rules": (_rules, ("rules",)),
    "priors": (_priors, ("priors",)),
    "notify": (_notify, ("notify",)),
    "web": (_web, ("web_tokens", "web_host")),
}
"""Who looks, and at which fields: a name or the beginning of several."""
ALL_ROOMS = tuple(ROOMS)
WORKER_ROOMS = ("kafka", "redis", "health", "rules", "priors")
"""Not the bundle: one that was promoted may have taken the place of the configured one."""


def unknown(environ: Mapping[str, str]) -> Iterator[str]:
    """A sentence for each variable, and each file of a secret, that is named like a setting and is none."""
    for name, nearest in unknown_variables(environ).items():
        yield f"{name} is no setting, so it does nothing: {_meant(nearest) or f'unset {name}'}."
    folder = environ.get(SECRETS_DIR)
    if folder is None or not Path(folder).is_dir():
        return
    known = [f"{PREFIX}{name.upper()}".lower() for name in Settings.model_fields]
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 (names alone, no paths)
        if name.lower().startswith(PREFIX.lower()) and name.lower() not in known:
            nearest = next(iter(difflib.get_close_matches(name.lower(), known, 1, 0.8)), None)
            remedy = _meant(nearest) or "remove it"
            yield f"The file {name} in {SECRETS_DIR} is no setting's, so it does nothing: {remedy}."


def _meant(nearest: str | None) -> str:
    return f"perhaps {nearest} is meant" if nearest else ""


def log_unknown() -> None:
    """Warns in the log of what is named like a setting and is none: for processes that run on."""
    for sentence in unknown(os.environ):
        structlog.get_logger().warning("unknown setting", says=sentence)


def oddities(settings: Settings) -> Iterator[str]:
    """A sentence for each setting that has no effect beside the others, or hardly the one meant."""
    sasl = settings.kafka_security.startswith("SASL")
    for name in ("kafka_username", "kafka_password"):
        if getattr(settings, name) is not None and not sasl:
            yield (
                f"{variable(name)} does nothing while REVIEWPULSE_KAFKA_SECURITY is"
                f" {settings.kafka_security}: write SASL_SSL there."
            )
    if settings.kafka_security == "SASL_PLAINTEXT":
        yield "REVIEWPULSE_KAFKA_SECURITY=SASL_PLAINTEXT sends all events unencrypted: write SASL_SSL."
    scheme = scheme_of(settings.redis)
    if settings.redis_sentinel_password is not None and "sentinel" not in scheme:
        yield "REVIEWPULSE_REDIS_SENTINEL_PASSWORD does nothing without a sentinel URL: unset it."
    if settings.redis_password is not None and f":{MASK}@" in shown_url(settings.redis):
        yield "REVIEWPULSE_REDIS_PASSWORD gives way to the password in REVIEWPULSE_REDIS: take that one out."
    if is_cluster(settings.redis) and settings.shards == 1:
        yield "REVIEWPULSE_SHARDS=1 leaves all but one master of a cluster idle: write 4 for each master."
    if settings.scorer == "constant":
        yield "REVIEWPULSE_SCORER=constant gives every text the same score: unset it but for tests."


def _setting(name: str, settings: Settings, environ: Mapping[str, str], wrong: str | None) -> Setting:
    field = Settings.model_fields[name]
    secret = "SecretStr" in str(field.annotation)
    value, default = getattr(settings, name), field.default
    source = _source(name, environ)
    return Setting(
        name=variable(name),
        value=None if wrong else _shown(name, value),
        default=_shown(name, default),
        source=source,
        changed=bool(wrong) or value != default,
        secret=secret,
        meaning=field.description or "",
        wrong=wrong,
    )


def _shown(name: str, value: Any) -> str | float | bool | None:
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, Path):
        return str(value)
    if name == "redis":
        return shown_url(str(value))
    return value  # type: ignore[no-any-return]  # text, a number, true or false


def _source(name: str, environ: Mapping[str, str]) -> Source:
    wanted = variable(name).lower()  # pydantic heeds no case
    if any(each.lower() == wanted for each in environ):
        return "environment"
    folder = environ.get(SECRETS_DIR)
    if folder is not None and any(each.lower() == wanted for each in os.listdir(folder)):  # noqa: PTH208
        return "secrets file"
    return "default"
