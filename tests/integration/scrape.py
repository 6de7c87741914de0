"""A process' ``/metrics``, read as Prometheus reads it."""

from __future__ import annotations

import time
import urllib.request
from typing import TYPE_CHECKING

from prometheus_client.parser import text_string_to_metric_families

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 60.0

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scraped(port: int) -> tuple[str, Samples]:
    """The page's content type, and its values by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        kind, text = answer.headers["Content-Type"], answer.read().decode()
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, tuple(sorted(sample.labels.items()))
            assert key not in samples
            samples[key] = sample.value
    return kind, samples


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"reviewpulse_{name}", tuple(sorted(labels.items()))]


def total(samples: Samples, name: str, **labels: str) -> float:
    """The sum over all other labels."""
    wanted = set(labels.items())
    return sum(
        number
        for (found, labelled), number in samples.items()
        if found == f"reviewpulse_{name}" and wanted <= set(labelled)
    )


def until(port: int, holds: Callable[[Samples], bool]) -> Samples:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        _, samples = scraped(port)
        if holds(samples):
            return samples
        plain = {key: each for key, each in samples.items() if each and not key[0].endswith("_bucket")}
        assert time.monotonic() < deadline, plain
        time.sleep(0.2)
