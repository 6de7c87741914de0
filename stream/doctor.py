"""What works and what does not: each finding with its remedy.

Rules:
- Every room is looked at in a thread of its own and given up after ``ROOM_TIMEOUT_S``: a server that accepts
  and then says nothing must not hang the one command that would tell.
- Nothing is changed: no topic, no key, no file.
- ``fail`` means a worker would not start, or would lose or miscount; ``warn`` means it works, with a price.
"""

from __future__ import annotations

import http.client
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from stream import bundle, redis_nodes, topics
from stream.client.counts import missing_in
from stream.config import oddities, unknown
from stream.core.rules_warnings import warnings
from stream.errors import DependencyError, ReviewpulseError, UsageError
from stream.health import address_of
from stream.priors import load_priors
from stream.promotion import check_named, read_promotion
from stream.redis_config import connect
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange
from stream.redis_url import is_cluster, shown_url
from stream.rules import load_rules
from stream.status import STALE_S, WorkerStatus
from stream.store.layout import Layout, UnknownLayout, read_written

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator, Mapping

    from stream.redis_config import Client
    from stream.settings import Settings
    from stream.store.missing import Missing

ROOM_TIMEOUT_S = 9.0
HEALTH_TIMEOUT_S = 5.0
KAFKA_TIMEOUT_S = 4.0
"""For each request; the room makes a few, and says better than the give-up what is wrong."""

REDIS_LEAST_VERSION = (6, 2)
"""Kept up by its makers, and has what the counters' script uses (ZADD GT)."""

SHARDS_A_MASTER = 4
"""So many spread tolerably: a shard's slot is a matter of chance."""
UNEVEN_FROM = 1.75
"""Times the mean, for the master that has most."""

RANGES_SHOWN = 5
"""Of each partition, the latest. Programs get all of them."""

MEMORY_WARN_SHARE = 0.9
DISK_WARN_BYTES = 1 << 30
DISK_FAIL_BYTES = 100 << 20

REDIS_REMEDY = "start it, or set REVIEWPULSE_REDIS (and REVIEWPULSE_REDIS_PASSWORD)"

NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


class Finding(NamedTuple):
    """One thing looked at."""

    name: str
    state: Literal["ok", "warn", "fail"]
    detail: str
    remedy: str = ""
    missing: tuple[Missing, ...] = ()
    """All of what ``detail`` shows the latest of."""


def examine(settings: Settings, environ: Mapping[str, str]) -> list[Finding]:
    """Looks at everything, the rooms at the same time.

    Args:
        settings: what a worker would be started with.
        environ: ``os.environ``, for what is no setting there.
    """
    looks = [_Look(room, settings) for room in ROOMS]
    return [*settings_findings(settings, environ), *(finding for look in looks for finding in look.result())]


class Room(NamedTuple):
    """Findings that come from one place, and what to do when there are none to be had."""

    name: str
    look: Callable[[Settings], Iterator[Finding]]
    remedy: str


class _Look:
    """One room being looked at, in a daemon thread: one that never returns does not keep us from ending."""

    def __init__(self, room: Room, settings: Settings) -> None:
        self._room = room
        self._findings: list[Finding] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(settings,), name=room.name, daemon=True)
        self._thread.start()

    def _run(self, settings: Settings) -> None:
        try:
            for finding in self._room.look(settings):
                self._findings.append(finding)
        except BaseException as error:  # noqa: BLE001 (carried to the caller's thread)
            self._error = error

    def result(self) -> list[Finding]:
        """The findings so far, and a failure when the room was not through in time.

        Raises:
            Exception: whatever the room did not expect.
        """
        self._thread.join(ROOM_TIMEOUT_S)
        found = list(self._findings)
        if self._thread.is_alive():
            problem = f"gave up after {ROOM_TIMEOUT_S:g} s"
            found.append(Finding(self._room.name, "fail", problem, self._room.remedy))
        elif isinstance(self._error, ReviewpulseError):
            found.append(Finding(self._room.name, "fail", str(self._error), self._room.remedy))
        elif self._error is not None:
            raise self._error
        return found


def settings_findings(settings: Settings, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Variables that look like settings and are none; settings that do nothing beside the others."""
    odd = [*unknown(environ), *oddities(settings)]
    for each in odd:
        detail, _, remedy = each.rstrip(".").rpartition(": ")
        yield Finding("settings", "warn", detail, remedy)
    if not odd:
        yield Finding(
            "settings", "ok", "every REVIEWPULSE_* variable is a known setting, and they fit together"
        )


def kafka_findings(settings: Settings) -> Iterator[Finding]:
    """The broker and the topics."""
    with topics.open_admin(settings, timeout_s=KAFKA_TIMEOUT_S) as admin:
        brokers = admin.describe_cluster()["brokers"]
        version = admin.get_broker_version_data(brokers[0]["broker_id"]).broker_version
    yield Finding(
        "kafka",
        "ok",
        f"{settings.kafka}: {len(brokers)} broker{'' if len(brokers) == 1 else 's'},"
        f" protocol of Kafka {'.'.join(map(str, version))}, {settings.kafka_security}",
    )
    for each in topics.check(settings, timeout_s=KAFKA_TIMEOUT_S):
        state: Literal["ok", "warn", "fail"] = "ok" if each.state == "ok" else "fail"
        yield Finding(f"topic {each.topic}", state, each.detail, each.remedy)


def redis_findings(settings: Settings) -> Iterator[Finding]:
    """Whether Redis answers, keeps what it is given, and evicts nothing; every node of a cluster."""
    where = shown_url(settings.redis)
    try:
        with connect(settings) as client:
            nodes = redis_nodes.nodes(client)
            workers = reporting_workers(client, settings)
            layout = stored_layout(client, settings)
            lists = missing_records(client, layout)
            (promoted,) = exchange(client, [("GET", f"{settings.namespace}:bundle")])
            shards = redis_nodes.shards_by_primary(client, layout) if is_cluster(settings.redis) else None
    except REDIS_ERRORS as error:
        yield Finding("redis", "fail", told(error, settings.redis), REDIS_REMEDY)
        return
    except UnknownLayout as error:
        yield Finding(
            "redis", "fail", f"{where} holds {error}", "use the version of reviewpulse that wrote it"
        )
        return
    answering = [node for node in nodes if node.facts]
    yield judge_topology(where, nodes)
    yield _worst([judge_redis_version(node.name or where, node.facts) for node in answering])
    # The replicas, too: tomorrow one may be the master.
    yield _worst([_of(node, judge_persistence(node.facts)) for node in answering])
    yield _worst([_of(node, judge_eviction(node.facts)) for node in answering])
    if shards is not None:
        yield judge_spread(shards)
    yield judge_missing(lists)
    if promoted is not None:
        yield judge_promoted(promoted)
    if workers:
        yield Finding("workers", "ok", f"{len(workers)} at work: {', '.join(workers)}")
    else:
        yield Finding("workers", "warn", f"none has reported for {STALE_S:g} s", "reviewpulse worker")


def judge_promoted(raw: bytes) -> Finding:
    """Whether a worker of this machine could score with what was promoted."""
    try:
        promotion = read_promotion(raw)
        which = promotion and promotion.bundle
        if which:
            check_named(which)
    except UsageError as error:
        remedy = "put it there, or promote another with `reviewpulse bundle promote`"
        return Finding("promoted", "fail", str(error), remedy)
    what = f"{which.version} ({which.path})" if which else "what each worker is configured with"
    return Finding("promoted", "ok", f"{what}, by {promotion.by if promotion else ''}")


def _of(node: redis_nodes.Node, finding: Finding) -> Finding:
    return finding._replace(detail=f"{node.name}: {finding.detail}") if node.name else finding


def _worst(findings: list[Finding]) -> Finding:
    return max(findings, key=lambda each: ("ok", "warn", "fail").index(each.state))


def stored_layout(client: Client, settings: Settings) -> Layout:
    """The layout that the workers go by, or the one that the settings would make.

    Raises:
        UnknownLayout: another version wrote it.
    """
    wanted = Layout(settings.namespace, settings.shards)
    (raw,) = exchange(client, [("GET", wanted.layout_key)])
    return wanted if raw is None else read_written(raw).layout(settings.namespace)


def missing_records(client: Client, layout: Layout) -> list[Missing]:
    """Offsets that were deleted before they were counted.

    Raises:
        RedisError: Redis does not answer.
    """
    return missing_in(
        exchange(client, [("HGETALL", layout.missing(shard)) for shard in range(layout.shards)])
    )


def reporting_workers(client: Client, settings: Settings) -> list[str]:
    """Names of the workers that reported lately.

    Raises:
        RedisError: Redis does not answer.
    """
    (board,) = exchange(client, [("HGETALL", f"{settings.namespace}:workers")])
    statuses = [msgspec.json.decode(value, type=WorkerStatus) for value in board.values()]
    return sorted(status.name for status in statuses if time.time() - status.at <= STALE_S)


def worker_here(settings: Settings) -> Finding:
    """Whether the worker on this host is well: what a container's health check asks.

    The worker itself is asked where it serves its health, else the status board: that needs Redis, and a
    worker that only waits for Redis is well.
    """
    if settings.health:
        return _live_here(*address_of(settings.health))
    host = socket.gethostname()
    try:
        with connect(settings) as client:
            names = reporting_workers(client, settings)
    except REDIS_ERRORS as error:
        return Finding("worker", "fail", told(error, settings.redis), REDIS_REMEDY)
    except ReviewpulseError as error:
        return Finding("worker", "fail", str(error), REDIS_REMEDY)
    # A name is the host's and the process id.
    if here := [name for name in names if name.rpartition("-")[0] == host]:
        return Finding("worker", "ok", f"{', '.join(here)} is at work")
    return Finding("worker", "fail", f"no worker on {host} has reported for {STALE_S:g} s", "see its log")


def _live_here(host: str, port: int) -> Finding:
    where = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - what it means, not to listen
    connection = http.client.HTTPConnection(where, port, timeout=HEALTH_TIMEOUT_S)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        checks = msgspec.json.decode(answer.read())["checks"]
    except (OSError, http.client.HTTPException, msgspec.MsgspecError) as error:
        detail = f"no worker answers at {where}:{port}: {error}"
        return Finding("worker", "fail", detail, "see its log; REVIEWPULSE_HEALTH says where it is asked")
    finally:
        connection.close()
    ill = [check["says"] for check in checks if not check["ok"]]
    if answer.status == http.HTTPStatus.OK:
        return Finding("worker", "ok", "; ".join(check["says"] for check in checks))
    return Finding("worker", "fail", "; ".join(ill) or "it has not looked at itself yet", "see its log")


def judge_topology(where: str, nodes: list[redis_nodes.Node]) -> Finding:
    """What stands behind the URL, and whether it survives the death of a server."""
    name = "redis topology"
    primaries = [node for node in nodes if node.is_primary]
    if silent := [node.name for node in nodes if not node.facts]:
        remedy = "start them, or CLUSTER FORGET them"
        return Finding(name, "warn", f"{where}: {', '.join(silent)} of the cluster do not answer", remedy)
    if not nodes[0].name:
        (node,) = nodes
        if not node.is_primary:
            primary = f"{node.facts.get('master_host')}:{node.facts.get('master_port')}"
            detail = f"{where}: a replica of {primary}, which takes no writes"
            return Finding(name, "fail", detail, "set REVIEWPULSE_REDIS to the primary, or to sentinels")
        return Finding(name, "ok", f"{where}: a primary with {_count(node.replicas, 'replica')}")
    shown = f"{where}: a cluster of {_count(len(primaries), 'master')}"
    # A replica is not told of by the cluster before it has got its first write.
    shown += f" and {_count(sum(node.replicas for node in primaries), 'replica')}"
    if alone := [node.name for node in primaries if not node.replicas]:
        detail = f"{shown}; without {' or '.join(alone)} nothing is counted"
        return Finding(name, "warn", detail, "give every master a replica")
    return Finding(name, "ok", shown)


def judge_missing(missing: list[Missing]) -> Finding:
    """Whether records were deleted before they were counted. ``missing``: see ``missing_records``."""
    name = "missing records"
    if not missing:
        return Finding(name, "ok", "none: everything was counted before Kafka's retention came to it")
    ranges: dict[str, list[str]] = {}
    for each in missing:
        ranges.setdefault(each.partition, []).append(f"{each.first}-{each.last}")
    shown = "; ".join(f"{partition} {', '.join(all_[-RANGES_SHOWN:])}" for partition, all_ in ranges.items())
    return Finding(
        name,
        "warn",
        f"Kafka deleted these offsets before they were counted: {shown}",
        "keep records longer (REVIEWPULSE_RETENTION_H, and the topic's retention.ms), or add workers",
        tuple(missing),
    )


def judge_spread(shards: Counter[str]) -> Finding:
    """How evenly a cluster's masters share the work. ``shards``: how many each serves."""
    name = "redis shards"
    total, most, least = shards.total(), max(shards.values()), min(shards.values())
    each = ", ".join(f"{primary} {number}" for primary, number in sorted(shards.items()))
    detail = f"{_count(total, 'shard')} on {_count(len(shards), 'master')}: {each}"
    if not least:
        enough = SHARDS_A_MASTER * len(shards)
        remedy = f"`reviewpulse reshard` to {enough} or more; for a new namespace REVIEWPULSE_SHARDS={enough}"
        return Finding(name, "warn", f"{detail}: some masters have nothing to do", remedy)
    if most > UNEVEN_FROM * total / len(shards):
        return Finding(
            name, "warn", f"{detail}: unevenly spread", "more shards, or move slots between masters"
        )
    return Finding(name, "ok", detail)


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def judge_redis_version(where: str, facts: dict[str, Any]) -> Finding:
    """Whether the server is new enough. ``facts`` are those of INFO, here and below."""
    version = str(facts["redis_version"])
    name = f"Valkey {facts['valkey_version']}" if "valkey_version" in facts else f"Redis {version}"
    if tuple(int(part) for part in version.split(".")[:2]) < REDIS_LEAST_VERSION:
        least = ".".join(map(str, REDIS_LEAST_VERSION))
        return Finding("redis", "fail", f"{where}: {name} is too old", f"upgrade to {least} or later")
    return Finding("redis", "ok", f"{where}: {name}")


def judge_persistence(facts: dict[str, Any]) -> Finding:
    """Whether a restart of Redis keeps the counters."""
    name = "redis persistence"
    if not facts["aof_enabled"]:
        return Finding(
            name,
            "warn",
            "no append-only file: after a restart all is counted again, as far as Kafka still has it",
            "set `appendonly yes` and `appendfsync everysec`",
        )
    if facts.get("aof_last_write_status", "ok") != "ok":
        return Finding(
            name, "fail", "the append-only file cannot be written", "free its disk; see Redis' log"
        )
    return Finding(name, "ok", "append-only file is on")


def judge_eviction(facts: dict[str, Any]) -> Finding:
    """Whether Redis may throw counters or offsets away."""
    name = "redis memory"
    policy, most, used = str(facts["maxmemory_policy"]), int(facts["maxmemory"]), int(facts["used_memory"])
    shown = f"{_mib(used)} used of {_mib(most) if most else 'no limit'}, {policy}"
    if policy != "noeviction":
        return Finding(
            name,
            "fail" if most else "warn",
            f"{shown}: " + ("counters can be evicted" if most else "counters could be, were there a limit"),
            "set `maxmemory-policy noeviction`",
        )
    if most and used > MEMORY_WARN_SHARE * most:
        return Finding(
            name,
            "warn",
            f"{shown}: when it is full, counting stops",
            "raise `maxmemory`, or use fewer products",
        )
    return Finding(name, "ok", shown)


def scorer_findings(settings: Settings) -> Iterator[Finding]:
    """The bundle's checksums, and the provider that really scores."""
    from stream.scorer.load import load_scorer  # noqa: PLC0415 (half a second, and only here)

    if settings.scorer == "constant":
        yield Finding(
            "scorer", "warn", "the constant scorer: its scores mean nothing", "unset REVIEWPULSE_SCORER"
        )
        return
    manifest = bundle.verify(settings.bundle, settings.bundle_key)
    signed = "it is signed" if settings.bundle_key else "no REVIEWPULSE_BUNDLE_KEY asks for a signature"
    yield Finding(
        "bundle",
        "ok",
        f"{manifest.name} {manifest.version} ({', '.join(manifest.languages)}):"
        f" all checksums agree, {signed}",
    )
    try:
        scorer = load_scorer(settings)
        provider = scorer.provider
    except DependencyError as error:
        yield Finding(
            "provider", "fail", str(error), "install what it names, or set REVIEWPULSE_PROVIDER=auto"
        )
        return
    if provider == "CPUExecutionProvider" and settings.provider == "auto" and NVIDIA_DRIVER.exists():
        yield Finding(
            "provider",
            "warn",
            f"{provider}, although an NVIDIA driver is here",
            "REVIEWPULSE_PROVIDER=cuda says why CUDA cannot be used; =cpu settles for it",
        )
        return
    graphs: int = getattr(scorer, "graphs", 0)
    yield Finding("provider", "ok", f"{provider}, {graphs} CUDA graphs captured" if graphs else provider)


def disk_findings(settings: Settings) -> Iterator[Finding]:
    """Room where temporary files go; a worker keeps nothing else on disk."""
    del settings
    folder = Path(tempfile.gettempdir())
    free = shutil.disk_usage(folder).free
    yield judge_disk(folder, free)


def judge_disk(folder: Path, free_bytes: int) -> Finding:
    """Whether ``folder`` has room."""
    detail = f"{_mib(free_bytes)} free in {folder}"
    if free_bytes >= DISK_WARN_BYTES:
        return Finding("disk", "ok", detail)
    state: Literal["warn", "fail"] = "warn" if free_bytes >= DISK_FAIL_BYTES else "fail"
    return Finding("disk", state, detail, "free some, or point TMPDIR elsewhere")


def rules_findings(settings: Settings) -> Iterator[Finding]:
    """The rules file and the snapshot of priors, as a worker would read them."""
    rules, priors = load_rules(settings), load_priors(settings)
    odd = warnings(rules, settings.expected_events_per_day)
    for each in odd:
        yield Finding("rules", "warn", str(each), "`reviewpulse rules check` reads the file out")
    if not odd:
        begin = f"priors {priors.version}" if priors.version else "the built-in prior"
        yield Finding(
            "rules",
            "ok",
            f"thresholds: {len(rules.thresholds)}, exceptions: {len(rules.overrides)}; baselines begin with"
            f" {begin}",
        )


ROOMS = (
    Room("kafka", kafka_findings, "start it, or set REVIEWPULSE_KAFKA (and REVIEWPULSE_KAFKA_SECURITY)"),
    Room("redis", redis_findings, REDIS_REMEDY),
    Room("bundle", scorer_findings, "copy or export the bundle again, or set REVIEWPULSE_BUNDLE"),
    Room("rules", rules_findings, "mend the file, or set REVIEWPULSE_RULES or REVIEWPULSE_PRIORS"),
    Room("disk", disk_findings, "set TMPDIR to a folder that works"),
)


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.0f} MiB"
