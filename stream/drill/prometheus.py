"""Prometheus, with the deployed rules and a minute as long as the drill's; and what fires there.

Rules:
- It listens on loopback, keeps its data in the drill's folder, and does not outlive the drill.
- Targets come from a file, so that workers may come and go as they do where DNS finds them.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self
from urllib.error import URLError

from stream.drill.durations import scaled
from stream.errors import DependencyError, UsageError
from stream.local import HOST, Server

if TYPE_CHECKING:
    from types import TracebackType

JOB = "reviewpulse-worker"
POLL_S = 0.5
ANSWER_S = 5.0
RUNBOOK = "docs/runbook.md"


class Rule(NamedTuple):
    """What an alert rule says of itself."""

    name: str
    severity: str
    panel: str
    runbook_url: str


def find(given: Path | None) -> Path:
    """Prometheus' executable: the one that was given, or that of the PATH.

    Raises:
        UsageError: there is none, so nothing can be judged.
    """
    found = given or (Path(path) if (path := shutil.which("prometheus")) else None)
    if found is None or not found.is_file():
        raise UsageError(
            "Without Prometheus nobody can judge whether the rules fire: install it (Debian: apt-get install"
            " prometheus), or name its executable with --prometheus."
        )
    return found


def find_rules(given: Path | None) -> list[Path]:
    """The rule files: of the folder that was given, or of this source tree's ``deploy/prometheus/rules``.

    Raises:
        UsageError: there are none.
    """
    folder = given or Path(__file__).parents[2] / "deploy" / "prometheus" / "rules"
    files = sorted(folder.glob("*.yml"))
    if not files:
        raise UsageError(f"There are no rule files (*.yml) in {folder}: name their folder with --rules.")
    return files


class Prometheus:
    """Prometheus while its context lasts, asked all the time for what fires.

    Args:
        binary: its executable.
        rules: the deployed rule files.
        folder: for its configuration, its data and its log.
        port: where it listens.
        minute_s: how long a minute of the rules lasts.

    Attributes:
        firing: names of the alerts that fire now.
        active: those that fire or are about to.
        fired_at: monotonic time at which each fired first since ``forget``.
    """

    def __init__(self, binary: Path, rules: list[Path], folder: Path, port: int, minute_s: float) -> None:
        self.firing: frozenset[str] = frozenset()
        self.active: frozenset[str] = frozenset()
        self.fired_at: dict[str, float] = {}
        self._folder = folder
        self._address = f"http://{HOST}:{port}"
        self._targets = folder / "targets.json"
        self._write(rules, minute_s)
        command = [
            str(binary),
            f"--config.file={folder / 'prometheus.json'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
            "--log.level=warn",
        ]
        self._server = Server("Prometheus", command, port, folder / "prometheus.log", self._is_ready)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="alerts", daemon=True)

    def _write(self, rules: list[Path], minute_s: float) -> None:
        deployed = self._folder / "rules"
        deployed.mkdir(parents=True)
        for file in rules:
            (deployed / file.name).write_text(scaled(file.read_text("utf-8"), minute_s), "utf-8")
        self.aim_at([])
        configuration = {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
                "external_labels": {"runbook": RUNBOOK},
            },
            "rule_files": [str(deployed / "*.yml")],
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "file_sd_configs": [{"files": [str(self._targets)], "refresh_interval": "1s"}],
                }
            ],
        }
        # JSON is YAML, too.
        (self._folder / "prometheus.json").write_text(json.dumps(configuration), "utf-8")

    def aim_at(self, ports: list[int]) -> None:
        """Whom to scrape from now on."""
        beside = self._targets.with_suffix(".new")
        beside.write_text(json.dumps([{"targets": [f"{HOST}:{port}" for port in ports]}]), "utf-8")
        beside.replace(self._targets)

    def __enter__(self) -> Self:
        self._server.spawn()
        self._server.wait_until_ready()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._server.terminate()
        self._server.kill(grace_s=5)

    def forget(self) -> None:
        """What has fired so far does not count."""
        self.fired_at = {}

    def rules(self) -> dict[str, Rule]:
        """The alert rules as Prometheus has read them, by name.

        Raises:
            DependencyError: it does not answer.
        """
        return {
            each["name"]: Rule(
                each["name"],
                each["labels"].get("severity", ""),
                each["annotations"].get("panel", ""),
                each["annotations"].get("runbook_url", "").replace("{{ $externalLabels.runbook }}", RUNBOOK),
            )
            for group in self._ask("/api/v1/rules?type=alert")["groups"]
            for each in group["rules"]
        }

    def value(self, expression: str) -> float | None:
        """What an expression of one sample comes to; None when it has none."""
        query = urllib.request.quote(expression)  # type: ignore[attr-defined]
        found = self._ask(f"/api/v1/query?query={query}")["result"]
        return float(found[0]["value"][1]) if found else None

    def _watch(self) -> None:
        while not self._ended.wait(POLL_S):
            try:
                alerts = self._ask("/api/v1/alerts")["alerts"]
            except DependencyError:
                continue  # busy; it is asked again
            now = time.monotonic()
            firing = frozenset(each["labels"]["alertname"] for each in alerts if each["state"] == "firing")
            self.firing = firing
            self.active = frozenset(each["labels"]["alertname"] for each in alerts)
            for name in firing:
                self.fired_at.setdefault(name, now)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._address}/-/ready", timeout=ANSWER_S):  # noqa: S310 - loopback
                return True
        except (URLError, OSError):
            return False

    def _ask(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self._address}{path}", timeout=ANSWER_S) as answer:  # noqa: S310 - loopback
                return json.load(answer)["data"]
        except (URLError, OSError, ValueError) as error:
            raise DependencyError(
                f"Prometheus does not answer ({error}).{self._server.log_tail()}"
            ) from error
