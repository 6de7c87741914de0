"""``reviewpulse local``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    import threading

    from stream.local import LocalServers


def local(
    kafka_port: int = typer.Option(0, min=0, max=65_535, help="Port of the broker; 0 picks a free one."),
    redis_port: int = typer.Option(0, min=0, max=65_535, help="Port of Redis; 0 picks a free one."),
    data_dir: Path | None = typer.Option(
        None,
        help="Folder for Redis' data and the logs. Without it nothing is kept. The broker keeps nothing.",
    ),
) -> None:
    """Runs a Kafka-compatible broker and Valkey on loopback until Ctrl-C or SIGTERM.

    Creates the topics, then prints `REVIEWPULSE_KAFKA=host:port`, `REVIEWPULSE_REDIS=redis://...` and a short
    `REVIEWPULSE_SESSION_TIMEOUT_S` (this broker lets workers join after half of it) on standard output, for
    `export` or an env file. Exit code 3 when a server ends by itself.
    """
    import signal
    import sys
    import threading

    from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
    from stream.settings import load
    from stream.topics import ensure

    stopped = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: stopped.set())
    with LocalServers(kafka_port=kafka_port, redis_port=redis_port, data_dir=data_dir) as servers:
        # What the environment says of the real broker does not hold for this one.
        ensure(load(kafka=servers.kafka, kafka_security="PLAINTEXT", replication=1))
        print(f"REVIEWPULSE_KAFKA={servers.kafka}")
        print(f"REVIEWPULSE_REDIS={servers.redis}")
        print(f"REVIEWPULSE_SESSION_TIMEOUT_S={LOCAL_SESSION_TIMEOUT_S:g}", flush=True)
        print("A broker and Valkey are running, with the topics made. Ctrl-C stops them.", file=sys.stderr)
        _watch(servers, stopped)


def _watch(servers: LocalServers, stopped: threading.Event) -> None:
    """Waits for the signal; a server that ends meanwhile is a ``DependencyError``."""
    while not stopped.wait(0.5):
        servers.check()
