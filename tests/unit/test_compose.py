"""The containers, checked as far as that goes without an engine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
import yaml

from stream.cli.main import command_line
from stream.health import address_of
from stream.redis_config import redis_kwargs
from stream.settings import PREFIX, Settings, load, unknown_variables

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if service["image"].startswith("reviewpulse:")}
SERVED = [name for name in OURS if name != "topics"]
OBSERVERS = ("prometheus", "grafana")
CONFIG = "/etc/reviewpulse"
LONG_RUNNING = [name for name in SERVICES if name != "topics"]

ours = pytest.mark.parametrize("name", OURS)


def environment(name: str) -> dict[str, str]:
    """A service's variables, with the defaults that stand in the file where the host sets none."""
    return {
        key: re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))
        for key, value in SERVICES[name]["environment"].items()
        if value is not None  # taken from the host, which has none here
    }


def settings_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the service's settings come to."""
    for key, value in environment(name).items():
        if key != f"{PREFIX}SECRETS_DIR":  # a folder in the container
            monkeypatch.setenv(key, value)
    return load()


def mounts(name: str) -> dict[str, tuple[str, bool]]:
    """What is mounted, by its place in the container: from where, and whether for reading alone."""
    found = {}
    for each in SERVICES[name].get("volumes", []):
        source, place, *mode = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", each).split(":")
        found[place] = (source, mode == ["ro"])
    return found


def parse(arguments: list[str]) -> None:
    """Parses a command line of ours without running it; raises when it is none."""
    group: Any = typer.main.get_command(command_line())
    command = group.commands[arguments[0]]
    command.make_context(arguments[0], list(arguments[1:]))


def listeners(value: str) -> dict[str, tuple[str, int]]:
    """Kafka's listener list: host and port by listener name."""
    parsed = (re.fullmatch(r"(\w+)://([^:]*):(\d+)", each) for each in value.split(","))
    return {each[1]: (each[2], int(each[3])) for each in parsed if each}


def published(name: str) -> dict[int, int]:
    """Container port by the loopback port it is published at; fails for any other address."""
    ports = {}
    for each in SERVICES[name].get("ports", []):
        address, host_port, container_port = each.rsplit(":", 2)
        assert address == "127.0.0.1", each
        ports[int(host_port)] = int(container_port)
    return ports


def test_the_file_is_valid_by_the_compose_specification() -> None:
    path = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
    schema = json.loads(Path(str(distribution("check-jsonschema").locate_file(path))).read_text())
    jsonschema.validate(COMPOSE, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"services": {"worker": {"imagee": "x"}}}, schema)


@pytest.mark.skipif(
    shutil.which("docker") is None
    or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode != 0,
    reason="docker compose is not installed",
)
def test_docker_compose_itself_accepts_the_file() -> None:
    profiles = ["cpu", "gpu", "notify", "observe"]
    command = ["docker", "compose", *(f"--profile={each}" for each in profiles), "config", "--quiet"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@ours
def test_every_variable_is_a_setting_with_a_value_it_accepts(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert unknown_variables(environment(name)) == {}
    settings_of(name, monkeypatch)


@ours
def test_kafka_is_looked_for_where_it_listens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = settings_of(name, monkeypatch).kafka.split(":")
    kafka = environment(host)
    assert (host, int(port)) in listeners(kafka["KAFKA_ADVERTISED_LISTENERS"]).values()
    assert int(port) in {each[1] for each in listeners(kafka["KAFKA_LISTENERS"]).values()}


@ours
def test_redis_is_looked_for_where_it_listens_with_a_password_from_a_file(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "reviewpulse_redis_password").write_text("hunter2")
    monkeypatch.setenv("REVIEWPULSE_SECRETS_DIR", str(tmp_path))
    settings = settings_of(name, monkeypatch)
    # Valkey's own port: its command names no other.
    assert settings.redis == "redis://redis:6379/0"
    assert "--port" not in SERVICES["redis"]["command"][2]
    assert redis_kwargs(settings)["password"] == "hunter2"  # noqa: S105
    assert environment(name)["REVIEWPULSE_SECRETS_DIR"] == "/run/secrets"
    assert "reviewpulse_redis_password" in SERVICES[name]["secrets"]


def test_the_host_finds_both_where_reviewpulse_looks_by_default() -> None:
    defaults = load()
    kafka_host, kafka_port = defaults.kafka.split(":")
    kafka = environment("kafka")
    assert (kafka_host, int(kafka_port)) in listeners(kafka["KAFKA_ADVERTISED_LISTENERS"]).values()
    assert published("kafka") == {int(kafka_port): int(kafka_port)}
    assert int(kafka_port) in {each[1] for each in listeners(kafka["KAFKA_LISTENERS"]).values()}
    assert published("redis") == {6379: 6379}
    assert defaults.redis == "redis://127.0.0.1:6379/0"


def test_only_what_the_host_needs_is_published() -> None:
    assert {name: published(name) for name in SERVICES if published(name)} == {
        "kafka": {9092: 9092},
        "redis": {6379: 6379},
        "web": {8000: 8000},
        "prometheus": {9090: 9090},
        "grafana": {3000: 3000},
    }


def test_kafkas_listeners_agree_among_themselves() -> None:
    kafka = environment("kafka")
    bound = listeners(kafka["KAFKA_LISTENERS"])
    advertised = listeners(kafka["KAFKA_ADVERTISED_LISTENERS"])
    protocols = dict(each.split(":") for each in kafka["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert set(bound) == set(protocols) == {*advertised, kafka["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    assert {name: bound[name][1] for name in advertised} == {
        name: port for name, (_, port) in advertised.items()
    }
    assert kafka["KAFKA_INTER_BROKER_LISTENER_NAME"] in advertised
    voter = kafka["KAFKA_CONTROLLER_QUORUM_VOTERS"]
    assert voter == f"{kafka['KAFKA_NODE_ID']}@localhost:{bound['CONTROLLER'][1]}"


@ours
def test_every_command_is_one_that_reviewpulse_has(name: str) -> None:
    parse(SERVICES[name]["command"])
    if check := SERVICES[name].get("healthcheck"):
        assert check["test"][:2] == ["CMD", "reviewpulse"]
        parse(check["test"][2:])


@pytest.mark.parametrize("name", SERVED)
def test_health_and_metrics_are_served_in_the_network_of_the_file_and_not_beyond(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, port = address_of(str(settings_of(name, monkeypatch).health))
    assert host == "0.0.0.0"  # noqa: S104 - Prometheus is in another container
    assert port not in published(name).values()
    assert SERVICES[name]["healthcheck"]["test"] == ["CMD", "reviewpulse", "doctor", "--worker-here"]


def test_the_page_is_served_to_the_host_for_those_with_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of("web", monkeypatch)
    assert settings.web_host == "0.0.0.0"  # noqa: S104 - it is another machine to the host
    assert published("web") == {settings.web_port: settings.web_port}
    assert "reviewpulse_web_tokens" in SERVICES["web"]["secrets"]
    assert {"web", "127.0.0.1"} <= set(settings.web_names.split(","))


@pytest.mark.parametrize("name", SERVED)
def test_rules_priors_and_the_notify_file_come_from_a_folder_of_the_host(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, reads_only = mounts(name)[CONFIG]
    assert reads_only
    assert (ROOT / source / "README.md").is_file()
    for variable in ("RULES", "PRIORS"):
        assert SERVICES[name]["environment"][f"{PREFIX}{variable}"] is None
    settings = settings_of(name, monkeypatch)
    assert (settings.rules, settings.priors) == (None, None)
    if name == "notify":
        assert str(settings.notify) == f"{CONFIG}/notify.toml"
        assert SERVICES[name]["profiles"] == ["notify"]  # without that file it would not start


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_what_runs_for_long_is_watched_and_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    check = SERVICES[name]["healthcheck"]
    assert check["test"]
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)


def test_topics_are_made_once_and_tried_again_when_that_fails() -> None:
    assert SERVICES["topics"]["restart"] == "on-failure"
    assert "healthcheck" not in SERVICES["topics"]


def test_nothing_starts_before_what_it_needs() -> None:
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], (name, needed)
            else:
                assert how["condition"] == "service_completed_successfully"
                assert needed == "topics"
            others = set(SERVICES[needed].get("profiles", []))
            assert others <= set(service.get("profiles", [])), f"{needed} would not start with {name}"


@ours
def test_our_containers_have_no_rights_they_do_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    assert all(reads_only for _, reads_only in mounts(name).values())


@pytest.mark.parametrize("name", OBSERVERS)
def test_observers_have_no_rights_they_do_not_need(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    assert service["profiles"] == ["observe"]
    assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+", service["image"]), "a version, not a moving tag"
    writable = {place: source for place, (source, reads_only) in mounts(name).items() if not reads_only}
    assert set(writable.values()) <= set(COMPOSE["volumes"])


@pytest.mark.parametrize("name", OBSERVERS)
def test_what_observers_read_is_there(name: str) -> None:
    for source, reads_only in mounts(name).values():
        if reads_only:
            assert (ROOT / source).exists(), source


def test_prometheus_keeps_its_data_and_reads_the_deployed_rules() -> None:
    command = SERVICES["prometheus"]["command"]
    assert (
        f"--storage.tsdb.path={next(p for p, (s, _) in mounts('prometheus').items() if s == 'prometheus')}"
        in command
    )
    config = next(each for each in command if each.startswith("--config.file=")).partition("=")[2]
    folder, _, name = config.rpartition("/")
    assert (ROOT / mounts("prometheus")[folder][0] / name).is_file()


def test_grafana_finds_prometheus_and_the_dashboard_and_has_no_password_in_its_environment() -> None:
    variables = environment("grafana")
    assert variables["PROMETHEUS_URL"] == f"http://prometheus:{next(iter(published('prometheus').values()))}"
    (secret,) = SERVICES["grafana"]["secrets"]
    assert variables["GF_SECURITY_ADMIN_PASSWORD__FILE"] == f"/run/secrets/{secret}"
    assert not [name for name in variables if "PASSWORD" in name and not name.endswith("__FILE")]
    provider = yaml.safe_load((ROOT / "deploy/grafana/provisioning/dashboards/reviewpulse.yaml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert mounts("grafana")[f"{folder}/operations.json"][0] == "./deploy/grafana/operations.json"
    assert variables["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/operations.json"


def test_both_servers_keep_their_data_in_a_volume() -> None:
    mounted = {name: SERVICES[name]["volumes"][0].split(":") for name in ("kafka", "redis")}
    assert {volume for volume, _ in mounted.values()} | set(OBSERVERS) == set(COMPOSE["volumes"])
    assert mounted["kafka"][1] == environment("kafka")["KAFKA_LOG_DIRS"]
    valkey = SERVICES["redis"]["command"][2]
    assert f"--dir {mounted['redis'][1]} " in valkey
    assert "--appendonly yes" in valkey
    assert "--maxmemory-policy noeviction" in valkey


def test_the_gpu_workers_demand_cuda_and_reserve_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings_of("worker-gpu", monkeypatch).provider == "cuda"
    (device,) = SERVICES["worker-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert SERVICES["worker-gpu"]["build"]["args"]["EXTRAS"] in extras


def test_there_are_partitions_enough_for_every_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    assert SERVICES["worker"]["deploy"]["replicas"] <= settings_of("worker", monkeypatch).partitions


def test_each_secret_s_file_is_a_setting_is_made_by_make_up_and_no_commit_can_hold_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    (made,) = re.findall(r"^SECRETS := (.*)$", makefile, re.MULTILINE)
    assert made.split() == [secret["file"] for secret in COMPOSE["secrets"].values()]
    assert re.findall(r"^up: (.*)$", makefile, re.MULTILINE) == ["$(SECRETS)"]
    for name, secret in COMPOSE["secrets"].items():
        assert name.removeprefix("reviewpulse_") in Settings.model_fields or name == "grafana_admin_password"
        assert Path(secret["file"]).name == name
        assert f"{Path(secret['file']).parent}/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_image_copies_only_what_is_there_and_let_in() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    copied = [
        source
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]
    let_in = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    assert set(copied) == let_in
    assert [source for source in copied if not (ROOT / source).exists()] == []
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    assert set(packages["wheel"]["packages"]) <= set(copied)


def test_the_image_runs_our_command_as_nobody_in_particular() -> None:
    text = (ROOT / "Dockerfile").read_text()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.MULTILINE)[-1])
    assert entry in scripts
    parse(json.loads(re.findall(r"^CMD (.*)$", text, re.MULTILINE)[-1]))
    assert re.findall(r"^USER (.*)$", text, re.MULTILINE) == [SERVICES["worker"]["user"]]
