"""One log line for each decision that matters, none for each event; JSON for machines, colours for people.

Rules:
- What a library says again and again is passed on once a minute: a client whose server is away says so ten
  times a second, and what matters would drown in it.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings

REPEAT_S = 60.0
LINES_KNOWN = 1000
"""Far more than the libraries have; but some of Faust's carry a number of their own."""
_TALKATIVE = ("aiokafka", "faust", "kafka", "mode", "opentelemetry")

_QUIETER = {
    # Their info lines tell how a library goes about its work; ours tell what the worker does.
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "aiokafka": logging.WARNING,
    "stream.transport": logging.WARNING,  # Faust's service messages, through the class's module
    "kafka": logging.ERROR,
    # It logs every partition that moves, and a rebalance at error level when a peer dies: an everyday thing.
    "aiokafka.consumer.group_coordinator": logging.ERROR,
}


class OnceAMinute(logging.Filter):
    """Lets a line of a talkative library pass when it has not passed lately; what it was about may differ.

    Args:
        now_s: a clock that never goes back.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._passed: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line passes; it says how many like it did not."""
        if record.name.partition(".")[0] not in _TALKATIVE:
            return True
        line = (record.name, str(record.msg))
        now_s = self._now_s()
        passed_s, held_back = self._passed.get(line, (float("-inf"), 0))
        if now_s < passed_s + REPEAT_S:
            self._passed[line] = (passed_s, held_back + 1)
            return False
        if held_back:
            record.msg = f"{record.msg} ({held_back} more like it since it was last said)"
        if len(self._passed) >= LINES_KNOWN:
            self._passed.clear()
        self._passed[line] = (now_s, 0)
        return True


def configure(settings: Settings) -> None:
    """Sends every log line, ours and the libraries', to standard error in one format."""
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
        if human
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    to_stderr = logging.StreamHandler(sys.stderr)
    to_stderr.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *([] if human else [structlog.processors.format_exc_info]),
                renderer,
            ],
        )
    )
    to_stderr.addFilter(OnceAMinute())
    root = logging.getLogger()
    root.handlers[:] = [to_stderr]
    root.setLevel(settings.log_level.upper())
    for name, level in _QUIETER.items():
        logging.getLogger(name).setLevel(max(level, root.level))
