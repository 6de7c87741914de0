"""Settings: where they come from, which wins, and how a wrong one is told."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from stream.errors import UsageError
from stream.faust_config import faust_broker, faust_credentials
from stream.kafka_config import aiokafka_config, kafka_python_config
from stream.redis_config import connect, redis_kwargs
from stream.redis_url import shown_url
from stream.settings import Settings, load, unknown_variables


def test_every_setting_has_a_meaning() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_defaults_speak_plain_text_to_loopback() -> None:
    settings = load()
    assert settings.kafka == "127.0.0.1:9092"
    assert settings.redis == "redis://127.0.0.1:6379/0"
    assert kafka_python_config(settings) == {
        "bootstrap_servers": ["127.0.0.1:9092"],
        "client_id": "reviewpulse",
        "security_protocol": "PLAINTEXT",
    }
    assert faust_credentials(settings) is None


def test_an_option_wins_over_the_environment_and_the_environment_over_a_secret_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "reviewpulse_group").write_text("from-file\n")
    monkeypatch.setenv("REVIEWPULSE_SECRETS_DIR", str(tmp_path))
    assert load().group == "from-file"
    monkeypatch.setenv("REVIEWPULSE_GROUP", "from-environment")
    assert load().group == "from-environment"
    assert load(group="from-option").group == "from-option"
    assert load(group=None).group == "from-environment"


def test_secrets_come_from_files_and_never_show(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "reviewpulse_redis_password").write_text("hunter2\n")
    (tmp_path / "reviewpulse_kafka_password").write_text("hunter3\n")
    monkeypatch.setenv("REVIEWPULSE_SECRETS_DIR", str(tmp_path))
    settings = load(kafka_security="SASL_SSL", kafka_username="ops", redis="rediss://cache.example/0")
    assert redis_kwargs(settings)["password"] == "hunter2"  # noqa: S105
    kafka = kafka_python_config(settings)
    assert (kafka["sasl_plain_username"], kafka["sasl_plain_password"]) == ("ops", "hunter3")
    assert aiokafka_config(settings)["sasl_plain_password"] == "hunter3"  # noqa: S105
    assert faust_credentials(settings).password == "hunter3"  # noqa: S105
    assert "hunter" not in f"{settings!r} {settings} {kafka} {faust_credentials(settings)!r}"


def test_a_secrets_folder_that_is_not_there_is_wrong_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWPULSE_SECRETS_DIR", "/nowhere")
    with pytest.raises(UsageError, match="REVIEWPULSE_SECRETS_DIR: there is no folder /nowhere"):
        load()


def test_every_wrong_setting_is_named_and_no_value_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWPULSE_SHARDS", "s3cret-typed-here")
    monkeypatch.setenv("REVIEWPULSE_PROVIDER", "tpu")
    with pytest.raises(UsageError) as caught:
        load()
    message = str(caught.value)
    assert "REVIEWPULSE_SHARDS" in message
    assert "REVIEWPULSE_PROVIDER" in message
    assert "s3cret" not in message


OPTIONAL_PATHS = [name for name, field in Settings.model_fields.items() if field.annotation == Path | None]


def test_the_key_of_bundles_and_the_rules_are_optional_paths() -> None:
    assert {"bundle_key", "rules", "priors", "kafka_ca_file"} <= set(OPTIONAL_PATHS)


@pytest.mark.parametrize("name", OPTIONAL_PATHS)
def test_an_empty_optional_path_is_none(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(f"REVIEWPULSE_{name.upper()}", "")
    assert load() == Settings()
    assert getattr(load(), name) is None
    monkeypatch.delenv(f"REVIEWPULSE_{name.upper()}")
    (tmp_path / f"reviewpulse_{name}").write_text("\n")
    monkeypatch.setenv("REVIEWPULSE_SECRETS_DIR", str(tmp_path))
    assert getattr(load(), name) is None


def test_an_unknown_variable_is_told_with_the_setting_it_resembles() -> None:
    assert unknown_variables(
        {
            "REVIEWPULSE_KAFKA_PASWORD": "x",
            "REVIEWPULSE_ZZZ": "x",
            "REVIEWPULSE_SECRETS_DIR": "/run/secrets",
            "REVIEWPULSE_TEST_REDIS": "redis://",
            "PATH": "/bin",
        }
    ) == {"REVIEWPULSE_KAFKA_PASWORD": "REVIEWPULSE_KAFKA_PASSWORD", "REVIEWPULSE_ZZZ": None}


def test_sasl_without_its_login_is_wrong_usage() -> None:
    with pytest.raises(UsageError, match="needs REVIEWPULSE_KAFKA_USERNAME and REVIEWPULSE_KAFKA_PASSWORD"):
        kafka_python_config(load(kafka_security="SASL_PLAINTEXT", kafka_username="ops"))


def test_tls_verifies_certificates_and_host_names() -> None:
    context = kafka_python_config(load(kafka_security="SSL"))["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


def test_a_certificate_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "ca.pem"
    with pytest.raises(UsageError, match=f"REVIEWPULSE_KAFKA_CA_FILE: there is no file {missing}"):
        kafka_python_config(load(kafka_security="SSL", kafka_ca_file=missing))
    wrong = tmp_path / "cert.pem"
    wrong.write_text("not a certificate")
    with pytest.raises(UsageError, match=f"REVIEWPULSE_KAFKA_CERT_FILE {wrong}"):
        kafka_python_config(load(kafka_security="SSL", kafka_cert_file=wrong))
    with pytest.raises(UsageError, match="KEY_FILE is set without"):
        kafka_python_config(load(kafka_security="SSL", kafka_key_file=wrong))


def test_each_kafka_client_gets_all_bootstrap_servers_in_its_own_form() -> None:
    settings = load(kafka="k1:9092,k2:9092")
    assert kafka_python_config(settings)["bootstrap_servers"] == ["k1:9092", "k2:9092"]
    assert aiokafka_config(settings)["bootstrap_servers"] == "k1:9092,k2:9092"
    assert faust_broker(settings, "recordrun") == ["recordrun://k1:9092", "recordrun://k2:9092"]


def test_redis_clients_do_not_retry_and_do_not_wait_for_ever() -> None:
    kwargs = connect(load()).connection_pool.connection_kwargs
    assert kwargs["retry"].get_retries() == 0
    assert 0 < kwargs["socket_connect_timeout"] < kwargs["socket_timeout"] < load().session_timeout_s


def test_a_url_that_is_no_redis_url_is_told_without_its_password() -> None:
    with pytest.raises(
        UsageError, match=r"REVIEWPULSE_REDIS=http://ops:\*\*\*@host is no Redis URL"
    ) as caught:
        connect(load(redis="http://ops:hunter2@host"))
    assert "hunter2" not in str(caught.value)
    assert shown_url("redis://cache:6379/0?password=hunter2") == "redis://cache:6379/0"


def test_a_redis_ca_file_needs_tls(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write rediss://"):
        connect(load(redis_ca_file=tmp_path))
    with pytest.raises(UsageError, match="there is no file"):
        connect(load(redis="rediss://host", redis_ca_file=tmp_path / "ca.pem"))
