"""Values to Prometheus' text format 0.0.4.

Rules:
- What the catalogue does not have, or a label value that it does not allow, is an error of ours: a page that
  cannot be made is seen at once, a label without bounds only when it is too late.
- Names and labels of a line are put together once and kept; prometheus_client does it anew for each line of
  each page, 6 µs a line, and a page has 500.
- A counter whose labels are closed sets is there from the beginning, with zeros: a rate needs a first value.
"""

from __future__ import annotations

import platform
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from stream import __version__
from stream.metrics.catalogue import BY_NAME, CATALOGUE, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stream.core.watch import Check
    from stream.metrics.catalogue import Metric, Process
    from stream.metrics.distribution import Distribution

Labels = tuple[str, ...]
INFINITY = "+Inf"
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


class Values:
    """The values of a process' metrics at a moment.

    Args:
        process: whose metrics they are.
    """

    def __init__(self, process: Process) -> None:
        self._metrics = [metric for metric in CATALOGUE if process in metric.processes]
        self._numbers: dict[str, dict[Labels, float]] = {each.name: {} for each in self._metrics}
        self._distributions: dict[str, dict[Labels, Distribution]] = {}
        for metric in self._metrics:
            if metric.kind == "counter":
                sets = [label(metric.name, name).values for name in metric.labels]
                self._numbers[metric.name] = dict.fromkeys(product(*sets), 0.0)

    def set(self, name: str, value: float, *labels: str) -> None:
        """Gives a counter or gauge its value.

        Raises:
            ValueError: there is no such metric, or it does not have these labels.
        """
        self._check(name, labels)
        self._numbers[name][labels] = float(value)

    def set_all(self, name: str, values: Mapping[Any, float]) -> None:
        """Gives values by label, or by tuple of labels."""
        for labels, value in values.items():
            self.set(name, value, *((labels,) if isinstance(labels, str) else labels))

    def histogram(self, name: str, distribution: Distribution, *labels: str) -> None:
        """Gives a histogram what it has counted."""
        metric = self._check(name, labels)
        if distribution.bounds != metric.buckets:
            raise ValueError(f"{name} has other buckets in the catalogue")
        self._distributions.setdefault(name, {})[labels] = distribution

    def checks(self, checks: Iterable[Check]) -> None:
        """What a watchdog found."""
        for check in checks:
            self.set("reviewpulse_watchdog_ok", check.ok, check.name)

    def text(self) -> str:
        """All that has a value, in the catalogue's order, in Prometheus' text format."""
        lines: list[str] = []
        for metric in self._metrics:
            if metric.kind == "histogram":
                found = self._distributions.get(metric.name)
                if found:
                    lines += _head(metric)
                    for labels, distribution in found.items():
                        buckets, total, count = _histogram_names(metric.name, labels)
                        cumulative, sum_ = distribution.read()
                        lines += [f"{name}{number}" for name, number in zip(buckets, cumulative, strict=True)]
                        lines += (f"{total}{sum_}", f"{count}{cumulative[-1]}")
            elif numbers := self._numbers[metric.name]:
                lines += _head(metric)
                lines += [f"{_name(metric.name, labels)}{value}" for labels, value in numbers.items()]
        return "\n".join(lines) + "\n"

    def _check(self, name: str, labels: Labels) -> Metric:
        metric = BY_NAME.get(name)
        if metric is None or name not in self._numbers:
            raise ValueError(f"the catalogue has no metric {name} of this process")
        if len(labels) != len(metric.labels):
            raise ValueError(f"{name} has the labels {', '.join(metric.labels)}")
        for label_name, value in zip(metric.labels, labels, strict=True):
            allowed = label(name, label_name).values
            if allowed and value not in allowed:
                raise ValueError(f"{name} takes no {label_name}={value!r}")
        return metric


class Shown:
    """What a process shows: its own values, and prometheus_client's of process and interpreter.

    Args:
        process: whose.
        readers: each gives some of the values.
    """

    def __init__(self, process: Process, readers: Iterable[Callable[[Values], None]]) -> None:
        self._process = process
        self._readers = list(readers)
        self._rest = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._rest)
        PlatformCollector(registry=self._rest)
        GCCollector(registry=self._rest)

    def text(self) -> bytes:
        """All values as they are now."""
        values = Values(self._process)
        values.set("reviewpulse_build_info", 1, __version__, platform.python_version())
        for read in self._readers:
            read(values)
        return values.text().encode() + generate_latest(self._rest)


def registry(process: Process, *readers: Callable[[Values], None]) -> Shown:
    """All that a process shows."""
    return Shown(process, readers)


@lru_cache(1024)
def _head(metric: Metric) -> tuple[str, str]:
    about = metric.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {metric.name} {about}", f"# TYPE {metric.name} {metric.kind}"


@lru_cache(4096)
def _name(name: str, labels: Labels, suffix: str = "", bound: str = "") -> str:
    r"""A line up to its value.

    >>> _name("reviewpulse_notify_queue", ('a "b"',)), _name("reviewpulse_batch_texts", (), "_bucket", "+Inf")
    ('reviewpulse_notify_queue{target="a \\"b\\""} ', 'reviewpulse_batch_texts_bucket{le="+Inf"} ')
    """
    pairs = [*zip(BY_NAME[name].labels, labels, strict=True), *((("le", bound),) if bound else ())]
    told = ",".join(f'{key}="{value.translate(_ESCAPES)}"' for key, value in pairs)
    return f"{name}{suffix}{{{told}}} " if told else f"{name}{suffix} "


@lru_cache(4096)
def _histogram_names(name: str, labels: Labels) -> tuple[tuple[str, ...], str, str]:
    """The lines of a histogram up to their values: its buckets, its sum, its count."""
    bounds = [*(str(float(bound)) for bound in BY_NAME[name].buckets), INFINITY]
    buckets = tuple(_name(name, labels, "_bucket", bound) for bound in bounds)
    return buckets, _name(name, labels, "_sum"), _name(name, labels, "_count")
