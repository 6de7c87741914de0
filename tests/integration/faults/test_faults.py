"""The fault matrix, once each; ``python -m tests.integration.faults`` runs many rounds of it.

Those that are marked ``long`` run with ``-m ""`` (or ``-m long``) alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stream.local import LocalServers
from tests.integration.faults.matrix import FAULTS, Fault, meet

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import ExternalServers

SEED = 5


MATRIX = [
    pytest.param(fault, marks=() if fault.by_default else pytest.mark.long, id=fault.name) for fault in FAULTS
]


@pytest.mark.slow
@pytest.mark.parametrize("fault", MATRIX)
def test_every_event_is_counted_once_whatever_happens(
    fault: Fault, tmp_path: Path, servers: LocalServers | ExternalServers
) -> None:
    if not isinstance(servers, LocalServers) and (why := fault.why_not_at(servers.redis)):
        pytest.skip(why)
    assert meet(fault, SEED, tmp_path, servers).events > 0
