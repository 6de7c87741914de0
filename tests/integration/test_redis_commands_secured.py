"""Commands over TLS, as the users of docs/redis.md; and what each refusal says, everywhere, without a secret.

A TLS terminator stands before the embedded Valkey, which has no TLS. Where ``valkey-server`` or
``redis-server`` with TLS is on the PATH, the same runs against that, too.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from stream.client import EventProducer, LiveCounters
from stream.local import HOST, LocalServers, Server
from stream.redis_config import connect
from stream.redis_trip import exchange
from stream.settings import Settings, load
from stream.topics import ensure
from tests.integration.conftest import WorkerProcess, free_port
from tests.integration.tls import Authority, TlsTerminator

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD, WRONG = "correct-horse-battery", "wr0ng-secret-phrase"
DOCS = Path(__file__).parents[2] / "docs" / "redis.md"
USERS = dict(re.findall(r"^user (\w+) (.*)$", DOCS.read_text("utf-8"), re.MULTILINE))
REVIEW = {"product_id": "kettle", "text": "It leaks.", "event_time": "2026-11-23T10:00:00Z"}
NOTIFY = """
version = 1
default = "a"

[[target]]
name = "a"
type = "webhook"
url = "http://127.0.0.1:1/"
"""


class Secured(NamedTuple):
    """A Redis that lets in by TLS and ACL."""

    port: int
    authority: Authority


def own_server() -> str | None:
    """A Redis on the PATH that has TLS."""
    for name in ("valkey-server", "redis-server"):
        binary = shutil.which(name)
        if binary:
            tried = subprocess.run(
                [binary, "--port", "0", "--tls-port", "1", "--tls-cert-file", "/nowhere"],
                capture_output=True,
                timeout=10,
                check=False,
            )
            if b"Missing implement of connection type tls" not in tried.stdout:
                return binary
    return None


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalServers]:
    with LocalServers() as local:
        yield local


@pytest.fixture(scope="module", params=["terminator", "server of its own"])
def secured(
    request: pytest.FixtureRequest, servers: LocalServers, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Secured]:
    authority = Authority(tmp_path_factory.mktemp("tls") / "ca")
    if request.param == "terminator":
        port = int(servers.redis.rpartition(":")[2].partition("/")[0])
        let_in(Settings(redis=servers.redis))
        with TlsTerminator(port, authority.server()) as front:
            yield Secured(front.port, authority)
        return
    binary = own_server()
    if binary is None:
        pytest.skip("no valkey-server or redis-server with TLS is on the PATH")
    folder, port = tmp_path_factory.mktemp("redis"), free_port()
    cert, key = authority.issue(folder, HOST)
    command = [binary, "--port", "0", "--tls-port", str(port), "--bind", HOST, "--dir", str(folder)]
    command += ["--tls-cert-file", str(cert), "--tls-key-file", str(key), "--save", ""]
    command += ["--tls-ca-cert-file", str(authority.file), "--tls-auth-clients", "optional"]
    server = Server("Redis", command, port, folder / "log", lambda: listens(port))
    server.spawn()
    try:
        server.wait_until_ready()
        let_in(Settings(redis=f"rediss://{HOST}:{port}/0", redis_ca_file=authority.file))
        yield Secured(port, authority)
    finally:
        server.kill()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def let_in(settings: Settings) -> None:
    """The users of the documents, and nobody else."""
    web = f"{USERS['reader']} ~rp:silences ~rp:acks {USERS['operator'].partition('-@all')[2]}"
    with connect(settings) as client:
        for name, rights in (USERS | {"web": web}).items():
            exchange(client, [("ACL", "SETUSER", name, *rights.replace("PASSWORD", PASSWORD).split())])
        exchange(client, [("CONFIG", "SET", "requirepass", "nobody-knows")])


def variables(servers: LocalServers, secured: Secured, user: str, **changes: str) -> dict[str, str]:
    given = {
        "REVIEWPULSE_KAFKA": servers.kafka,
        "REVIEWPULSE_REDIS": f"rediss://{user}@{HOST}:{secured.port}/0",
        "REVIEWPULSE_REDIS_PASSWORD": PASSWORD,
        "REVIEWPULSE_REDIS_CA_FILE": str(secured.authority.file),
        "REVIEWPULSE_SESSION_TIMEOUT_S": "6",
        "REVIEWPULSE_PARTITIONS": "1",
        "REVIEWPULSE_SCORER": "constant",
        **changes,
    }
    return {**os.environ, **given}


def reviewpulse(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_commands_work_over_tls_as_the_users_of_the_documents(
    servers: LocalServers, secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_worker = variables(servers, secured, "worker")
    for name, value in as_worker.items():
        if name.startswith("REVIEWPULSE_"):
            monkeypatch.setenv(name, value)
    settings = load()
    ensure(settings)
    worker = WorkerProcess(tmp_path / "worker.log")
    try:
        with EventProducer(settings) as producer:
            producer.send_review(event_id="1", **REVIEW)  # type: ignore[arg-type]
        as_reader = variables(servers, secured, "reader")
        reader = settings.model_copy(update={"redis": as_reader["REVIEWPULSE_REDIS"]})
        deadline = time.monotonic() + 60
        with LiveCounters(reader) as counters:
            while counters.get("kettle", "all").events != 1:
                assert time.monotonic() < deadline, worker.log
                time.sleep(0.05)
        (tmp_path / "notify.toml").write_text(NOTIFY)
        own_file = {"REVIEWPULSE_NOTIFY": str(tmp_path / "notify.toml")}
        shown, silenced, queue, with_doctor = together(
            (as_reader, ("counters", "kettle", "--json")),
            (
                variables(servers, secured, "operator"),
                ("silence", "kettle", "--for", "1h", "--reason", "r"),
            ),
            (variables(servers, secured, "deliverer", **own_file), ("notify", "queue")),
            (as_worker, ("doctor", "--json")),
        )
        for done in (shown, silenced, queue):
            assert done.returncode == 0, done.stderr
        assert '"kettle"' in shown.stdout
        checks = {each["name"]: each for each in json.loads(with_doctor.stdout)["checks"]}
        assert checks["redis"]["state"] == "ok", checks
        assert checks["workers"]["state"] == "ok", checks
        assert the_page_shows_the_product(variables(servers, secured, "web"))
        assert worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
    assert PASSWORD not in worker.log + with_doctor.stdout + with_doctor.stderr


def the_page_shows_the_product(environment: dict[str, str]) -> bool:
    port = free_port()
    web = subprocess.Popen(
        [sys.executable, "-m", "stream.cli.main", "web", "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert time.monotonic() < deadline
            assert web.poll() is None
            time.sleep(0.05)
        with urllib.request.urlopen(
            f"http://{HOST}:{port}/api/v1/counters?product_id=kettle", timeout=20
        ) as answer:
            return b"kettle" in answer.read()
    finally:
        web.terminate()
        web.wait(30)


class Fault(NamedTuple):
    """What is wrong, what is said of it, and the exit codes of ``counters`` and ``worker``."""

    name: str
    sentence: str
    codes: tuple[int, int | None]


FAULTS = [
    Fault("expired", "shows a certificate that is not trusted: certificate has expired. Renew it", (3, 2)),
    # Whether it is a refusal or a connection that breaks cannot be told: the worker says so and waits.
    Fault("no certificate of ours", "REVIEWPULSE_REDIS_CERT_FILE", (3, None)),
    Fault("wrong password", "refuses this user", (3, 2)),
    Fault("a right too few", "refuses this user", (3, 2)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_what_is_wrong_is_one_sentence_with_an_exit_code_and_no_secret(
    servers: LocalServers, tmp_path: Path, fault: Fault
) -> None:
    let_in_once(servers)
    authority = Authority(tmp_path / "ca")
    context = authority.server(
        expired=fault.name == "expired", wants_client=fault.name == "no certificate of ours"
    )
    port = int(servers.redis.rpartition(":")[2].partition("/")[0])
    password = WRONG if fault.name == "wrong password" else PASSWORD
    user = "operator" if fault.name == "a right too few" else "worker"
    with TlsTerminator(port, context) as front:
        environment = variables(
            servers, Secured(front.port, authority), user, REVIEWPULSE_REDIS_PASSWORD=password
        )
        environment["REVIEWPULSE_LOG_LEVEL"] = "debug"
        commands: list[tuple[str, ...]] = [("counters", "kettle"), ("doctor", "--json")]
        if fault.codes[1] is not None:
            commands.append(("worker",))
        done = together(*((environment, each) for each in commands))
    for each in done:
        assert password not in each.stdout + each.stderr
        assert "Traceback" not in each.stdout + each.stderr
    assert [each.returncode for each in done] == [fault.codes[0], 1, *fault.codes[1:]][: len(done)]
    for each in (done[0], *done[2:]):
        told = each.stderr.splitlines()[-1]
        assert told.startswith("reviewpulse: ")
        assert f"Redis at rediss://{user}@{HOST}:{front.port}/0" in told
        assert fault.sentence in told
    (check,) = [each for each in json.loads(done[1].stdout)["checks"] if each["name"] == "redis"]
    assert check["state"] == "fail"
    assert fault.sentence in check["detail"]


def together(
    *commands: tuple[dict[str, str], tuple[str, ...]],
) -> list[subprocess.CompletedProcess[str]]:
    """Commands side by side: each takes a second to start."""
    with ThreadPoolExecutor(len(commands)) as threads:
        return list(threads.map(lambda each: reviewpulse(each[0], *each[1]), commands))


def let_in_once(servers: LocalServers) -> None:
    with connect(Settings(redis=servers.redis, redis_password="nobody-knows")) as client:  # noqa: S106
        try:
            exchange(client, [("PING",)])
        except Exception:  # noqa: BLE001 - no other test of this module has been run before
            let_in(Settings(redis=servers.redis))
