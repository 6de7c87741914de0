"""What is fuzzed: each target takes bytes and complains when a rule is broken.

Rules:
- A target raises nothing but ``Broken`` for a broken promise, and lets through what should never have been
  raised. The errors that a room documents are swallowed here.
- What is said of an input is checked, too: it can be written as UTF-8, is no novel, and repeats no secret.
- Nothing leaves the process: no server, no network, files in a temporary folder alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import os
import shutil
import tempfile
import tomllib
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import msgspec

from stream import bundle
from stream.client.validation import Limits
from stream.core import decode, detection, surge, threshold, usual
from stream.core.decode import decode_run
from stream.core.notify_file import NotifyFileError
from stream.core.notify_parse import SECRETS
from stream.core.priors import DEFAULT, encode_snapshot, read_snapshot, snapshot
from stream.core.rules import RulesError
from stream.core.rules_warnings import warnings
from stream.dead_letters import from_record
from stream.deliver.config import parse_file
from stream.errors import BundleError, DependencyError, UsageError
from stream.ingest import Ingested, ingest
from stream.promotion import read_promotion
from stream.reading import open_file
from stream.redis_config import connect_async
from stream.redis_url import shown_url
from stream.replay import column_map, encode_row, read_history
from stream.rules import read_rules
from stream.settings import Settings, load
from stream.store import values
from stream.store.layout import UnknownLayout, read_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST_SENTENCE = 20_000
"""Of all that is said of one input. A file with a thousand mistakes has as many lines."""
LONGEST_REASON = 2_000
"""Of one dead letter or refused line: these are stored and sent on."""
TOKEN = "a-token-nobody-may-see"  # noqa: S105 (made up)


class Broken(AssertionError):  # noqa: N818 (a promise is)
    """A promise that does not hold."""


class Record(NamedTuple):
    """A Kafka record, as far as decoding goes."""

    offset: int
    timestamp: int
    value: bytes | None
    key: bytes | None = None


def check(holds: bool, promise: str) -> None:
    if not holds:
        raise Broken(promise)


def said_well(text: str, most: int = LONGEST_SENTENCE) -> None:
    check(bool(text.strip()), "an error says something")
    check(len(text) <= most, f"an error has {len(text):,} characters, more than {most:,}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Broken("an error can be written as UTF-8") from None


@contextmanager
def file_of(content: bytes, name: str = "file") -> Iterator[Path]:
    """A file in memory where the system has such a folder."""
    shared = Path("/dev/shm")  # noqa: S108 (a folder of our own in it)
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


# Events


def _events(channel: Any, data: bytes) -> None:
    records = [Record(n, at, data) for n, at in enumerate((1_764_000_000_000, -1, 0))]
    decoded = decode_run(channel, records, Limits(60_000, 300_000))
    seen = [each.offset for each in (*decoded.events, *decoded.dead)] + decoded.skipped
    check(sorted(seen) == [0, 1, 2], "each record ends as exactly one thing")
    for letter in decoded.dead:
        said_well(letter.reason, decode.LONGEST_REASON)
    for event in decoded.events:
        check(bool(event.text) and bool(event.product_id), "an event has a text and a product")
        check(0 <= event.event_ms < 253_402_300_800_000, "an event's time is of 1970 to 9999")
        event.text.encode()
        event.product_id.encode()


def reviews(data: bytes) -> None:
    """The decoder of reviews."""
    _events("reviews", data)


def chats(data: bytes) -> None:
    """The decoder of chat lines."""
    _events("chats", data)


class _Sender:
    lost = 0

    def send_encoded(self, channel: Any, product_id: str, value: bytes) -> None:
        del channel
        product_id.encode()
        check(len(value) <= 60_000, "no event larger than allowed is sent")

    def flush(self) -> None:
        """Nothing waits."""


def lines(data: bytes) -> None:
    """``ingest``: JSON lines, packed or not."""
    progress = Ingested()
    with file_of(data) as path:
        try:
            with open_file(str(path)) as opened:
                ingest(
                    opened.lines,
                    "reviews",
                    _Sender(),
                    Limits(60_000),
                    progress,
                    now_ms=lambda: 1_764_000_000_000,
                )
        except UsageError as error:
            said_well(str(error))
            return
    check(progress.lines == progress.sent + progress.bad.count, "each line was sent or named")
    for flaw in progress.bad.named:
        said_well(flaw.reason, LONGEST_REASON)


def letters(data: bytes) -> None:
    """Dead letters, whose headers anybody may have written."""
    half = len(data) // 2
    headers = [
        (name, data[:half])
        for name in ("stage", "reason", "source_partition", "source_offset", "failed_at", "topic")
    ]

    record = SimpleNamespace(value=data[half:], key=data[:1], headers=headers, partition=0, offset=0)
    found = from_record(record, "reviews")
    check(found.topic == "reviews", "a letter goes back to where it came from, whatever it says")


def _history(format_: Any, name: str, data: bytes) -> None:
    with file_of(data, name) as path:
        try:
            with open_file(str(path)) as opened:
                columns = column_map(format_, "reviews", [])
                history = read_history(opened.lines, format_, columns, "reviews", name=name)
        except UsageError as error:
            said_well(str(error), 100_000)  # it names all columns, however long
            return
    check(history.read == len(history.rows) + history.skipped.count, "each row is kept or named")
    for flaw in history.skipped.named:
        said_well(flaw.reason, LONGEST_REASON)
    for row in history.rows:
        try:
            encode_row(row)
        except ValueError as error:
            raise Broken(f"a row that was read can be sent: {error}") from error


def csv(data: bytes) -> None:
    """``replay --format csv``."""
    _history("csv", "file.csv", data)


def amazon(data: bytes) -> None:
    """``replay --format amazon``."""
    _history("amazon", "file.json", data)


# Files that people write


def rules(data: bytes) -> None:
    """The rules file."""
    with file_of(data, "rules.toml") as path:
        try:
            found = read_rules(path)
        except RulesError as error:
            said_well(str(error), 200_000)
            check(len(error.problems) > 0, "a wrong file has a mistake")
            check(
                all(0 < each.line <= data.count(b"\n") + 1 for each in error.problems), "a mistake has a line"
            )
        except UsageError as error:
            said_well(str(error))
        else:
            for each in warnings(found, 1_000_000.0):
                said_well(str(each))


def notify(data: bytes) -> None:
    """The notify file: nothing that stands where a secret belongs is repeated."""
    with file_of(data, "notify.toml") as path:
        try:
            parse_file(path)
        except NotifyFileError as error:
            told = str(error)
            said_well(told, 200_000)
            for secret in _secrets_of(data):
                check(secret not in told, "a secret is not repeated")
        except UsageError as error:
            said_well(str(error))


def _secrets_of(data: bytes) -> set[str]:
    """Long texts that stand where a secret belongs, and nowhere else."""
    try:
        stated = tomllib.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return {each for each in ("hunter2hunter2hunter2",) if each.encode() in data}
    targets = stated.get("target")
    found: set[str] = set()
    for target in targets if isinstance(targets, list) else ():
        for key, value in target.items() if isinstance(target, dict) else ():
            if key in SECRETS:
                found |= {each for each in _texts(value, keys=False) if len(each) >= 12}
                target[key] = dict.fromkeys(value) if isinstance(value, dict) else None
    elsewhere = [*_texts(stated), "https://example.com/hook"]  # what the remedy says
    return {each for each in found if not any(each in other for other in elsewhere)}


def _texts(value: Any, *, keys: bool = True) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        if keys:
            yield from map(str, value)
        for each in value.values():
            yield from _texts(each, keys=keys)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, keys=keys)


def priors(data: bytes) -> None:
    """A snapshot of priors, as it is and with the version that its content has."""
    _priors(data)
    try:
        tree = json.loads(data)
        if isinstance(tree, dict) and isinstance(tree.get("channels"), dict):
            bare = msgspec.convert({**tree, "version": ""}, type(DEFAULT))
            _priors(encode_snapshot(snapshot(bare.made_at, bare.model_version, bare.channels)))
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return  # it has no version of its own


def _priors(raw: bytes) -> None:
    try:
        found = read_snapshot(raw)
    except ValueError as error:
        said_well(str(error), LONGEST_REASON)
        return
    for channel in ("reviews", "chats"):
        prior = found.of(channel, "batteries")  # type: ignore[arg-type]
        check(all(map(math.isfinite, (prior.alpha, prior.beta))), "a prior is finite")
        profile = found.profile(channel)  # type: ignore[arg-type]
        days = profile.days(0, 86_400_000 * 30)
        check(math.isfinite(days) and days >= 0, "a week's time is finite")


def settings(data: bytes) -> None:
    """``NAME=value`` lines as the environment: errors are sentences that repeat no value."""
    variables: dict[str, str] = {}
    for line in data.decode("utf-8", "replace").split("\n"):
        name, found, value = line.partition("=")
        name = name.strip().upper()
        if found and name.lower() in Settings.model_fields:
            variables[f"REVIEWPULSE_{name}"] = value.replace("\0", "")[:5_000]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REVIEWPULSE_")}
    with patch.dict(os.environ, kept | variables, clear=True):
        from stream.config import configuration  # noqa: PLC0415 (after the patch of the environment)

        found_ = configuration(os.environ)
        secrets = [
            each
            for name, each in variables.items()
            if "PASSWORD" in name or "TOKENS" in name
            if len(each) >= 12
        ]
        shown = json.dumps(found_._asdict(), default=str)
        plain = [
            value for name, value in variables.items() if "PASSWORD" not in name and "TOKENS" not in name
        ]
        for secret in secrets:
            if not any(secret in each for each in plain):
                check(secret not in shown, "a secret is not shown")
        for error in found_.errors:
            said_well(error)
        try:
            load()
        except UsageError as error:
            said_well(str(error))


def redis_url(data: bytes) -> None:
    """``REVIEWPULSE_REDIS``: read, or refused; shown without its password."""
    url = data.decode("utf-8", "replace").replace("\0", "")
    shown_url(url)
    secrets = [
        each
        for each in ("hunter2hunter2", "hunter2hun", "ter2hunter2")
        if url.count(each) == 1 and "@" in url
    ]
    hidden = [
        each
        for each in secrets
        if url.index(each) < url.rindex("@") and ":" in url[: url.index(each)].replace("://", "", 1)
    ]
    check(not any(each in shown_url(url) for each in hidden), "a password is not shown")
    try:
        connect_async(Settings(redis=url))
    except UsageError as error:
        said_well(str(error), 100_000)
        check(not any(each in str(error) for each in hidden), "a password is not shown")


# What Redis holds


def states(data: bytes) -> None:
    """Detectors' states: of this version, or refused."""
    for read in (
        detection._Opened.of,
        surge.unpack,
        threshold.unpack,
        usual.unpack,
    ):
        try:
            read(data)
        except ValueError as error:
            said_well(str(error), LONGEST_REASON)


def stored(data: bytes) -> None:
    """Counters, the layout, what was promoted."""
    for read in (
        values.unpack_total,
        lambda each: values.unpack_current(each, 60_000),
        lambda each: values.unpack_slot(each, 1),
    ):
        try:
            read(data)
        except DependencyError as error:
            said_well(str(error), LONGEST_REASON)
    try:
        read_written(data)
    except UnknownLayout as error:
        said_well(str(error), LONGEST_REASON)
    try:
        read_promotion(data)
    except UsageError as error:
        said_well(str(error), LONGEST_REASON)


# Bundles


def manifest(data: bytes) -> None:
    """The manifest of a bundle."""
    with file_of(data, bundle.MANIFEST) as path:
        for read in (bundle.load_manifest, bundle.verify):
            try:
                read(path.parent)
            except BundleError as error:
                said_well(str(error), 100_000)


TINY = Path(__file__).parent / "bundle"
"""A bundle of a few kilobytes: random weights."""


def _bundle_with(name: str, data: bytes) -> None:
    """The tiny bundle with a file exchanged, and a manifest that vouches for it."""
    from stream.scorer.onnx import OnnxScorer  # noqa: PLC0415 (half a second)

    with file_of(data, name) as path:
        for each in TINY.iterdir():
            if each.name != name:
                shutil.copyfile(each, path.parent / each.name)
        stated = json.loads((TINY / bundle.MANIFEST).read_bytes())
        stated["files"][name] = hashlib.sha256(data).hexdigest()
        (path.parent / bundle.MANIFEST).write_text(json.dumps(stated))
        try:
            scorer = OnnxScorer(path.parent, bundle.verify(path.parent), provider="cpu", threads=1)
            tokens = scorer.encode(["The battery broke.", ""])
            check(
                all(0 <= each <= stated["max_length"] for each in tokens.lengths.tolist()),
                "texts have tokens",
            )
        except BundleError as error:
            said_well(str(error), 100_000)


def tokenizer(data: bytes) -> None:
    """A bundle's tokenizer."""
    _bundle_with(bundle.TOKENIZER, data)


def model(data: bytes) -> None:
    """A bundle's network."""
    _bundle_with(bundle.MODEL, data)


# HTTP


class _Producer:
    """Kafka that takes everything."""

    async def send(self, topic: str, value: bytes, key: bytes, headers: Any = None) -> Any:
        del topic, value, key, headers
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future


class _Site:
    """The web server's application, with a Kafka of ours behind it."""

    def __init__(self) -> None:
        from stream.web.app import create_app  # noqa: PLC0415 (half a second)

        logging.getLogger("stream.web").setLevel(logging.CRITICAL)
        self.loop = asyncio.new_event_loop()
        self.app = create_app(load(web_tokens=f"shop:ingest:{TOKEN}", max_event_bytes=60_000))
        self.app.state.shared.ingest._producer = _Producer()

    def ask(
        self, method: str, path: bytes, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> tuple[int, bytes]:
        """Status and body of the answer."""
        plain, _, query = path.partition(b"?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method,
            "path": plain.decode("utf-8", "replace"), "raw_path": path, "query_string": query,
            "root_path": "", "scheme": "http", "headers": [(b"host", b"127.0.0.1"), *headers],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip
        pieces = [body[: len(body) // 2], body[len(body) // 2 :]]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if not pieces:
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces)}

        async def send(message: Any) -> None:
            sent.append(message)

        self.loop.run_until_complete(asyncio.wait_for(self.app(scope, receive, send), 20))  # type: ignore[arg-type]
        return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])


_sites: list[_Site] = []
ANSWERS = {202, 400, 401, 403, 404, 405, 413, 415, 429}


def http(data: bytes) -> None:
    """The HTTP API: ``METHOD path``, header lines, an empty line, a body."""
    if not _sites:
        _sites.append(_Site())
    head, _, body = data.partition(b"\n\n")
    first, *rest = head.split(b"\n")
    method, _, path = first.partition(b" ")
    headers = [
        (name.strip().lower(), value.strip())
        for name, found, value in (each.partition(b":") for each in rest)
        if found
    ]
    headers.append((b"authorization", f"Bearer {TOKEN}".encode()))
    kind = "POST" if method != b"GET" else "GET"
    events = path.startswith((b"/api/v1/reviews", b"/api/v1/chats"))
    if not events:
        path = b"/api/v1/reviews"
    status, answer = _sites[0].ask(kind, path, headers, body)
    check(status in ANSWERS, f"the status is a documented one, not {status}")
    check(TOKEN.encode() not in answer, "the token is not sent back")
    if status != 202:
        check(isinstance(json.loads(answer)["error"], str), "an error is a sentence")


class Target(NamedTuple):
    """A function, and how much one run of it costs beside the others."""

    run: Callable[[bytes], None]
    examples: int
    """Mutated inputs in the test run."""
    native: bool = False
    """What parses it is compiled and not ours: it has a process of its own in the long run."""


TARGETS: dict[str, Target] = {
    "reviews": Target(reviews, 300),
    "chats": Target(chats, 200),
    "lines": Target(lines, 100),
    "letters": Target(letters, 100),
    "csv": Target(csv, 200),
    "amazon": Target(amazon, 200),
    "rules": Target(rules, 300),
    "notify": Target(notify, 300),
    "priors": Target(priors, 200),
    "settings": Target(settings, 60),
    "redis_url": Target(redis_url, 150),
    "states": Target(states, 400),
    "stored": Target(stored, 300),
    "manifest": Target(manifest, 150),
    "tokenizer": Target(tokenizer, 60, native=True),
    "model": Target(model, 40, native=True),
    "http": Target(http, 150),
}
