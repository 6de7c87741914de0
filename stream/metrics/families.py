"""Values to what prometheus_client writes out.

Rules:
- What the catalogue does not have, or a label value that it does not allow, is an error of ours: a page that
  cannot be made is seen at once, a label without bounds only when it is too late.
- A counter whose labels are closed sets is there from the beginning, with zeros: a rate needs a first value.
"""

from __future__ import annotations

import platform
from itertools import product
from typing import TYPE_CHECKING, Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from stream import __version__
from stream.metrics.catalogue import BY_NAME, CATALOGUE, label

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric as Family

    from stream.core.watch import Check
    from stream.metrics.catalogue import Metric, Process
    from stream.metrics.distribution import Distribution

Labels = tuple[str, ...]
INFINITY = "+Inf"


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

    def families(self) -> Iterator[Family]:
        """All that has a value, in the catalogue's order."""
        for metric in self._metrics:
            if metric.kind == "histogram":
                yield from self._histogram(metric)
            elif numbers := self._numbers[metric.name]:
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=metric.labels)
                for labels, value in numbers.items():
                    family.add_metric(labels, value)
                yield family

    def _histogram(self, metric: Metric) -> Iterator[Family]:
        found = self._distributions.get(metric.name)
        if not found:
            return
        family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
        bounds = [*(_shown(bound) for bound in metric.buckets), INFINITY]
        for labels, distribution in found.items():
            cumulative, total = distribution.read()
            family.add_metric(labels, list(zip(bounds, cumulative, strict=True)), total)
        yield family

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


class Reading(Collector):
    """Reads a process' values whenever it is asked.

    Args:
        process: whose.
        readers: each gives some of the values.
    """

    def __init__(self, process: Process, readers: Iterable[Callable[[Values], None]]) -> None:
        self._process = process
        self._readers = list(readers)

    def collect(self) -> Iterator[Family]:
        """All values as they are now."""
        values = Values(self._process)
        values.set("reviewpulse_build_info", 1, __version__, platform.python_version())
        for read in self._readers:
            read(values)
        yield from values.families()

    def describe(self) -> Iterable[Family]:
        """Nothing: else registering it would read it."""
        return ()


def registry(process: Process, *readers: Callable[[Values], None]) -> CollectorRegistry:
    """All that a process shows: its own values, and prometheus_client's of process and interpreter."""
    made = CollectorRegistry(auto_describe=False)
    made.register(Reading(process, readers))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    GCCollector(registry=made)
    return made


def _shown(bound: float) -> str:
    return str(float(bound))
