"""The fault matrix, once each; ``python -m tests.integration.faults`` runs many rounds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.integration.faults.matrix import FAULTS, Fault, meet

if TYPE_CHECKING:
    from pathlib import Path

    from stream.local import LocalServers
    from tests.conftest import ExternalServers

SEED = 5


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.in_ci], ids=lambda fault: fault.name)
def test_every_event_is_counted_once_whatever_happens(
    fault: Fault, tmp_path: Path, servers: LocalServers | ExternalServers
) -> None:
    assert meet(fault, SEED, tmp_path, servers).events > 0
