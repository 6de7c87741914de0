"""Valkey's start script of docker-compose.yml, run here as it stands but for paths and the port."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import redis
import yaml

from stream.local import HOST, _ports, redis_answers, valkey_binary

ROOT = Path(__file__).parents[2]
SECRET = "/run/secrets/reviewpulse_redis_password"  # noqa: S105


def test_valkey_starts_with_its_password_its_log_and_no_eviction(tmp_path: Path) -> None:
    shell, flags, script = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["redis"][
        "command"
    ]
    (tmp_path / "password").write_text("hunter2")
    (tmp_path / "valkey-server").symlink_to(valkey_binary())
    port, _ = _ports(0, 0)
    here = {
        "$$": "$",
        SECRET: str(tmp_path / "password"),
        "--dir /data": f"--dir {tmp_path} --bind {HOST} --port {port}",
    }
    for container, local in here.items():
        assert container in script
        script = script.replace(container, local)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    with subprocess.Popen([shell, flags, script], env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(HOST, port, password="hunter2") as client:  # noqa: S106
                deadline = time.monotonic() + 10
                while not answers(client):
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.02)
                facts = client.info("all")
            assert (facts["aof_enabled"], facts["maxmemory_policy"]) == (1, "noeviction")
            assert facts["process_id"] == process.pid, "signals must reach Valkey, not a shell"
            assert "hunter2" not in Path(f"/proc/{process.pid}/cmdline").read_text()
            assert not redis_answers(HOST, port), "it answers without the password"
            process.terminate()
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert list(tmp_path.glob("appendonlydir/*.aof"))


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
