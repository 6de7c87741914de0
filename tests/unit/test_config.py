"""The configuration as a whole: told all at once, with its sources, without its secrets."""

# Sentences stand here as they are printed; the passwords are made up.
# ruff: noqa: E501, ISC004, S106

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import typer

from stream.cli.main import command_line
from stream.config import ROOMS, configuration, oddities, start_settings, unknown
from stream.errors import UsageError
from stream.settings import Settings, load

if TYPE_CHECKING:
    from pathlib import Path


def run(*words: str) -> int:
    """The exit code of a command, run in this process."""
    try:
        code = command_line()(list(words), standalone_mode=False)
    except typer.Exit as ended:
        return ended.exit_code
    return code if isinstance(code, int) else 0


def shown(name: str) -> Any:
    return next(each for each in configuration(os.environ).settings if each.name == f"REVIEWPULSE_{name}")


def set_all(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"REVIEWPULSE_{name}", value)


def test_the_defaults_are_right_and_not_odd() -> None:
    found = configuration(os.environ)
    assert (found.errors, found.warnings) == ([], [])
    assert {each.source for each in found.settings} == {"default"}
    assert [each.name for each in found.settings if each.changed] == []


def test_every_setting_is_shown_with_its_source(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reviewpulse_group").write_text("from-file\n")
    set_all(monkeypatch, SECRETS_DIR=str(tmp_path), SHARDS="8", PARTITIONS="8")
    assert shown("GROUP")[1:5] == ("from-file", "reviewpulse", "secrets file", True)
    assert shown("SHARDS")[1:5] == (8, 1, "environment", True)
    assert shown("PARTITIONS")[1:5] == (8, 8, "environment", False)
    monkeypatch.setenv("reviewpulse_namespace", "small")  # a variable's case does not matter
    assert shown("NAMESPACE")[1:4] == ("small", "rp", "environment")
    assert len(configuration(os.environ).settings) == len(Settings.model_fields)


@pytest.mark.parametrize(
    "name", ["KAFKA_PASSWORD", "REDIS_PASSWORD", "REDIS_SENTINEL_PASSWORD", "WEB_TOKENS"]
)
def test_a_secret_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    set_all(monkeypatch, **{name: "hunter2hunter2"}, KAFKA_USERNAME="ops")
    assert shown(name).value == "***"
    for words in (["show"], ["show", "--json"], ["check"]):
        run("config", *words)
        out = capsys.readouterr()
        assert "hunter2" not in out.out + out.err


def test_a_password_in_the_url_of_redis_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, REDIS="redis://ops:hunter2@cache:6379/0?password=hunter3", REDIS_PASSWORD="hunter4")
    assert run("config", "show") == 0
    out = capsys.readouterr()
    assert "redis://ops:***@cache:6379/0" in out.out
    assert "hunter" not in out.out + out.err
    assert "gives way to the password in REVIEWPULSE_REDIS" in out.err


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("SHARDS", "many", "is no whole number: write a whole number from 1 to 1024."),
        ("SHARDS", "0", "is too small: write a whole number from 1 to 1024."),
        ("SHARDS", "1e3", "is no whole number: write a whole number from 1 to 1024."),
        ("REPLICATION", "10", "is too large: write a whole number from 1 to 9."),
        ("SESSION_TIMEOUT_S", "soon", "is no number: write a number from 6 to 300."),
        ("FALSE_ALARMS_PER_DAY", "0", "is too small: write a number above 0."),
        ("FALSE_ALARMS_PER_DAY", "inf", "is not finite: write a number."),
        ("LATE_AFTER_S", "nan", "is too small: write a number of at least 0."),
        ("PUBLISH_SCORES", "perhaps", "is neither true nor false: write true or false."),
        ("PROVIDER", "tpu", "is not one of its values: write one of auto, cpu, cuda, tensorrt."),
        ("NAMESPACE", "a b", "is not what it should be: write 1 to 32 letters, digits, _, . or -."),
        ("GROUP", "", "is empty: write some text."),
        ("BUNDLE", "", "is empty: name a path, or unset it."),
        ("KAFKA", "", "is no list of addresses: write host:port, or several with commas and no blanks between."),
        ("KAFKA", "k1:9092, k2:9092", "is no list of addresses: write host:port, or several with commas and no"
         " blanks between."),
        ("TOPIC_SCORES", "a/b", "is no topic's name: write up to 245 letters, digits, _, . or -."),
    ],
)  # fmt: skip
def test_each_wrong_setting_is_told_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, sentence: str
) -> None:
    set_all(monkeypatch, **{name: value})
    with pytest.raises(UsageError) as caught:
        load()
    assert str(caught.value) == f"REVIEWPULSE_{name} {sentence}"
    assert configuration(os.environ).errors == [f"REVIEWPULSE_{name} {sentence}"]
    assert shown(name).value is None
    assert shown(name).wrong == f"REVIEWPULSE_{name} {sentence}"


def test_all_mistakes_are_told_at_once_of_values_of_what_must_fit_and_of_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("version = 1\nspeed = 3\n")
    set_all(
        monkeypatch,
        SHARDS="secret-typed-here",
        KAFKA_SECURITY="SASL_SSL",
        KAFKA_PASSWORD="hunter2",
        REDIS_KEY_FILE="/nowhere/key.pem",
        TOPIC_CHATS="reviews",
        TOPIC_ALERTS="reviews.dlq",
        WEB_INFLIGHT_BYTES="4096",
        HEALTH="everywhere",
        BUNDLE="/nowhere/bundle",
        RULES=str(rules),
        PRIORS="/nowhere/priors.json",
        NOTIFY="/nowhere/notify.toml",
        WEB_TOKENS="wall:read:short",
    )
    assert run("config", "check") == 2
    said = capsys.readouterr().err
    assert [line for line in said.splitlines() if line.startswith("wrong: ")] == [
        "wrong: REVIEWPULSE_SHARDS is no whole number: write a whole number from 1 to 1024.",
        "wrong: REVIEWPULSE_KAFKA_SECURITY=SASL_SSL needs REVIEWPULSE_KAFKA_USERNAME and"
        " REVIEWPULSE_KAFKA_PASSWORD (or a file reviewpulse_kafka_password in REVIEWPULSE_SECRETS_DIR): set"
        " REVIEWPULSE_KAFKA_USERNAME.",
        "wrong: REVIEWPULSE_REDIS_KEY_FILE needs TLS: write rediss:// in REVIEWPULSE_REDIS.",
        "wrong: REVIEWPULSE_REDIS_KEY_FILE is set without REVIEWPULSE_REDIS_CERT_FILE: set both.",
        "wrong: REVIEWPULSE_REDIS_KEY_FILE: there is no file /nowhere/key.pem; name one that is there.",
        "wrong: REVIEWPULSE_TOPIC_CHATS names the same topic as REVIEWPULSE_TOPIC_REVIEWS: give each one of"
        " its own.",
        "wrong: REVIEWPULSE_TOPIC_ALERTS is the dead-letter topic of REVIEWPULSE_TOPIC_REVIEWS: name another.",
        "wrong: REVIEWPULSE_TOPIC_ALERTS is the dead-letter topic of REVIEWPULSE_TOPIC_CHATS: name another.",
        "wrong: REVIEWPULSE_WEB_INFLIGHT_BYTES must be at least twice REVIEWPULSE_WEB_BATCH_BYTES: raise it, or"
        " lower the other.",
        "wrong: REVIEWPULSE_HEALTH=everywhere is no address: write host:port, 127.0.0.1:8080 for example.",
        "wrong: There is no bundle folder /nowhere/bundle; name one that is there, in REVIEWPULSE_BUNDLE or here.",
        f"wrong: The rules file {rules} has a mistake:",
        "wrong: Cannot read the priors /nowhere/priors.json: No such file or directory. Name a file that `reviewpulse priors learn` wrote.",
        "wrong: There is no notify file /nowhere/notify.toml; name one that is there.",
        "wrong: REVIEWPULSE_WEB_TOKENS: the token of 'wall' has fewer than 16 characters.",
    ]
    assert "secret-typed-here" not in said
    assert "hunter2" not in said


def test_a_page_that_others_reach_needs_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, WEB_HOST="192.0.2.1")
    assert configuration(os.environ).errors == [
        "REVIEWPULSE_WEB_HOST=192.0.2.1 is reached from other machines: that needs REVIEWPULSE_WEB_TOKENS, or everybody could silence alerts."
    ]
    set_all(monkeypatch, WEB_TOKENS="wall:read:0123456789abcdef")
    assert configuration(os.environ).errors == []


def test_what_is_wrong_by_itself_is_not_blamed_again_for_not_fitting(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, KAFKA_SECURITY="TLS", KAFKA_CA_FILE="/nowhere/ca.pem")
    assert configuration(os.environ).errors == [
        "REVIEWPULSE_KAFKA_SECURITY is not one of its values: write one of PLAINTEXT, SSL, SASL_PLAINTEXT,"
        " SASL_SSL.",
        "REVIEWPULSE_KAFKA_CA_FILE: there is no file /nowhere/ca.pem; name one that is there.",
    ]


def test_a_worker_hears_of_all_its_files_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, RULES="/nowhere/rules.toml", PRIORS="/nowhere/priors.json", HEALTH="x")
    with pytest.raises(UsageError) as caught:
        start_settings(ROOMS)
    said = str(caught.value).splitlines()
    assert said[0] == "3 things are wrong with the settings:"
    assert [line.split()[1] for line in said[1:]] == ["REVIEWPULSE_HEALTH=x", "There", "Cannot"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"kafka_username": "ops"}, "REVIEWPULSE_KAFKA_USERNAME does nothing while REVIEWPULSE_KAFKA_SECURITY is"
         " PLAINTEXT: write SASL_SSL there."),
        ({"kafka_security": "SASL_PLAINTEXT", "kafka_username": "ops", "kafka_password": "x"},
         "REVIEWPULSE_KAFKA_SECURITY=SASL_PLAINTEXT sends all events unencrypted: write SASL_SSL."),
        ({"redis_sentinel_password": "x"},
         "REVIEWPULSE_REDIS_SENTINEL_PASSWORD does nothing without a sentinel URL: unset it."),
        ({"redis": "redis+cluster://a:7000"},
         "REVIEWPULSE_SHARDS=1 leaves all but one master of a cluster idle: write 4 for each master."),
        ({"scorer": "constant"},
         "REVIEWPULSE_SCORER=constant gives every text the same score: unset it but for tests."),
    ],
)  # fmt: skip
def test_what_is_odd_is_a_warning(values: dict[str, Any], sentence: str) -> None:
    assert list(oddities(load(**values))) == [sentence]


def test_what_is_named_like_a_setting_and_is_none_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("reviewpulse_redis_password", "reviewpulse_kafka_pasword", "reviewpulse_zzz", "other"):
        (tmp_path / name).write_text("hunter2")
    set_all(monkeypatch, SECRETS_DIR=str(tmp_path), TOKEN_BUGDET="hunter2", TEST_KAFKA_USER="u", TOKEN="t")
    expected = [
        "REVIEWPULSE_TOKEN_BUGDET is no setting, so it does nothing: perhaps REVIEWPULSE_TOKEN_BUDGET is meant.",
        "The file reviewpulse_kafka_pasword in REVIEWPULSE_SECRETS_DIR is no setting's, so it does nothing:"
        " perhaps reviewpulse_kafka_password is meant.",
        "The file reviewpulse_zzz in REVIEWPULSE_SECRETS_DIR is no setting's, so it does nothing: remove it.",
    ]
    assert list(unknown(os.environ)) == expected
    assert run("rules", "schema") == 0
    assert capsys.readouterr().err.splitlines() == [f"warning: {each}" for each in expected]
    assert run("config", "check") == 0
    assert run("config", "check", "--strict") == 1


def test_the_json_has_all_of_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    set_all(monkeypatch, SHARDS="8", PROVIDER="tpu")
    assert run("config", "show", "--changed", "--json") == 2
    told = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in told["settings"]] == ["REVIEWPULSE_SHARDS", "REVIEWPULSE_PROVIDER"]
    assert told["settings"][0] | {"meaning": ""} == {
        "name": "REVIEWPULSE_SHARDS", "value": 8, "default": 1, "source": "environment", "changed": True,
        "secret": False, "meaning": "", "wrong": None,
    }  # fmt: skip
    assert told["errors"] == [told["settings"][1]["wrong"]]
    assert told["warnings"] == []


def test_people_see_what_is_no_default(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_all(monkeypatch, GROUP="pulse\x1b[31m", PUBLISH_SCORES="1")
    assert run("config", "show", "--changed") == 0
    assert capsys.readouterr().out.splitlines() == [
        "* REVIEWPULSE_GROUP           environment  pulse\\x1b[31m",
        "* REVIEWPULSE_PUBLISH_SCORES  environment  true",
    ]
