"""What the processes cost that do nothing yet, or nothing any more: starting, idling, their place on a disk.

Rules:
- Processes as shipped, with the shipped bundle on CPUs and servers of their own; a start is a process that is
  new, its files in the system's cache and compiled, as pip leaves them in an image: the first one, which may
  have to compile, does not count.
- On a machine that others use, wall clock says little: CPU seconds and counts of wake-ups stand beside it.
  A wake-up is a voluntary context switch of any thread: something was waited for, and came.
- Idle begins ``SETTLING_S`` after the process is ready. Resident memory has what is shared with others in it;
  the proportional set divides that among them.
- Sizes are those of what pip installs, file by file, bytecode included: what the image has above its base.
  Without a container engine that is as near as it gets.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import importlib.util
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
from packaging.requirements import Requirement

from stream.bench.pipeline import cpu_seconds, worker_environment
from stream.client.producer import EventProducer
from stream.errors import DependencyError
from stream.local import LOCAL_SESSION_TIMEOUT_S, LocalServers
from stream.redis_config import connect
from stream.settings import SHIPPED_BUNDLE, Settings, load
from stream.store.layout import Layout
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTLING_S = 8.0
LONGEST_S = 180.0
LOOK_S = 0.02
TOP_IMPORTS = 8
PARTS = ("start", "idle", "imports", "size")
PROGRAMS = {
    "reviewpulse --help": "import stream.cli.main; stream.cli.main.command_line()",
    "worker": "import stream.worker, stream.scorer.onnx",
    "web": "import stream.web.server",
    "notify": "import stream.deliver.service",
}
"""What each process imports before it works."""

NOTIFY_FILE = """
version = 1
default = ["nobody"]

[[target]]
name = "nobody"
type = "webhook"
url = "http://127.0.0.1:9/"
"""


class Took(msgspec.Struct, frozen=True):
    """A phase of a start."""

    wall_s: float
    cpu_s: float


class Idle(msgspec.Struct, frozen=True, kw_only=True):
    """A process that has nothing to do."""

    cpu_percent: float
    """Of one core."""
    wake_ups_per_s: float
    by_thread: dict[str, float]
    """Wake-ups a second: of the main thread, and of the others by their order."""
    resident_mb: float
    proportional_mb: float
    threads: int


class Imports(msgspec.Struct, frozen=True):
    """What a program's imports cost."""

    modules: int
    self_ms: float
    by_package: dict[str, float]
    """Milliseconds spent in each top-level package's own modules, the dearest first."""


class Size(msgspec.Struct, frozen=True):
    """An installed package, in MB (10^6 bytes)."""

    mb: float
    bytecode_mb: float
    tests_mb: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What ``reviewpulse bench footprint --json`` prints."""

    phases: dict[str, Took]
    """Medians by phase, in a process of its own."""
    live: Took
    """From the worker's begin to the first answer of ``/livez``."""
    ready: Took
    first_event: Took
    """To the first event visible in Redis, which waited in Kafka."""
    idle: dict[str, Idle]
    imports: dict[str, Imports]
    sizes: dict[str, Size]
    """By distribution, those that the image of CPUs has."""
    bundle_mb: float
    installed_mb: float


def run(*, rounds: int, idle_s: float, only: list[str] | None = None) -> Report:
    """Measures all.

    Args:
        rounds: starts; the figures are their medians.
        idle_s: how long each idle process is watched.
        only: those of ``PARTS`` to measure; none: all.
    """
    parts = set(only or PARTS)
    starts: list[tuple[Took, Took, Took]] = []
    phases: list[dict[str, Took]] = []
    idle: dict[str, Idle] = {}
    if parts & {"start", "idle"}:
        with LocalServers() as servers, tempfile.TemporaryDirectory() as folder:
            settings = _settings(servers)
            if "start" in parts:
                _phases()
                phases = [_phases() for _ in range(rounds)]
                starts = [_start(settings, Path(folder)) for _ in range(rounds)]
            if "idle" in parts:
                idle = _idle(settings, Path(folder), idle_s)
    sizes = installed() if "size" in parts else {}
    return Report(
        phases={name: _median([each[name] for each in phases]) for name in phases[0]} if phases else {},
        live=_median([each[0] for each in starts]),
        ready=_median([each[1] for each in starts]),
        first_event=_median([each[2] for each in starts]),
        idle=idle,
        imports={name: imports_of(program) for name, program in PROGRAMS.items()}
        if "imports" in parts
        else {},
        sizes=sizes,
        bundle_mb=sum(each.stat().st_size for each in SHIPPED_BUNDLE.rglob("*") if each.is_file()) / 1e6,
        installed_mb=sum(each.mb for each in sizes.values()),
    )


def _median(each: list[Took]) -> Took:
    if not each:
        return Took(0.0, 0.0)
    return Took(statistics.median(x.wall_s for x in each), statistics.median(x.cpu_s for x in each))


def _settings(servers: LocalServers) -> Settings:
    settings = load(
        kafka=servers.kafka,
        redis=servers.redis,
        session_timeout_s=LOCAL_SESSION_TIMEOUT_S,
        scorer="onnx",
        provider="cpu",
        bundle=SHIPPED_BUNDLE,
    )
    ensure(settings)
    return settings


def _compiling(environment: dict[str, str]) -> dict[str, str]:
    """Without what would have every start compile all that it imports."""
    return {name: value for name, value in environment.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _phases() -> dict[str, Took]:
    done = subprocess.run(
        [sys.executable, "-m", "stream.bench.starting", repr(time.time())],
        check=True,
        capture_output=True,
        text=True,
        env=_compiling({**os.environ}),
    )
    return {name: Took(*took) for name, took in json.loads(done.stdout.splitlines()[-1]).items()}


def _start(settings: Settings, folder: Path) -> tuple[Took, Took, Took]:
    """Begins a worker with an event waiting for it; when it lived, was ready, had counted it."""
    own = settings.model_copy(update={"namespace": f"foot-{uuid4().hex[:8]}", "group": uuid4().hex})
    with EventProducer(own) as producer:
        producer.send_review(event_id=uuid4().hex, product_id="p", text="It broke.", event_time=time.time())
    layout = Layout(own.namespace, 1)
    began = time.monotonic()
    with _process("worker", own, folder) as (pid, port), connect(own) as client:
        took = [
            _until(pid, began, reached)
            for reached in (
                lambda: _status(port, "/livez") is not None,
                partial(_is_ready, port),
                lambda: int(client.hget(layout.ledger(0), "reviews:counted") or 0) > 0,
            )
        ]
    return took[0], took[1], took[2]


def _until(pid: int, began: float, reached: Callable[[], bool]) -> Took:
    while not reached() and os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() - began > LONGEST_S:
            raise TimeoutError(f"the process did not get there within {LONGEST_S:g} s")
        time.sleep(LOOK_S)
    return Took(time.monotonic() - began, cpu_seconds(pid))


def _idle(settings: Settings, folder: Path, idle_s: float) -> dict[str, Idle]:
    own = settings.model_copy(update={"namespace": f"foot-{uuid4().hex[:8]}", "group": uuid4().hex})
    found = {}
    for name in ("worker", "web", "notify"):
        with _process(name, own, folder) as (pid, port):
            began = time.monotonic()
            if name == "notify":
                _until(pid, began, lambda: "delivering" in (folder / "log").read_text("utf-8"))
            else:
                _until(pid, began, partial(_is_ready, port))
            time.sleep(SETTLING_S)
            found[name] = _watched(pid, idle_s)
    return found


@contextlib.contextmanager
def _process(name: str, settings: Settings, folder: Path) -> Iterator[tuple[int, int]]:
    """One of ours, with its process id and the port it serves on."""
    port = _free_port()
    (folder / "notify.toml").write_text(NOTIFY_FILE, "utf-8")
    further = {
        "worker": {"REVIEWPULSE_HEALTH": f"127.0.0.1:{port}"},
        "web": {"REVIEWPULSE_WEB_PORT": str(port)},
        "notify": {"REVIEWPULSE_NOTIFY": str(folder / "notify.toml")},
    }[name]
    # What notify says is all that tells from outside that it is ready.
    logs = {"REVIEWPULSE_LOG_FORMAT": "json", "REVIEWPULSE_LOG_LEVEL": "info"}
    environment = _compiling(worker_environment(settings) | further | logs)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "stream.cli.main", name], env=environment, stdout=log, stderr=log
        )
        try:
            yield process.pid, port
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        if process.returncode:
            said = (folder / "log").read_text("utf-8")[-2000:]
            raise DependencyError(f"`reviewpulse {name}` ended with {process.returncode}:\n{said}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def _is_ready(port: int) -> bool:
    return _status(port, "/readyz") == 200


def _status(port: int, path: str) -> int | None:
    """The status of a page; None where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return None
    finally:
        connection.close()


def _watched(pid: int, idle_s: float) -> Idle:
    before, cpu = wake_ups(pid), cpu_seconds(pid)
    began = time.monotonic()
    time.sleep(idle_s)
    after, used = wake_ups(pid), cpu_seconds(pid) - cpu
    took = time.monotonic() - began
    by_thread: dict[str, float] = {}
    for number, (thread, count) in enumerate(sorted(after.items())):
        by_thread["main" if thread == pid else f"thread {number}"] = (count - before.get(thread, 0)) / took
    memory = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
    kilobytes = {
        name: int(number) for name, number in re.findall(r"^(\w+):\s+(\d+) kB", memory, re.MULTILINE)
    }
    return Idle(
        cpu_percent=100 * used / took,
        wake_ups_per_s=sum(by_thread.values()),
        by_thread=dict(sorted(by_thread.items(), key=lambda each: -each[1])),
        resident_mb=kilobytes["Rss"] * 1024 / 1e6,
        proportional_mb=kilobytes["Pss"] * 1024 / 1e6,
        threads=len(after),
    )


def wake_ups(pid: int) -> dict[int, int]:
    """Voluntary context switches of each thread of a process (Linux ``/proc``, see proc(5))."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            status = (task / "status").read_text("utf-8")
            count = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)
            if count:
                found[int(task.name)] = int(count[1])
    return found


def imports_of(program: str) -> Imports:
    """What a program's imports cost, by ``-X importtime``; modules that were compiled before."""
    command = [sys.executable, "-X", "importtime", "-c", program]
    environment = _compiling({**os.environ})
    subprocess.run(command, check=True, capture_output=True, env=environment)
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return parsed(done.stderr)


def parsed(text: str) -> Imports:
    r"""The sums of what ``-X importtime`` printed.

    >>> parsed("import time:       120 |        420 | numpy.core\nimport time: 300 | 300 |   numpy\n")
    Imports(modules=2, self_ms=0.42, by_package={'numpy': 0.42})
    """
    lines = re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", text, re.MULTILINE)
    by_package: dict[str, float] = defaultdict(float)
    for self_us, module in lines:
        by_package[module.partition(".")[0]] += int(self_us) / 1000
    dearest = sorted(by_package.items(), key=lambda each: -each[1])
    return Imports(
        len(lines), sum(by_package.values()), {name: round(ms, 2) for name, ms in dearest[:TOP_IMPORTS]}
    )


def installed(root: str = "reviewpulse") -> dict[str, Size]:
    """Size of a distribution and all that it requires on this platform, without extras; largest first."""
    found: dict[str, Size] = {}
    wanted: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while wanted:
        name, extras = wanted.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if key == "onnxruntime-gpu":
                wanted.append(("onnxruntime", extras))  # the CPUs' image has that one
            continue  # else it is of another platform
        found[key] = _size(distribution) if name != root else _ours()
        for text in distribution.requires or []:
            requirement = Requirement(text)
            contexts: list[dict[str, Any]] = [{"extra": each} for each in extras or {""}]
            if requirement.marker is None or any(requirement.marker.evaluate(each) for each in contexts):
                wanted.append((requirement.name, frozenset(requirement.extras)))
    return dict(sorted(found.items(), key=lambda each: -each[1].mb))


def _ours() -> Size:
    """Our own packages, wherever they are installed from, bundles included."""
    files = [
        path
        for package in ("stream", "models", "export")
        for folder in importlib.util.find_spec(package).submodule_search_locations or []  # type: ignore[union-attr]
        for path in Path(folder).rglob("*")
        if path.is_file()
    ]
    bytecode = sum(path.stat().st_size for path in files if path.suffix == ".pyc")
    return Size(sum(path.stat().st_size for path in files) / 1e6, bytecode / 1e6, 0.0)


def _size(distribution: importlib.metadata.Distribution) -> Size:
    whole = bytecode = tests = 0
    for each in distribution.files or []:
        path = Path(str(distribution.locate_file(each)))
        with contextlib.suppress(OSError):
            number = path.stat().st_size
            whole += number
            bytecode += number if path.suffix == ".pyc" else 0
            tests += number if {"tests", "test"} & set(each.parts[:-1]) else 0
    return Size(whole / 1e6, bytecode / 1e6, tests / 1e6)
