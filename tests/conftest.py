"""Fixtures every test may use.

Rules:
- Unit tests see no ``REVIEWPULSE_*`` variable of the machine they run on.
- Integration tests share one broker and one Redis: embedded ones, or those that ``REVIEWPULSE_TEST_KAFKA``
  and ``REVIEWPULSE_TEST_REDIS`` name. Each has its own topics, consumer group and Redis namespace there.
- A test that kills servers starts its own ``LocalServers``.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pytest
from hypothesis import settings as hypothesis_settings

from stream.local import LocalServers
from stream.redis_config import connect
from stream.settings import PREFIX, Settings, load

if TYPE_CHECKING:
    from collections.abc import Iterator

# A busy machine is slow; that is no failure. Everything else stays as hypothesis has it, here and in CI.
hypothesis_settings.register_profile("patient", parent=hypothesis_settings(), deadline=None)
hypothesis_settings.load_profile("patient")

INTEGRATION = Path(__file__).parent / "integration"

# Read before any fixture clears the environment.
TEST_KAFKA = os.environ.get("REVIEWPULSE_TEST_KAFKA")
TEST_REDIS = os.environ.get("REVIEWPULSE_TEST_REDIS")


class ExternalServers(NamedTuple):
    """A broker and a Redis that somebody else runs."""

    kafka: str
    redis: str


def external_servers() -> ExternalServers | None:
    """Those that the environment names, if it names any.

    Raises:
        ValueError: it names one and not the other.
    """
    if bool(TEST_KAFKA) != bool(TEST_REDIS):
        alone, lacking = ("KAFKA", "REDIS") if TEST_KAFKA else ("REDIS", "KAFKA")
        raise ValueError(
            f"REVIEWPULSE_TEST_{alone} is set and REVIEWPULSE_TEST_{lacking} is not: set both, or neither for"
            " embedded servers."
        )
    return ExternalServers(TEST_KAFKA, TEST_REDIS) if TEST_KAFKA and TEST_REDIS else None


def pytest_configure() -> None:
    try:
        external_servers()
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if INTEGRATION in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def servers() -> Iterator[LocalServers | ExternalServers]:
    """A broker and a Redis, shared by the session: ``.kafka`` and ``.redis`` say where."""
    if external := external_servers():
        yield external
        return
    with LocalServers() as local:
        yield local


@pytest.fixture
def env(
    servers: LocalServers | ExternalServers, clean_environment: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """Variables that give this test the servers and names of its own.

    They are in ``os.environ`` too, so subprocesses inherit them. The topics are not created.
    """
    unique = uuid4().hex[:10]
    variables = {
        "REVIEWPULSE_KAFKA": servers.kafka,
        "REVIEWPULSE_REDIS": servers.redis,
        "REVIEWPULSE_NAMESPACE": f"test-{unique}",
        "REVIEWPULSE_GROUP": f"test-{unique}",
        "REVIEWPULSE_TOPIC_REVIEWS": f"test-{unique}.reviews",
        "REVIEWPULSE_TOPIC_CHATS": f"test-{unique}.chats",
        "REVIEWPULSE_TOPIC_ALERTS": f"test-{unique}.alerts",
        "REVIEWPULSE_TOPIC_SCORES": f"test-{unique}.scores",
        "REVIEWPULSE_PARTITIONS": "4",
        # The local broker's joins take half the session timeout.
        "REVIEWPULSE_SESSION_TIMEOUT_S": "6",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shared = load()  # a test may point the variables elsewhere
    yield variables
    with connect(shared) as client:
        for key in client.scan_iter(f"test-{unique}:*", count=1000):
            client.unlink(key)


@pytest.fixture
def settings(env: dict[str, str]) -> Settings:
    """The settings that ``env`` makes."""
    return load()
