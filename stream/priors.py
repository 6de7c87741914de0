"""Learns priors from what the live detectors know, and keeps snapshots of them in files.

Rules:
- How many of a product's events were negative says its detector's state in Redis, whoever judged them and
  however long ago. Which category it is of says the log, as far as Kafka keeps it and as far back as asked.
- A product belongs to the first category that is seen of it on a channel, as for the detector, which gives a
  product its prior at its first event. One whose events are all older than what is read has none, and counts
  for the fleet alone.
- How busy each hour of a week is says the log, too: by how far the offsets came in each hour, so no record is
  read for it. All events count, not the negatives alone: when people write is much the same.
- Nothing is written to Redis or Kafka, and workers go on meanwhile. A generation switch starts the reading
  over (``stream.client.counts``).
- The file is there whole or as it was before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeVar

import msgspec
from kafka.errors import KafkaError

from stream import bundle
from stream.client.counts import PRODUCTS_A_TRIP, LiveLayout
from stream.client.log import ends_of, open_consumer, partitions_of, read_to_end
from stream.core import detection
from stream.core.events import CHANNELS, Channel, rfc3339
from stream.core.priors import (
    BUILT_IN,
    DEFAULT,
    LEAST_EVENTS_OF_PRODUCT,
    LEAST_PRODUCTS,
    Counts,
    Priors,
    encode_snapshot,
    learn,
    learned,
    read_snapshot,
    snapshot,
)
from stream.core.profile import HOUR_MS, learn_week
from stream.core.spike_state import State, unpack
from stream.errors import DependencyError, ReviewpulseError, UsageError
from stream.redis_config import connect
from stream.redis_errors import REDIS_ERRORS, failure
from stream.redis_trip import exchange
from stream.scorer.constant import ConstantScorer
from stream.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from kafka import KafkaConsumer, TopicPartition

    from stream.client.counts import Question
    from stream.settings import Settings
    from stream.store.layout import Layout

LONGEST_H = 4 * 168
"""Four weeks: older habits say less, and Kafka hardly keeps more."""

P = TypeVar("P")

Watched: TypeAlias = tuple[str, Channel]
"""A product on a channel: what the detector has a state of."""


class Lesson(NamedTuple):
    """A snapshot, and what it was learned from."""

    priors: Priors
    states: int
    """Detector states that were read: products, on each channel."""
    categorised: int
    """Those of them whose category was found."""
    records: int
    """Kafka records looked at for categories."""
    unreadable: int
    """States that this version cannot read; nothing was learned from them."""


def learn_priors(
    settings: Settings,
    *,
    now_ms: int,
    most_records: int,
    on_step: Callable[[str], None] = lambda _: None,
) -> Lesson:
    """Learns a snapshot from what the live detectors know.

    Args:
        settings: where Redis and Kafka are, which model the workers score with, and which snapshot they use:
            it tells what the states began with.
        now_ms: when it is made, ms since the epoch.
        most_records: of Kafka's newest that are looked at for categories; with none Kafka is not needed, and
            no week is learned.
        on_step: called with what is being done.

    Raises:
        ReviewpulseError: there is too little to learn from.
        DependencyError: Redis or Kafka is away.
        UsageError: a setting is wrong, or the snapshot it names cannot be used.
    """
    used = load_priors(settings)
    model_version = _model_version(settings)
    on_step("reading the detectors' states")
    states, unreadable = read_states(settings)
    if not states and unreadable:
        raise ReviewpulseError(
            f"None of {unreadable:,} detector states can be read: is this the version that the workers run?"
        )
    if not states:
        raise ReviewpulseError(
            f"No product has a detector state under '{settings.namespace}': let workers count events first."
        )
    on_step("reading categories from the log")
    categories, records = read_categories(settings, states, most_records)
    weeks: dict[Channel, list[float]] = {}
    if most_records:
        on_step("reading how the hours of a week differ")
        hourly = read_hours(settings, now_ms)
        weeks = {channel: learn_week(counts) for channel, counts in hourly.items()}
    counts: dict[Channel, list[Counts]] = {channel: [] for channel in CHANNELS}
    for (product_id, channel), state in states.items():
        category = categories.get((product_id, channel))
        began_with = [used.of(channel, category), used.of(channel, None), BUILT_IN]
        counts[channel].append(Counts(*learned(state, began_with), category))
    found = {channel: learn(products) for channel, products in counts.items()}
    channels = {
        channel: msgspec.structs.replace(priors, week=weeks.get(channel, []))
        for channel, priors in found.items()
        if priors is not None
    }
    if not channels:
        raise ReviewpulseError(
            f"There is too little to learn from: on no channel {LEAST_PRODUCTS} products have"
            f" {LEAST_EVENTS_OF_PRODUCT:g} events. Let workers count more."
        )
    priors = snapshot(rfc3339(now_ms), model_version, channels)
    return Lesson(priors, len(states), len(categories), records, unreadable)


def _model_version(settings: Settings) -> str:
    if settings.scorer == "constant":
        return ConstantScorer.version
    return bundle.load_manifest(settings.bundle).version


# What detectors know.


def read_states(settings: Settings) -> tuple[dict[Watched, State], int]:
    """Every detector state of the live generation, and how many could not be read.

    Raises:
        DependencyError: Redis is away, or holds what another version wrote.
        UsageError: it refuses us.
    """
    question = LiveLayout(settings.namespace).asked(_ask_states)
    try:
        with connect(settings) as client:
            try:
                commands = next(question)
                while True:
                    commands = question.send(exchange(client, commands))
            except StopIteration as answered:
                packed: dict[Watched, bytes] = answered.value
    except REDIS_ERRORS as error:
        raise failure(error, settings.redis, at_start=True) from error
    states: dict[Watched, State] = {}
    for watched, state in packed.items():
        try:
            spike = detection.unpack(state).spike
            if spike is not None:
                states[watched] = unpack(spike)
        except ValueError:
            continue  # a newer worker's: counted by the difference
    return states, len(packed) - len(states)


def _ask_states(layout: Layout) -> Question[dict[Watched, bytes]]:
    shards = range(layout.shards)
    active = yield [("ZRANGE", layout.active(shard), 0, -1) for shard in shards]
    found: dict[Watched, bytes] = {}
    for of_shard in active:
        products = [product.decode() for product in of_shard]
        for start in range(0, len(products), PRODUCTS_A_TRIP):
            some = products[start : start + PRODUCTS_A_TRIP]
            # Of one shard: the keys of an MGET share a slot.
            replies = yield [
                ("MGET", *(layout.spike(channel, each) for each in some)) for channel in CHANNELS
            ]
            for channel, states in zip(CHANNELS, replies, strict=True):
                found |= {
                    (product, channel): state
                    for product, state in zip(some, states, strict=True)
                    if state is not None
                }
    return found


# Which category they are of.


class _Labelled(msgspec.Struct):
    """What is wanted of an event. Whether it is valid else is the pipeline's to judge."""

    product_id: str
    category: str | None = None


_decode_labelled = msgspec.json.Decoder(_Labelled).decode


def read_categories(
    settings: Settings, wanted: Iterable[Watched], most_records: int
) -> tuple[dict[Watched, str], int]:
    """The category of products, by the newest records of each partition, and how many records that were.

    Args:
        settings: where Kafka is.
        wanted: whose.
        most_records: looked at, of all partitions together.

    Raises:
        DependencyError: Kafka is away, or lacks a topic.
    """
    if not most_records:
        return {}, 0
    unknown = set(wanted)
    channels = {topic: channel for channel, topic in settings.topics.items()}
    found: dict[Watched, str] = {}
    records = 0
    consumer = open_consumer(settings)
    try:
        partitions = [each for topic in channels for each in partitions_of(consumer, topic)]
        for record in _newest(consumer, partitions, most_records):
            records += 1
            # A product's events lie in one partition, in order: what comes first is its first.
            labelled = _labelled(record.value)
            if labelled is None or labelled.category is None:
                continue
            watched = (labelled.product_id, channels[record.topic])
            if watched in unknown:
                unknown.remove(watched)
                found[watched] = labelled.category
    except KafkaError as error:
        raise DependencyError(f"Cannot read categories from Kafka at {settings.kafka}: {error}.") from error
    finally:
        consumer.close(autocommit=False)
    return found, records


def _newest(consumer: KafkaConsumer, partitions: list[TopicPartition], most: int) -> Iterable[Any]:
    ends = ends_of(consumer, partitions)
    first = consumer.beginning_offsets(partitions)
    shares = spread({each: ends[each] - first[each] for each in partitions}, most)
    return read_to_end(consumer, {each: ends[each] - shares[each] for each in partitions}, ends)


def spread(available: Mapping[Any, int], most: int) -> dict[Any, int]:
    """How many to take of each when there may be ``most`` in all: alike, and what one lacks others have.

    >>> spread({"a": 100, "b": 5, "c": 100}, 45)
    {'b': 5, 'a': 20, 'c': 20}
    """
    taken: dict[Any, int] = {}
    left = most
    for waiting, (name, number) in zip(
        range(len(available), 0, -1), sorted(available.items(), key=lambda each: each[1]), strict=True
    ):
        taken[name] = min(number, left // waiting)
        left -= taken[name]
    return taken


# How the hours of a week differ.


def read_hours(settings: Settings, now_ms: int) -> dict[Channel, dict[int, int]]:
    """How many records came in each whole hour of the last weeks, by channel and hour since the epoch.

    An hour in which some partition had not begun yet, or was deleted again by retention, is left out; so are
    all where the broker cannot find records by time, as the local one cannot.

    Args:
        settings: where Kafka is.
        now_ms: the end; the hour that is not over yet is left out.

    Raises:
        DependencyError: Kafka is away, or lacks a topic.
    """
    last = now_ms // HOUR_MS
    consumer = open_consumer(settings)
    try:
        bounds = range(last - LONGEST_H, last + 1)
        return {
            channel: _hourly(consumer, partitions_of(consumer, settings.topics[channel]), bounds)
            for channel in CHANNELS
        }
    except KafkaError as error:
        raise DependencyError(f"Cannot read times from Kafka at {settings.kafka}: {error}.") from error
    finally:
        consumer.close(autocommit=False)


def _hourly(consumer: KafkaConsumer, partitions: list[TopicPartition], bounds: range) -> dict[int, int]:
    ends = ends_of(consumer, partitions)
    first = consumer.beginning_offsets(partitions)
    used = {each: (first[each], ends[each]) for each in partitions if ends[each] > first[each]}

    def first_since(hour: int) -> dict[TopicPartition, int]:
        found = consumer.offsets_for_times(dict.fromkeys(used, hour * HOUR_MS))
        return {each: known.offset for each, known in found.items() if known is not None}

    return counted(used, first_since, bounds) if used else {}


def counted(
    used: Mapping[P, tuple[int, int]], first_since: Callable[[int], Mapping[P, int]], bounds: range
) -> dict[int, int]:
    """How many records came in each hour, by the offsets at its bounds.

    Args:
        used: first offset and end of each partition that holds records.
        first_since: the offset of the first record of that hour or later, of partitions that have one.
        bounds: hours; the last is where the one before it ends.

    >>> counted({"p0": (10, 16)}, lambda hour: {"p0": 10 + 2 * hour} if hour < 3 else {}, range(5))
    {1: 2, 2: 2, 3: 0}
    """
    counts: dict[int, int] = {}
    before: dict[P, int] | None = None
    for hour in bounds:
        found = first_since(hour)
        at = {each: found.get(each, end) for each, (_, end) in used.items()}
        if before is not None:
            counts[hour - 1] = sum(at[each] - before[each] for each in used)
        elif any(at[each] <= first for each, (first, _) in used.items()):
            continue  # what came before, if anything, is no longer there
        before = at
    return counts


def _labelled(value: bytes | None) -> _Labelled | None:
    if value is None:
        return None
    try:
        return _decode_labelled(value)
    except (ValueError, RecursionError):  # a dead letter; msgspec's errors are ValueErrors
        return None


# Files.


def load_priors(settings: Settings) -> Priors:
    """The snapshot that ``REVIEWPULSE_PRIORS`` names; ``DEFAULT`` when it names none.

    Raises:
        UsageError: the file is not there, damaged, or was edited.
    """
    return DEFAULT if settings.priors is None else load_snapshot(settings.priors)


def load_snapshot(path: Path) -> Priors:
    """A snapshot from its file.

    Raises:
        UsageError: it is not there, damaged, or was edited.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"Cannot read the priors {path}: {error.strerror or error}. Name a file that"
            " `reviewpulse priors learn` wrote."
        ) from None
    try:
        return read_snapshot(raw)
    except ValueError as error:
        raise UsageError(
            f"Cannot use the priors {path}: {error}. It was damaged or edited: copy it again, or make"
            " another with `reviewpulse priors learn`."
        ) from None


def check_place(path: Path) -> None:
    """Sees that a snapshot can lie at ``path``, before anything is read for it.

    Raises:
        UsageError: there is no such folder, or it is a folder itself.
    """
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file for the priors.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent}; make it first, or name another place.")


def save_snapshot(path: Path, priors: Priors) -> None:
    """Writes a snapshot; a file that is there is replaced in one step.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    write_whole(path, encode_snapshot(priors))
