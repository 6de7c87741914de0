"""From a notify file's text to what it says, or to everything that is wrong with it.

Rules:
- As ``stream.core.toml_reading`` reads: every mistake at once, with line, key and remedy.
- What a message quotes of the file is cut short, and never what stands where a secret belongs: somebody may
  have put the secret itself there.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.notify_file import (
    TARGETS,
    VERSION,
    Email,
    Notify,
    NotifyFile,
    NotifyFileError,
    RouteTable,
    Secret,
    Webhook,
    listed,
)
from stream.core.rules import duration_ms
from stream.core.toml_lines import line_at, lines_of
from stream.core.toml_reading import Reading, Table, called, no_toml, shown, too_much

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.core.toml_lines import Path

TABLES: dict[type[msgspec.Struct], str] = {
    NotifyFile: "the top of the file",
    RouteTable: "[[route]]",
    **{kind: f'a [[target]] of type "{name}"' for name, kind in TARGETS.items()},
}
DURATIONS = {
    "timeout": ("1s", "5m"),
    "give_up_after": ("1m", "7d"),
    "resend": ("10s", "10m"),
    "renotify": ("1m", "7d"),
}
"""Shortest and longest."""
SECRETS = {"url", "secret", "password", "headers"}
"""Keys whose value may be a secret put where it does not belong."""
URL = re.compile(r"https?://[^\s/@?#]+([/?#][^\s]*)?")
"""Without user:password@ before the host: secrets stand elsewhere."""
_ADDRESS = r"[^\s@<>,;:()\"\\]+@[^\s@<>,;:()\"\\]+"
MAIL = re.compile(rf"{_ADDRESS}|[^<>,;:@\"\\\r\n]+ <{_ADDRESS}>")
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def parse_notify(text: str, where: str) -> Notify:
    """What a notify file says.

    Args:
        text: what stands in it.
        where: its name, for what is said of it.

    Raises:
        NotifyFileError: it is wrong; every mistake is named.

    >>> parse_notify("version = 1" + chr(10) + "default = []", "notify.toml").targets
    ()
    """
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotifyFileError([no_toml(text, where, error)]) from None
    except (ValueError, RecursionError) as error:
        raise NotifyFileError([too_much(where, error)]) from None
    reading = _Reading(where, lines_of(text), TABLES)
    found = reading.file(stated)
    if found is None:
        raise NotifyFileError(sorted(reading.problems, key=lambda problem: problem.line))
    return found


class _Reading(Reading):
    """One reading of a notify file."""

    _called: Sequence[str] = ()
    """What targets are called, right ones and wrong ones."""

    def file(self, stated: dict[str, Any]) -> Notify | None:
        """What it says, or None where there are problems."""
        if not self.is_version(stated, VERSION):
            return None
        rest = {key: value for key, value in stated.items() if key not in _APART}
        top = self.read(NotifyFile, {"version": VERSION, **rest}, (), "the file")
        targets = self._targets(stated)
        routes = self.tables(RouteTable, stated, "route")
        names = self._names(targets)
        for table in (top, *targets):
            self._durations(table)
        for table in targets:
            self._secrets(table)
            self._headers(table)
            self._address(table)
            self._mail(table)
        self._link(top)
        for table in routes:
            self._to(table, "to", names)
            self._products(table)
        self._to(top, "default", names)
        self._reached(routes)
        if self.problems:
            return None
        file = msgspec.convert(top.right, NotifyFile)
        return Notify(
            targets=tuple(_made(table) for table in targets),
            routes=tuple(msgspec.convert(table.stated, RouteTable) for table in routes),
            default=listed(file.default),
            language=file.language,
            timezone=file.timezone,
            renotify_ms=duration_ms(file.renotify),
            product_url=file.product_url,
            where=self._where,
            lines=self._lines,
        )

    def is_secret(self, path: Path) -> bool:
        """What stands where a secret belongs is not repeated: it may be one, put there by mistake."""
        return path[:1] == ("target",) and path[-1] in SECRETS

    def _targets(self, stated: Mapping[str, Any]) -> list[Table]:
        tables = stated.get("target", [])
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            return self.tables(Webhook, stated, "target")  # which says so
        found = []
        self._called = [each["name"] for each in tables if isinstance(each.get("name"), str)]
        for place, table in enumerate(tables):
            path, name = ("target", place), called("target", place, table)
            kind = table.get("type")
            if isinstance(kind, str) and kind in TARGETS:
                keys = {key: value for key, value in table.items() if key != "type"}
                found.append(self.read(TARGETS[kind], keys, path, name))
            elif "type" in table:
                remedy = f"write one of {', '.join(TARGETS)} between double quotes"
                self.add((*path, "type"), f"type in {name}", f"{shown(kind)} is no kind of target", remedy)
            else:
                self.add(path, f"type in {name}", "it is missing", 'write type = "webhook", for example')
        return found

    def _names(self, targets: list[Table]) -> list[str]:
        lines: dict[str, int] = {}
        for table in targets:
            name, path = table.right.get("name"), (*table.path, "name")
            if name in lines:
                wrong = f"the target on line {lines[name]} is called so, too"
                self.add(path, f"name in {table.name}", wrong, "give each target a name of its own")
            elif name is not None:
                lines[name] = line_at(self._lines, path)
        # A target that is wrong is one complaint, not one more for each route that names it.
        return list(dict.fromkeys([*lines, *self._called]))

    def _durations(self, table: Table) -> None:
        for key, (least, most) in DURATIONS.items():
            if key not in table.right:
                continue
            said, path, name = table.right[key], (*table.path, key), f"{key} in {table.name}"
            if duration_ms(said) < duration_ms(least):
                self.add(path, name, f"{said} is less than {least}", f'write {key} = "{least}", or more')
            elif duration_ms(said) > duration_ms(most):
                self.add(path, name, f"{said} is more than {most}", f'write {key} = "{most}", or less')

    def _secrets(self, table: Table) -> None:
        """Each is in one place, and that is named."""
        found = [(key, value) for key, value in table.right.items() if isinstance(value, Secret)]
        headers = table.right.get("headers", {})
        found += [(f"headers.{key}", value) for key, value in headers.items() if isinstance(value, Secret)]
        for key, secret in found:
            if (secret.env is None) == (secret.file is None):
                wrong = "it names no place" if secret.env is None else "it names two places"
                path = (*table.path, *key.split(".", 1))
                self.add(path, f"{key} in {table.name}", wrong, 'write { env = "NAME" } or { file = "PATH" }')

    def _headers(self, table: Table) -> None:
        for key, value in table.right.get("headers", {}).items():
            path, name = (*table.path, "headers", key), f"headers in {table.name}"
            if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", key):
                self.add(path, name, f"{shown(key)} is no header's name", "write letters, digits and -")
            elif key.lower() in _OURS:
                self.add(path, name, f"{key.lower()} is set by us", "remove it")
            elif key.lower() in _SECRET_HEADERS and isinstance(value, str):
                remedy = f'write {key} = {{ env = "NAME" }} or {{ file = "PATH" }}'
                self.add(path, name, f"the value of {key} is a secret and stands in the file", remedy)
            elif isinstance(value, str) and not re.fullmatch(r"[\t\x20-\x7e]*", value):
                self.add(path, name, f"the value of {key} is no header's", "write ASCII on one line")
        for key in table.right.get("labels", {}):
            if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]{0,100}", key):
                self.add(
                    (*table.path, "labels", key),
                    f"labels in {table.name}",
                    f"{shown(key)} is no label's name",
                    "write letters, digits and _",
                )

    def _address(self, table: Table) -> None:
        url = table.right.get("url")
        if isinstance(url, str) and not (URL.fullmatch(url) and len(url) <= 2_048):
            wrong = "what stands there is no http or https address without user and password"
            remedy = 'write "https://example.com/hook", or { env = "NAME" } where it holds a secret'
            self.add((*table.path, "url"), f"url in {table.name}", wrong, remedy)

    def _products(self, table: Table) -> None:
        for each in listed(table.right.get("product")):
            if re.search(r"[?\[\]]", each):
                wrong = f"{shown(each)} is no product id or pattern"
                remedy = "write * for any characters; ?, [ and ] are not known"
                self.add((*table.path, "product"), f"product in {table.name}", wrong, remedy)

    def _mail(self, table: Table) -> None:
        """A password is for a user, and goes over nothing that others read."""
        if table.kind is not Email:
            return
        right, path = table.right, table.path
        if ("user" in table.stated) != ("password" in table.stated):
            has, lacks = ("user", "password") if "user" in table.stated else ("password", "user")
            wrong, remedy = f"it has {has} and no {lacks}", f"write {lacks}, or remove {has}"
            self.add((*path, has), f"{has} in {table.name}", wrong, remedy)
        elif "password" in right and right.get("tls") == "none" and right.get("host") not in LOOPBACK:
            wrong, remedy = "the password would go unencrypted over the network", 'write "starttls" or "tls"'
            self.add((*path, "tls"), f"tls in {table.name}", wrong, remedy)
        for key in ("from", "to"):
            for each in listed(right.get(key)):
                if len(each) > 320 or not MAIL.fullmatch(each):
                    wrong = f"{shown(each)} is no mail address"
                    remedy = f'write {key} = "ops@example.com" or "Ops <ops@example.com>"'
                    self.add((*path, key), f"{key} in {table.name}", wrong, remedy)
        if right.get("to") == []:
            self.add((*path, "to"), f"to in {table.name}", "it is empty", 'write to = "ops@example.com"')

    def _link(self, top: Table) -> None:
        url = top.right.get("product_url")
        if url is None:
            return
        name, path = "product_url in the file", ("product_url",)
        rest = url.replace("{product_id}", "")
        if not re.fullmatch(r"https?://[^\s/@]+[^\s]*", url) or "{" in rest or "}" in rest:
            remedy = 'write "https://example.com/products/{product_id}", for example'
            self.add(path, name, "it is no address with {product_id} in it", remedy)

    def _to(self, table: Table, key: str, names: list[str]) -> None:
        value = table.right.get(key)
        if key == "to" and value == []:
            self.add(
                (*table.path, key), f"to in {table.name}", "it is empty", "name a target, or remove the route"
            )
        for each in listed(value):
            if each not in names:
                there = f"there are {', '.join(names)}" if names else "write a [[target]] of this name"
                self.add(
                    (*table.path, key), f"{key} in {table.name}", f"there is no target {shown(each)}", there
                )

    def _reached(self, routes: list[Table]) -> None:
        """A route below one that fits everything is never looked at."""
        ends: Table | None = None
        for table in routes:
            if ends is not None:
                line = line_at(self._lines, ends.path)
                wrong = f"it is never looked at: the route on line {line} fits everything"
                remedy = "put it above that route, or write continue = true there"
                self.add(table.path, table.name, wrong, remedy)
            elif set(table.stated) <= {"to"} or (
                set(table.stated) <= {"to", "continue"} and table.stated.get("continue") is False
            ):
                ends = table


def _made(table: Table) -> Any:
    names = {field.encode_name: field.name for field in msgspec.structs.fields(table.kind)}
    return table.kind(**{names[key]: value for key, value in table.right.items()})


_APART = {"version", "target", "route"}
"""Keys at the top that are read by themselves."""
_OURS = {
    "content-type", "content-length", "host", "user-agent", "idempotency-key", "transfer-encoding",
    "connection", "webhook-id", "webhook-timestamp", "webhook-signature",
}  # fmt: skip
_SECRET_HEADERS = {"authorization", "proxy-authorization", "x-api-key", "cookie", "x-auth-token", "api-key"}
