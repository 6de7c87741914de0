"""The OpenAPI document against the real server: whatever it allows is answered as it says, and never with
500."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance
from web_server import WebServer, web_server

from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings

TOKEN = "a-token-that-may-do-everything"  # noqa: S105
EXAMPLES = 25
"""Of each operation and phase: about a minute for all of it on two cores."""

INEXPRESSIBLE = {
    path: [positive_data_acceptance] for path in ("/api/v1/reviews", "/api/v1/chats", "/api/v1/silences")
}
"""What a schema cannot say: blanks are no text, no time is ahead of the clock, a silence is of something.
Everything else of these is checked."""

REJECTED = ["400", "401", "403", "404", "405", "413", "415", "431"]
"""Schemathesis does not know 413 and 431 for refusals of a request that is too large."""

pytestmark = pytest.mark.slow


@pytest.fixture
def server(env: dict[str, str], settings: Settings) -> Iterator[WebServer]:
    ensure(settings)
    variables = env | {
        "REVIEWPULSE_WEB_TOKENS": f"all:read+ingest+operate:{TOKEN}",
        "REVIEWPULSE_SCORER": "constant",
    }
    with web_server(variables) as server:
        server.wait_until_ready()
        yield server
        assert server.end() == 0


def test_what_the_document_allows_is_answered_as_it_says(server: WebServer) -> None:
    schema = schemathesis.openapi.from_url(f"{server.address}/api/v1/openapi.json")
    schema.config.checks.negative_data_rejection.expected_statuses = REJECTED
    schema = schema.exclude(path_regex="/api/v1/live$")  # a stream has no end to wait for
    failures: list[str] = []
    for result in schema.get_all_operations():
        operation = result.ok()
        for mode in schemathesis.GenerationMode:
            _examine(operation, mode, failures)
    assert not failures, "\n\n".join(failures)


def _examine(operation: Any, mode: Any, failures: list[str]) -> None:
    strategy = operation.as_strategy(generation_mode=mode)

    @given(case=strategy)
    @hypothesis_settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def examine(case: Any) -> None:
        case.call_and_validate(
            headers={"Authorization": f"Bearer {TOKEN}"},
            excluded_checks=INEXPRESSIBLE.get(operation.path, []) + _not_sent(case),
        )

    try:
        examine()
    except BaseExceptionGroup as error:
        failures.append(f"{operation.label}: {error}")
    except Unsatisfiable:
        assert mode.is_negative, operation.label  # what takes nothing cannot be given something wrong


def _not_sent(case: Any) -> list[Any]:
    """An empty list as a parameter is no parameter at all in a URL: what was to be wrong never arrives."""
    return (
        [negative_data_rejection] if any(value in ([], {}) for value in (case.query or {}).values()) else []
    )
