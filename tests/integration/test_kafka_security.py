"""TLS and SASL to Kafka: what is right works, what is wrong is one sentence without a secret.

The embedded broker speaks plain text alone, so a TLS terminator stands before it: the handshake and the
protocol behind it are real. What a broker says to a wrong login is played by a few frames. With a broker of
yours, named by ``REVIEWPULSE_TEST_KAFKA`` and ``..._KAFKA_SECURITY``, the last tests run against it.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socketserver
import ssl
import struct
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.client import AIOKafkaClient
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from kafka import KafkaProducer

from stream.client import AlertSubscriber, AsyncEventProducer, EventProducer
from stream.client.log import open_consumer
from stream.errors import DependencyError, UsageError
from stream.faust_config import faust_credentials
from stream.kafka_config import aiokafka_config, kafka_python_config
from stream.kafka_refusal import refusal
from stream.local import HOST, LocalServers
from stream.settings import Settings, load
from stream.topics import ensure
from tests.integration.conftest import WorkerProcess, free_port
from tests.integration.faults.proxy import TcpProxy
from tests.integration.tls import Authority, TlsTerminator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PASSWORD, WRONG = "correct-horse", "wr0ng-secret"
REVIEW = {"product_id": "kettle", "text": "It leaks.", "event_time": "2026-11-23T10:00:00Z"}
LOGIN = ("security_protocol", "ssl_context", "sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
EXTERNAL = {
    name: os.environ[f"REVIEWPULSE_TEST_KAFKA_{name}"]
    for name in ("SECURITY", "MECHANISM", "USERNAME", "PASSWORD", "CA_FILE")
    if f"REVIEWPULSE_TEST_KAFKA_{name}" in os.environ
}
"""Read before any fixture clears the environment."""
EXTERNAL_KAFKA = os.environ.get("REVIEWPULSE_TEST_KAFKA", "")


@pytest.fixture(scope="module")
def broker() -> Iterator[tuple[LocalServers, int, int]]:
    """Servers of this module's own, the broker's port, and the one it sends its clients to."""
    port, front = free_port(), free_port()
    servers = LocalServers(kafka_port=port, advertised_kafka_port=front)
    with TcpProxy(front, port):  # it is asked whether it is ready before there is TLS
        servers.start()
    try:
        yield servers, port, front
    finally:
        servers.stop()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


def over_tls(front: int, authority: Authority, **settings: Any) -> Settings:
    given = {"kafka_security": "SSL", "kafka_ca_file": authority.file, "topic_reviews": "tls.reviews"}
    return Settings(kafka=f"{HOST}:{front}", **(given | settings))


async def test_every_client_and_a_worker_speak_tls_with_certificates_of_both_sides(
    broker: tuple[LocalServers, int, int],
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    servers, port, front = broker
    variables = {
        "KAFKA": f"{HOST}:{front}",
        "KAFKA_SECURITY": "SSL",
        "KAFKA_CA_FILE": str(authority.file),
        **{name.upper(): str(path) for name, path in authority.client("kafka").items()},
        "REDIS": servers.redis,
        "NAMESPACE": "tls",
        "SESSION_TIMEOUT_S": "6",
        "PARTITIONS": "1",
        "SCORER": "constant",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"REVIEWPULSE_{name}", value)
    settings = load()
    with TlsTerminator(port, authority.server(wants_client=True), front):
        ensure(settings)
        with EventProducer(settings) as producer:
            producer.send_review(event_id="1", **REVIEW)  # type: ignore[arg-type]
        async with AsyncEventProducer(settings) as async_producer:
            await async_producer.send_review(event_id="2", **REVIEW)  # type: ignore[arg-type]
        with AlertSubscriber(settings, from_beginning=True) as alerts:
            assert list(alerts.available()) == []
        worker = WorkerProcess(tmp_path / "worker.log")
        try:
            worker.wait_for("worker started")
            doctor = command("doctor")
            assert f"ok kafka {HOST}:{front}: 1 broker" in plain(doctor.stdout)
            assert worker.stop() == 0
            assert '"counted": 2' in worker.log or "counted=2" in worker.log, worker.log
        finally:
            if worker.process.poll() is None:
                worker.kill()


FAULTS: dict[str, str] = {
    "expired": "shows a certificate that is not trusted: certificate has expired. Renew it",
    "another name": "shows a certificate that is not trusted: IP address mismatch",
    "another CA": "shows a certificate that is not trusted: unable to get local issuer certificate",
    "no certificate of ours": "REVIEWPULSE_KAFKA_CERT_FILE",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_tls_is_one_sentence_for_every_client(
    broker: tuple[LocalServers, int, int],
    authority: Authority,
    tmp_path: Path,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, port, front = broker
    context = authority.server(
        "other.example" if fault == "another name" else HOST,
        expired=fault == "expired",
        wants_client=fault == "no certificate of ours",
    )
    trusted = Authority(tmp_path / "another") if fault == "another CA" else authority
    settings = over_tls(front, trusted)
    monkeypatch.setattr("stream.client.log.BOOTSTRAP_MS", 500)
    clients: list[Callable[[], Any]] = [
        lambda: ensure(settings, timeout_s=0.5),
        lambda: EventProducer(settings, delivery_timeout_s=0.5),
        lambda: open_consumer(settings),
    ]
    with TlsTerminator(port, context, front):
        for client in clients:
            with pytest.raises(DependencyError) as raised:
                client()
            assert str(raised.value).startswith(f"Kafka at {HOST}:{front} (SSL) ")
            assert FAULTS[fault] in str(raised.value)


def test_a_worker_that_is_refused_ends_with_the_sentence_and_code_2(
    broker: tuple[LocalServers, int, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers, port, front = broker
    for name, value in {
        "KAFKA": f"{HOST}:{front}",
        "KAFKA_SECURITY": "SSL",
        "KAFKA_CA_FILE": authority.file,
        "REDIS": servers.redis,
        "SCORER": "constant",
    }.items():
        monkeypatch.setenv(f"REVIEWPULSE_{name}", str(value))
    with TlsTerminator(port, authority.server(expired=True), front):
        worker = command("worker")
    assert worker.returncode == 2
    assert worker.stderr.splitlines()[-1] == (
        f"reviewpulse: Kafka at {HOST}:{front} (SSL) shows a certificate that is not trusted: certificate has"
        " expired. Renew it, or check REVIEWPULSE_KAFKA_CA_FILE and the host's name."
    )
    assert "Traceback" not in worker.stdout + worker.stderr


def test_a_plain_port_is_no_tls_port(
    broker: tuple[LocalServers, int, int], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port, _ = broker
    monkeypatch.setattr("stream.kafka_refusal.ASK_S", 0.5)
    found = refusal(over_tls(port, authority))
    assert found is not None
    assert "TLS" in found.sentence
    assert "REVIEWPULSE_KAFKA_SECURITY" in found.sentence


def test_a_broker_that_is_not_there_refuses_nobody(authority: Authority) -> None:
    assert refusal(over_tls(free_port(), authority)) is None


class SaslBroker(socketserver.BaseRequestHandler):
    """The frames of a login, and nothing else: what Kafka answers to a right and to a wrong one."""

    mechanisms = ("PLAIN", "SCRAM-SHA-256")
    says = "Authentication failed: Invalid username or password"

    def handle(self) -> None:
        while header := self._exactly(4):
            request = self._exactly(struct.unpack(">i", header)[0])
            key, _, correlation, length = struct.unpack_from(">hhih", request)
            body = request[10 + max(length, 0) :]
            if key == 18:
                # Not ours to know: clients fall back to what they were told, ours does not ask.
                answer = struct.pack(">hi", 35, 0)
            elif key == 17:
                name = body[2:].decode()
                error = 0 if name in self.mechanisms else 33
                answer = struct.pack(">hi", error, len(self.mechanisms))
                answer += b"".join(struct.pack(">h", len(each)) + each.encode() for each in self.mechanisms)
                self.scram = name.startswith("SCRAM")
                self.first = ""
            else:
                answer = self._authenticate(body[4:])
            self.request.sendall(struct.pack(">ii", len(answer) + 4, correlation) + answer)

    def _authenticate(self, token: bytes) -> bytes:
        if not self.scram:
            return self._answer(token == f"ops\0ops\0{PASSWORD}".encode(), b"")
        if not self.first:
            self.first = token.decode().removeprefix("n,,")
            nonce = self.first.partition("r=")[2] + "server"
            self.server_first = f"r={nonce},s={base64.b64encode(b'salt').decode()},i=4096"
            return self._answer(True, self.server_first.encode())
        without_proof, _, proof = token.decode().rpartition(",p=")
        message = f"{self.first},{self.server_first},{without_proof}".encode()
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), b"salt", 4096)
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
        wanted = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        verifier = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        return self._answer(base64.b64decode(proof) == wanted, b"v=" + base64.b64encode(verifier))

    def _answer(self, is_right: bool, token: bytes) -> bytes:
        if is_right:
            return struct.pack(">hhi", 0, -1, len(token)) + token
        # A broker that repeats what it was given.
        said = f"{self.says} ({WRONG})".encode()
        return struct.pack(">hh", 58, len(said)) + said + struct.pack(">i", 0)

    def _exactly(self, number: int) -> bytes:
        got = b""
        while len(got) < number and (part := self.request.recv(number - len(got))):
            got += part
        return got


@pytest.fixture
def sasl_port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer((HOST, 0), SaslBroker) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def with_sasl(port: int, mechanism: str, password: str, **settings: Any) -> Settings:
    return Settings(
        kafka=f"{HOST}:{port}",
        kafka_security=settings.pop("kafka_security", "SASL_PLAINTEXT"),
        kafka_sasl_mechanism=mechanism,  # type: ignore[arg-type]
        kafka_username="ops",
        kafka_password=password,  # type: ignore[arg-type]
        **settings,
    )


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_wrong_password_is_one_sentence_without_it(sasl_port: int, mechanism: str) -> None:
    assert refusal(with_sasl(sasl_port, mechanism, PASSWORD)) is None
    found = refusal(with_sasl(sasl_port, mechanism, WRONG))
    assert found is not None
    assert found.is_sure
    assert found.sentence == (
        f"Kafka at {HOST}:{sasl_port} (SASL_PLAINTEXT) refuses the user 'ops': Authentication failed: Invalid"
        " username or password (***). Check REVIEWPULSE_KAFKA_USERNAME, REVIEWPULSE_KAFKA_PASSWORD and"
        " REVIEWPULSE_KAFKA_SASL_MECHANISM."
    )


def test_a_wrong_password_is_found_behind_tls_too(sasl_port: int, authority: Authority) -> None:
    with TlsTerminator(sasl_port, authority.server()) as front:
        settings = with_sasl(
            front.port, "PLAIN", WRONG, kafka_security="SASL_SSL", kafka_ca_file=authority.file
        )
        with pytest.raises(DependencyError, match="refuses the user 'ops'") as raised:
            ensure(settings, timeout_s=0.5)
    assert WRONG not in str(raised.value)


def test_a_mechanism_that_the_broker_does_not_offer_is_told_with_those_it_does(sasl_port: int) -> None:
    found = refusal(with_sasl(sasl_port, "SCRAM-SHA-512", PASSWORD))
    assert found is not None
    assert found.sentence.endswith(
        "does not know SCRAM-SHA-512: set REVIEWPULSE_KAFKA_SASL_MECHANISM to what it offers (PLAIN,"
        " SCRAM-SHA-256)."
    )


async def test_every_client_is_given_the_login_and_a_context_that_verifies(authority: Authority) -> None:
    settings = with_sasl(
        9093, "SCRAM-SHA-256", PASSWORD, kafka_security="SASL_SSL", kafka_ca_file=authority.file
    )
    client = AIOKafkaClient(**aiokafka_config(settings))
    faust = credentials_to_aiokafka_auth(faust_credentials(settings), None)
    of_clients = [
        {name: getattr(client, f"_{name}") for name in LOGIN},
        {name: faust[name] for name in LOGIN},
        # kafka-python's clients keep what they are given where each pleases; these are their arguments.
        {name: kafka_python_config(settings)[name] for name in LOGIN},
    ]
    for given in of_clients:
        context = given.pop("ssl_context")
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert len(context.get_ca_certs()) == 1  # ours, and no other
        assert given == {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-256",
            "sasl_plain_username": "ops",
            "sasl_plain_password": PASSWORD,
        }
    assert set(kafka_python_config(settings)) <= set(KafkaProducer.DEFAULT_CONFIG)
    await client.close()


# Against a broker with TLS and SASL of its own.


@pytest.fixture
def external(tmp_path: Path) -> Settings:
    if "SECURITY" not in EXTERNAL or not EXTERNAL_KAFKA:
        pytest.skip("REVIEWPULSE_TEST_KAFKA and REVIEWPULSE_TEST_KAFKA_SECURITY name no broker")
    given = {
        "kafka_security": EXTERNAL.get("SECURITY"),
        "kafka_sasl_mechanism": EXTERNAL.get("MECHANISM"),
        "kafka_username": EXTERNAL.get("USERNAME"),
        "kafka_password": EXTERNAL.get("PASSWORD"),
        "kafka_ca_file": EXTERNAL.get("CA_FILE"),
    }
    return load(kafka=EXTERNAL_KAFKA, topic_reviews="reviewpulse-security-test", **given)


async def test_a_broker_with_sasl_takes_and_gives_by_every_client(external: Settings) -> None:
    assert refusal(external) is None
    ensure(external)
    with EventProducer(external) as producer:
        producer.send_review(event_id="1", **REVIEW)  # type: ignore[arg-type]
        assert producer.delivered + len(producer._waiting) == 1
    async with AsyncEventProducer(external) as async_producer:
        await async_producer.send_review(event_id="2", **REVIEW)  # type: ignore[arg-type]


def test_a_broker_with_sasl_refuses_a_wrong_password_in_a_sentence(external: Settings) -> None:
    if external.kafka_password is None:
        pytest.skip("REVIEWPULSE_TEST_KAFKA_PASSWORD names no login")
    wrong = load(**{**external.model_dump(), "kafka_password": WRONG})
    with pytest.raises((DependencyError, UsageError), match="refuses the user") as raised:
        ensure(wrong, timeout_s=3)
    assert WRONG not in str(raised.value)


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def plain(shown: str) -> str:
    return " ".join(shown.split())
