"""The notify file: what it may say, what is said of a wrong one, and that it never gives a secret away."""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path

import msgspec
import pytest
import trustme
from told_files import told_files

from stream.core.notify_file import (
    Alertmanager,
    Email,
    NotifyFile,
    NotifyFileError,
    RouteTable,
    Secret,
    Slack,
    Target,
    Webhook,
)
from stream.core.notify_parse import TABLES, parse_notify
from stream.core.routing import Ear, Route
from stream.core.toml_reading import fits, wanted_of
from stream.deliver.config import read_notify, routing_of
from stream.errors import UsageError

DOCS = Path(__file__).parents[2] / "docs"
WRONG = told_files(Path(__file__).with_name("wrong_notify.txt"))
TOP = "version = 1\ndefault = []\n"
HOOK = '[[target]]\nname = "hook"\ntype = "webhook"\nurl = "https://example.com/hook"\n'
ROOM = '[[target]]\nname = "room"\ntype = "slack"\nurl = { env = "ROOM" }\n'
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def told(text: str, folder: Path, environ: dict[str, str] | None = None) -> list[str]:
    """What is said of a file whose TOML is right, and what it names is not."""
    path = folder / "notify.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(NotifyFileError) as refused:
        read_notify(path, environ or {})
    assert refused.value.exit_code == 2
    return [str(each).removeprefix(f"{path}:") for each in refused.value.problems]


# ---- Right files


def test_a_file_becomes_targets_and_routes() -> None:
    found = parse_notify(
        """
version = 1
default = "room"
timezone = "Asia/Shanghai"
[[target]]
name = "hook"
type = "webhook"
url = "https://example.com/hook"
secret = { file = "key" }
historic = true
[[target]]
name = "room"
type = "slack"
url = { env = "ROOM" }
hears = "transitions"
[[target]]
name = "mail"
type = "email"
host = "mail.example.com"
from = "Reviewpulse <rp@example.com>"
to = ["a@example.com", "b@example.com"]
[[route]]
to = ["hook", "mail"]
severity = "critical"
product = ["B00*", "KT-1"]
state = ["firing", "resolved"]
continue = true
""",
        "notify.toml",
    )
    assert [type(each) for each in found.targets] == [Webhook, Slack, Email]
    hook, room, mail = found.targets
    assert isinstance(hook, Webhook)
    assert isinstance(mail, Email)
    assert (hook.heard, room.heard, mail.heard) == ("transitions", "transitions", "notifications")
    assert (hook.secret, room.url) == (Secret(file="key"), Secret(env="ROOM"))
    assert mail.recipients == ["a@example.com", "b@example.com"]
    assert (hook.timeout_s, hook.give_up_ms) == (15.0, 86_400_000)
    assert found.timezone == "Asia/Shanghai"
    routing = routing_of(found)
    assert routing.default == ("room",)
    assert routing.routes == (
        Route(
            ("hook", "mail"),
            severity=("critical",),
            product=("B00*", "KT-1"),
            state=("firing", "resolved"),
            goes_on=True,
        ),
    )
    assert routing.ears == {
        "hook": Ear("transitions", historic=True),
        "room": Ear("transitions"),
        "mail": Ear("notifications"),
    }


def test_machines_hear_every_transition_and_people_notifications_unless_the_file_says_otherwise() -> None:
    assert [(kind.kind, kind.for_people) for kind in TABLES if issubclass(kind, Target)] == [
        ("webhook", False),
        ("alertmanager", False),
        ("slack", True),
        ("dingtalk", True),
        ("wecom", True),
        ("email", True),
    ]


def test_every_key_says_what_it_takes_and_an_example_that_it_takes() -> None:
    for kind in TABLES:
        for field in msgspec.structs.fields(kind):
            if field.encode_name in ("target", "route"):
                continue
            wanted = wanted_of(kind)[field.encode_name]
            for example in wanted.example.split(" or "):
                assert fits(tomllib.loads(f"x = {example}")["x"], field.type), (kind, field.name, example)


def test_the_example_in_the_docs_is_right_and_has_every_key(tmp_path: Path) -> None:
    text = (DOCS / "notify.toml").read_text("utf-8")
    for name, content in (("hook-secret", KEY), ("smtp-password", "secret")):
        (tmp_path / name).write_text(content, "utf-8")
    (tmp_path / "ca.pem").write_bytes(trustme.CA().cert_pem.bytes())
    (tmp_path / "pager.j2").write_text('{"text": {{ state_word }}}', "utf-8")
    (tmp_path / "mail.html.j2").write_text("<p>{{ state_word }}</p>", "utf-8")
    path = tmp_path / "notify.toml"
    path.write_text(text, "utf-8")
    urls = ("OPS_SLACK_URL", "OPS_DINGTALK_URL", "OPS_WECOM_URL")
    environ = dict.fromkeys(urls, "https://example.com/robot") | {
        "OPS_DINGTALK_SECRET": "SEC1",
        "OPS_API_TOKEN": "Bearer x",
    }
    found = read_notify(path, environ).notify
    assert {each.kind for each in found.targets} == {
        "webhook",
        "alertmanager",
        "slack",
        "dingtalk",
        "wecom",
        "email",
    }
    stated: dict[str, set[str]] = {}
    document = tomllib.loads(text)
    for table in document["target"]:
        stated.setdefault(table["type"], set()).update(table)
    for kind in {Webhook, Alertmanager, Slack, Email}:
        lacking = {field.encode_name for field in msgspec.structs.fields(kind)} - stated[kind.kind]
        assert lacking - {"hears", "historic", "timeout", "give_up_after", "ca_file"} <= {
            "language",
            "timezone",
            "template",
        }, kind
    everywhere = set().union(*stated.values())
    assert {field.encode_name for field in msgspec.structs.fields(Target)} <= everywhere
    keys = {field.encode_name for field in msgspec.structs.fields(RouteTable)}
    assert keys == set().union(*document["route"])
    assert {field.encode_name for field in msgspec.structs.fields(NotifyFile)} == set(document)


# ---- Wrong files


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_line_key_and_remedy(text: str, said: list[str]) -> None:
    with pytest.raises(NotifyFileError) as refused:
        parse_notify(text, "notify.toml")
    assert [str(each) for each in refused.value.problems] == [f"notify.toml:{each}" for each in said]


def test_there_are_enough_wrong_files_to_mean_something() -> None:
    assert len(WRONG) >= 60


def test_no_complaint_repeats_a_secret() -> None:
    with_secret = {title: said for title, (text, said) in WRONG.items() if "hunter2" in text}
    assert len(with_secret) == 7
    assert [title for title, said in with_secret.items() if "hunter2" in " ".join(said)] == []


# ---- What a file names


def test_a_secret_that_is_not_there_is_named_by_its_place(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text(" \n", "utf-8")
    text = TOP + ROOM + HOOK + 'secret = { file = "key" }\nheaders = { X-Key = { file = "empty" } }\n'
    gone = os.strerror(errno.ENOENT)
    assert told(text, tmp_path) == [
        "6: url in [[target]] room: the environment variable ROOM is not set; set it.",
        f"11: secret in [[target]] hook: the file key cannot be read: {gone}; name one that is there.",
        "12: headers.X-Key in [[target]] hook: the file empty is empty; put the secret there.",
    ]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ROOM": " "}, "the environment variable ROOM is empty; set it"),
        (
            {"ROOM": "hunter2"},
            "what was found there is no http or https address; put the whole address there",
        ),
        ({"ROOM": "https://hunter2 x"}, "what was found there is no http or https address; put the whole"),
    ],
)
def test_an_address_that_is_none_is_not_repeated(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    (complaint,) = told(TOP + ROOM, tmp_path, environ)
    assert f"6: url in [[target]] room: {said}" in complaint
    assert "hunter2" not in complaint


@pytest.mark.parametrize(
    ("secret", "why"),
    [
        ("hunter2", "it has 7 bytes; 24 are the least"),
        ("whsec_hunter2!", "behind whsec_ it is no base64"),
        ("whsec_aHVudGVyMg==", "it has 7 bytes; 24 are the least"),
    ],
)
def test_a_secret_that_signs_nothing_is_refused(tmp_path: Path, secret: str, why: str) -> None:
    (complaint,) = told(TOP + HOOK + 'secret = { env = "KEY" }\n', tmp_path, {"KEY": secret})
    assert f"7: secret in [[target]] hook: what was found there signs nothing: {why};" in complaint
    assert "hunter2" not in complaint


def test_two_secrets_sign_each(tmp_path: Path) -> None:
    path = tmp_path / "notify.toml"
    path.write_text(TOP + HOOK + 'secret = { env = "KEY" }\n', "utf-8")
    ready = read_notify(path, {"KEY": f"{KEY}\n{'x' * 24}"})
    assert len(ready.addresses["hook"].signing) == 2
    assert KEY not in repr(ready)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ nothing }}", "pager.j2:1: 'nothing' is undefined"),
        ('{"a": {{ alert.product_id }}}', "pager.j2:1: 'None' has no attribute 'product_id'"),
        ("{% if %}", "pager.j2:1: Expected an expression, got 'end of statement block'"),
        ("so", "pager.j2: what it makes is no JSON"),
        ('\n{{ "".__class__.__mro__ }}', "pager.j2:2: access to attribute '__class__'"),
    ],
)
def test_a_template_is_tried_on_all_that_can_happen(tmp_path: Path, template: str, why: str) -> None:
    (tmp_path / "pager.j2").write_text(template, "utf-8")
    (complaint,) = told(TOP + HOOK + 'template = "pager.j2"\n', tmp_path)
    assert complaint.startswith(f"7: template in [[target]] hook: the template does not work: {why}")
    assert complaint.endswith("mend it; docs/notify.md says what it knows.")


def test_so_are_certificates_and_time_zones(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none", "utf-8")
    text = 'version = 1\ndefault = []\ntimezone = "Mars"\n' + HOOK + 'ca_file = "ca.pem"\ntimezone = "Moon"\n'
    zone = 'there is no such time zone; write a name of the tz database, as "Asia/Shanghai", or "UTC".'
    assert told(text, tmp_path) == [
        f"3: timezone in the file: {zone}",
        "8: ca_file in [[target]] hook: ca.pem: it has no certificates; name a PEM file of certificates.",
        f"9: timezone in [[target]] hook: {zone}",
    ]


def test_a_file_that_is_not_there_or_no_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no notify file .*; name one that is there"):
        read_notify(tmp_path / "nothing.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_notify(tmp_path)
    path = tmp_path / "notify.toml"
    path.write_bytes(b"version = 1\n# \xff\n")
    with pytest.raises(NotifyFileError, match=r":2: byte 0xff is not UTF-8; save the file as UTF-8"):
        read_notify(path)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("[" * 3_000, "its arrays are nested too deeply"),
        ("9" * 5_000, "a number in it has thousands of digits"),
    ],
)
def test_what_the_toml_parser_cannot_hold_is_a_mistake(value: str, wrong: str) -> None:
    with pytest.raises(NotifyFileError, match=wrong):
        parse_notify(f"version = 1\nx = {value}", "notify.toml")
