"""Reads the notify file and what it names: secrets, certificates, templates.

Rules:
- Whatever it names is looked at when it is read: what is missing is a mistake with its line, before anything
  is delivered, and each template is tried on examples of all that can happen.
- Secrets come from environment variables and files alone. No message quotes one, nor what was found in its
  place.
"""

from __future__ import annotations

import os
import re
import ssl
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from stream.core.notify_file import Email, Notify, NotifyFileError, Secret, Webhook, Written, listed
from stream.core.notify_parse import URL, parse_notify
from stream.core.routing import Ear, Route, Routing
from stream.core.signing import secret_bytes
from stream.core.toml_lines import line_at
from stream.core.toml_reading import Problem
from stream.deliver.examples import EXAMPLES
from stream.deliver.writing import Style, Writer, WritingError
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from jinja2 import Template

    from stream.core.notify_file import AnyTarget
    from stream.core.toml_lines import Path as TomlPath
    from stream.deliver.writing import Format

MOST_BYTES = 1_048_576
FORMATS: dict[str, Format] = {
    "webhook": "json",
    "alertmanager": "text",
    "slack": "slack",
    "dingtalk": "markdown",
    "wecom": "markdown",
    "email": "text",
}


class Texts(NamedTuple):
    """What a target's messages are written with."""

    writer: Writer
    subject: Template
    body: Template | None
    """None for a webhook without a template of its own: its body is the message."""
    page_writer: Writer
    page: Template


class Address(NamedTuple):
    """A target with all that it names: nothing of this is ever shown."""

    target: AnyTarget
    url: str
    headers: dict[str, str]
    signing: tuple[bytes, ...]
    """A webhook's secrets."""
    secret: str | None
    """A robot's secret, or the mail server's password."""
    tls: ssl.SSLContext
    texts: Texts

    def __repr__(self) -> str:
        return f"Address({self.target.name!r})"


class Ready(NamedTuple):
    """A notify file and what it names, all found right."""

    notify: Notify
    routing: Routing
    addresses: dict[str, Address]


def read_notify(path: Path, environ: Mapping[str, str] | None = None) -> Ready:
    """A notify file with all that it names.

    Args:
        path: the file.
        environ: where secrets may be; the process' own if not given.

    Raises:
        NotifyFileError: it, or what it names, is wrong; every mistake is named.
        UsageError: it cannot be read.
    """
    notify = parse_file(path)
    gathering = _Gathering(notify, path.parent, os.environ if environ is None else environ)
    addresses = {each.name: gathering.address(place) for place, each in enumerate(notify.targets)}
    if gathering.problems:
        raise NotifyFileError(sorted(gathering.problems, key=lambda problem: problem.line))
    return Ready(notify, routing_of(notify), addresses)


def parse_file(path: Path) -> Notify:
    """A notify file alone, without what it names.

    Raises:
        NotifyFileError: it is wrong; every mistake is named.
        UsageError: it cannot be read.
    """
    return parse_notify(_text_of(path), str(path))


def routing_of(notify: Notify) -> Routing:
    """The routes of a file."""
    return Routing(
        tuple(
            Route(
                to=listed(each.to),
                severity=listed(each.severity),
                category=listed(each.category),
                product=listed(each.product),
                rule=listed(each.rule),
                channel=listed(each.channel),
                state=listed(each.state),
                kind=listed(each.kind),
                goes_on=each.continue_,
            )
            for each in notify.routes
        ),
        notify.default,
        {each.name: Ear(each.heard, each.historic) for each in notify.targets},
    )


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"There is no notify file {path}; name one that is there.") from None
    except OSError as error:
        raise UsageError(f"The notify file {path} cannot be read: {error.strerror}; name another.") from None
    if len(content) > MOST_BYTES:
        raise UsageError(
            f"The notify file {path} is larger than {MOST_BYTES:,} bytes; name another, or cut it."
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = f"byte {content[error.start]:#04x} is not UTF-8"
        raise NotifyFileError([Problem(str(path), line, "", wrong, "save the file as UTF-8")]) from None


class _Gathering:
    """Looks up what the file names; gathers what is wrong with that."""

    def __init__(self, notify: Notify, folder: Path, environ: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._notify = notify
        self._folder = folder
        self._environ = environ
        self._is_right_zone = self._is_zone(("timezone",), notify.timezone, "timezone in the file")

    def address(self, place: int) -> Address:
        """A target with what it names."""
        target = self._notify.targets[place]
        path: TomlPath = ("target", place)
        self._place, self._name = path, f"[[target]] {target.name}"
        return Address(
            target,
            self._url(target),
            self._headers(target),
            self._signing(target) if isinstance(target, Webhook) else (),
            self._robot_secret(target),
            self._tls(target),
            self._texts(target),
        )

    def _add(self, key: str, wrong: str, remedy: str) -> None:
        path = (*self._place, *key.split(".", 1))
        line = line_at(self._notify.lines, path)
        self.problems.append(Problem(self._notify.where, line, f"{key} in {self._name}", wrong, remedy))

    def _is_zone(self, path: TomlPath, zone: str, name: str) -> bool:
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            remedy = 'write a name of the tz database, as "Asia/Shanghai", or "UTC"'
            line = line_at(self._notify.lines, path)
            self.problems.append(
                Problem(self._notify.where, line, name, "there is no such time zone", remedy)
            )
            return False
        return True

    def _url(self, target: AnyTarget) -> str:
        url = getattr(target, "url", "")
        if not isinstance(url, Secret):
            return str(url)
        found = self._secret("url", url)
        if found is not None and not (URL.fullmatch(found) and len(found) <= 2_048):
            self._add(
                "url", "what was found there is no http or https address", "put the whole address there"
            )
        return found or ""

    def _headers(self, target: AnyTarget) -> dict[str, str]:
        headers = {}
        for key, value in getattr(target, "headers", {}).items():
            found = self._secret(f"headers.{key}", value) if isinstance(value, Secret) else value
            if found is not None and not re.fullmatch(r"[\t\x20-\x7e]*", found):
                self._add(f"headers.{key}", "what was found there is no header's value", "put ASCII there")
            headers[key] = found or ""
        return headers

    def _signing(self, target: Webhook) -> tuple[bytes, ...]:
        found = None if target.secret is None else self._secret("secret", target.secret)
        keys = []
        for each in (found or "").split():
            try:
                keys.append(secret_bytes(each))
            except ValueError as error:
                remedy = "put whsec_ and base64 of 24 random bytes or more there"
                self._add("secret", f"what was found there signs nothing: {error}", remedy)
        return tuple(keys)

    def _robot_secret(self, target: AnyTarget) -> str | None:
        key = "password" if isinstance(target, Email) else "secret"
        ref = getattr(target, key, None)
        return self._secret(key, ref) if ref is not None and not isinstance(target, Webhook) else None

    def _secret(self, key: str, ref: Secret) -> str | None:
        """A secret, without white space around it."""
        if ref.env is not None:
            found, where = self._environ.get(ref.env, ""), f"the environment variable {ref.env}"
            if not found.strip():
                self._add(key, f"{where} is {'empty' if ref.env in self._environ else 'not set'}", "set it")
                return None
            return found.strip()
        assert ref.file is not None
        file = self._folder / ref.file
        try:
            found = file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            said = getattr(error, "strerror", None) or "it is no text"
            self._add(key, f"the file {ref.file} cannot be read: {said}", "name one that is there")
            return None
        if not found:
            self._add(key, f"the file {ref.file} is empty", "put the secret there")
        return found or None

    def _tls(self, target: AnyTarget) -> ssl.SSLContext:
        context = ssl.create_default_context()
        if target.ca_file is not None:
            try:
                context.load_verify_locations(self._folder / target.ca_file)
            except OSError as error:  # ssl.SSLError is one
                is_tls = isinstance(error, ssl.SSLError)
                said = "it has no certificates" if is_tls else error.strerror
                self._add("ca_file", f"{target.ca_file}: {said}", "name a PEM file of certificates")
        return context

    def _texts(self, target: Written) -> Texts:
        notify = self._notify
        zone = target.timezone or notify.timezone
        path, name = (*self._place, "timezone"), f"timezone in {self._name}"
        is_zone = self._is_right_zone if target.timezone is None else self._is_zone(path, zone, name)
        zone = zone if is_zone else "UTC"
        style = Style(target.language or notify.language, zone, notify.product_url)
        writer = Writer(FORMATS[target.kind], style, self._folder)
        page_writer = Writer("html", style, self._folder)
        chat, page = writer.built_in("chat"), page_writer.built_in("page")
        body = None if target.kind == "webhook" else chat
        if target.template is not None:
            body = self._own("template", writer, target.template) or body
        if isinstance(target, Email) and target.html_template is not None:
            page = self._own("html_template", page_writer, target.html_template) or page
        return Texts(writer, writer.built_in("subject"), body, page_writer, page)

    def _own(self, key: str, writer: Writer, name: str) -> Template | None:
        """A template of the operator's that takes every kind of message."""
        try:
            template = writer.load(name)
            for example in EXAMPLES.values():
                writer.write(template, example)
        except WritingError as error:
            self._add(
                key, f"the template does not work: {error}", "mend it; docs/notify.md says what it knows"
            )
            return None
        return template
