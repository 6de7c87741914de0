"""What the demo shows: a live screen on a terminal, plain lines elsewhere, and the reconciliation at the end.

Rules:
- A ``Snapshot`` holds all that is shown; rendering it is pure, so a test can look at any moment.
- Names, quotes and ids come from outside: each is made printable before it is shown.
- It fits 80 columns and 24 lines; wider terminals get the trend as well.
"""

from __future__ import annotations

import io
import time
from collections import deque
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, Self

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream.cli.terminal import printable, shortened

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from rich.console import RenderableType

    from stream.client import ProductCounts
    from stream.core.events import Alert
    from stream.demo.reconcile import Report
    from stream.status import WorkerStatus

Stage = Literal["starting", "history", "usual", "incident", "replaced", "closing"]

STAGES: dict[Stage, tuple[str, str]] = {
    "starting": ("starting", "cyan"),
    "history": ("catching up on the last hour, so that usual shares are known", "cyan"),
    "usual": ("an ordinary day", "green"),
    "incident": ("a bad batch of batteries is on sale: {bad}", "red"),
    "replaced": ("the batch is replaced: {bad} recovers", "green"),
    "closing": ("closed; what is on its way is counted", "cyan"),
}

LEADERS_TITLE = "most negative, last 5 minutes (by the lower end of the share's interval)"
LEADERS_SHOWN = 6
ALERTS_SHOWN = 2
QUOTES_SHOWN = 2
WIDE = 100
"""Columns from which the trend is shown."""

BAR = 16
TREND = 24
TREND_WINDOW = 16
"""Polls (eight seconds) whose share one mark of a trend shows."""
BLOCKS = " ▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉"


class Snapshot(NamedTuple):
    """Everything there is to show at one moment."""

    duration_s: float
    names: Mapping[str, str]
    bad_product: str
    stage: Stage = "starting"
    note: str = ""
    elapsed_s: float = 0.0
    sent: int = 0
    done: int = 0
    """Counted, dead or skipped."""
    history: int = 0
    """Events that the history has."""
    worker: WorkerStatus | None = None
    leaders: Sequence[ProductCounts] = ()
    trends: Mapping[str, Sequence[float | None]] = MappingProxyType({})
    """Negative shares by product, oldest first."""
    alerts: Sequence[Alert] = ()
    """Every transition, oldest first."""
    page: str = ""
    """Address of the live page, once it is there."""

    @property
    def lag(self) -> int:
        """Events sent that have not ended yet."""
        return max(self.sent - self.done, 0)

    @property
    def progress(self) -> float:
        """How much of the stage, or of the live part, is over; in [0, 1]."""
        if self.stage == "history":
            return min(self.done / self.history, 1.0) if self.history else 0.0
        return min(self.elapsed_s / self.duration_s, 1.0)

    def name(self, product_id: str) -> str:
        """A product's name, or its id where there is none."""
        return printable(self.names.get(product_id, product_id))


class Trends:
    """Remembers cumulative counts and makes recent shares of them."""

    def __init__(self) -> None:
        self._counts: dict[str, deque[tuple[int, int]]] = {}

    def add(self, counts: Sequence[ProductCounts]) -> None:
        """Takes in the all-time counts of one poll."""
        for each in counts:
            kept = self._counts.setdefault(each.product_id, deque(maxlen=2 * TREND + TREND_WINDOW))
            kept.append((each.events, each.negative))

    def of(self, product_id: str) -> list[float | None]:
        """Shares of the product, a mark for every other poll; None where it had no event."""
        kept = list(self._counts.get(product_id, ()))
        marks: list[float | None] = []
        for end in range(len(kept) - 1, 0, -2):
            start = max(0, end - TREND_WINDOW)
            events, negatives = (kept[end][n] - kept[start][n] for n in (0, 1))
            marks.append(negatives / events if events else None)
        return marks[:TREND][::-1]


def sparkline(shares: Sequence[float | None]) -> str:
    """Shares in [0, 1] as blocks.

    >>> sparkline([0.0, 0.5, None, 1.0])
    '▁▄ █'
    """
    return "".join(" " if share is None else BLOCKS[1 + round(share * 7 - 1e-9)] for share in shares)


def bar(share: float, width: int = BAR) -> str:
    """A share in [0, 1] as a bar.

    >>> bar(0.5, 4), bar(0.28125, 4)
    ('██  ', '█▏  ')
    """
    full, eighth = divmod(round(share * width * 8), 8)
    return ("█" * full + (EIGHTHS[eighth] if eighth else "")).ljust(width)


def render(snapshot: Snapshot, width: int) -> RenderableType:
    """The live screen.

    Args:
        snapshot: what to show.
        width: columns of the terminal.
    """
    return Group(
        _headline(snapshot, width),
        _numbers(snapshot),
        _leaders(snapshot, width),
        _alerts(snapshot, width),
    )


def _headline(snapshot: Snapshot, width: int) -> RenderableType:
    text, colour = STAGES[snapshot.stage]
    sentence = snapshot.note or text.format(bad=snapshot.name(snapshot.bad_product))
    clock = (
        f"{_clock(min(snapshot.elapsed_s, snapshot.duration_s))} / {_clock(snapshot.duration_s)}"
        if snapshot.elapsed_s
        else ""
    )
    line = Table.grid(expand=True)
    line.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(Text.assemble((" reviewpulse ", "bold reverse"), " ", (printable(sentence), colour)), clock)
    filled = round(snapshot.progress * width)
    return Group(line, Text.assemble(("━" * filled, colour), ("─" * (width - filled), "dim")))


def _numbers(snapshot: Snapshot) -> RenderableType:
    worker = snapshot.worker
    figures = [
        ("sent", f"{snapshot.sent:,}"),
        ("events/s", f"{worker.events_per_s:,.0f}" if worker else "–"),
        ("lag", f"{snapshot.lag:,}"),
        ("latency p50", _ms(worker.latency_p50_ms if worker else None)),
        ("p99", _ms(worker.latency_p99_ms if worker else None)),
        ("runs on", printable(worker.provider.removesuffix("ExecutionProvider")) if worker else "–"),
        ("model", shortened(worker.model_version, 24) if worker else "–"),
    ]
    table = Table.grid(expand=True, padding=(0, 1))
    for _ in figures:
        table.add_column(no_wrap=True, overflow="ellipsis")
    table.add_row(*(Text(name, "dim") for name, _ in figures))
    table.add_row(*(Text(value, "bold") for _, value in figures))
    return table


def _leaders(snapshot: Snapshot, width: int) -> RenderableType:
    firing = {alert.product_id for alert in latest(snapshot.alerts) if alert.state == "firing"}
    table = Table(box=None, expand=True, padding=(0, 1), header_style="dim")
    table.add_column("product", ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column("events", justify="right", no_wrap=True)
    table.add_column("negative", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True, width=BAR)
    if width >= WIDE:
        table.add_column("trend", no_wrap=True, width=TREND)
    for each in snapshot.leaders[:LEADERS_SHOWN]:
        share = each.negative_share or 0.0
        colour = "bold red" if each.product_id in firing else "yellow" if share >= 0.3 else "default"
        cells = [
            Text(snapshot.name(each.product_id), colour),
            Text(f"{each.events:,}"),
            Text(f"{share:.0%}", colour),
            Text(bar(share), "red" if each.product_id in firing else "yellow"),
        ]
        if width >= WIDE:
            cells.append(Text(sparkline(snapshot.trends.get(each.product_id, ())), colour))
        table.add_row(*cells)
    for _ in range(LEADERS_SHOWN - len(snapshot.leaders[:LEADERS_SHOWN])):
        table.add_row("")
    return Panel(
        table,
        title=LEADERS_TITLE,
        title_align="left",
        subtitle=Text(f"live page: {snapshot.page}", "default") if snapshot.page else None,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style="dim",
    )


def _alerts(snapshot: Snapshot, width: int) -> RenderableType:
    now = latest(snapshot.alerts)
    lines = [
        line
        for place, alert in enumerate(now[:ALERTS_SHOWN])
        for line in _alert_lines(snapshot, alert, width - 4, QUOTES_SHOWN if place == 0 else 1)
    ]
    if len(now) > ALERTS_SHOWN:
        lines.append(Text(f"and {len(now) - ALERTS_SHOWN} more", "dim"))
    most = ALERTS_SHOWN * 2 + QUOTES_SHOWN + 1
    if not lines:
        lines.append(Text("none", "dim"))
    lines += [Text("")] * (most - len(lines))
    colour = "red" if any(alert.state == "firing" for alert in now) else "dim"
    return Panel(Group(*lines), title="alerts", title_align="left", box=box.ROUNDED, border_style=colour)


def _alert_lines(snapshot: Snapshot, alert: Alert, width: int, quotes: int) -> list[Text]:
    firing = alert.state == "firing"
    headline = Text.assemble(
        (" FIRING " if firing else " RESOLVED ", "bold white on red" if firing else "bold white on green"),
        " ",
        (f"{snapshot.name(alert.product_id)}", "bold"),
        f", {alert.channel}: {alert.current_share:.0%} negative, usually {alert.baseline_share:.0%}",
    )
    headline.truncate(width, overflow="ellipsis")
    fact = (
        f"{alert.at[11:19]} UTC, {alert.negatives} of {alert.events} since {alert.onset[11:19]}, "
        f"{alert.severity}, by {alert.distinct_authors} customers"
        if firing
        else f"{alert.at[11:19]} UTC, {alert.duration_s:.0f} s after it began; peak {alert.peak_share:.0%}"
    )
    said = [
        Text(f"  “{shortened(quote.text, width - 4)}”", "italic") for quote in alert.quotes[:quotes] if firing
    ]
    return [headline, Text(f"  {shortened(fact, width - 2)}", "dim"), *said]


def latest(alerts: Sequence[Alert]) -> list[Alert]:
    """The present state of each alert: those that fire first, then the newest."""
    present = {alert.id: alert for alert in alerts}
    newest = sorted(present.values(), key=lambda alert: alert.at, reverse=True)
    return sorted(newest, key=lambda alert: alert.state != "firing")


class Photographer:
    """A screen before another one, that keeps the moment worth a picture: well into the incident.

    Attributes:
        best: the last moment of the incident at which an alert fired; the last moment, where none did.
    """

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self.best: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Passes it on."""
        if snapshot.stage == "incident" or self.best is None or self.best.stage != "incident":
            self.best = snapshot
        self._screen.show(snapshot)

    def __enter__(self) -> Self:
        self._screen.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._screen.__exit__(kind, error, traceback)


SVG = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""Rich's own frame names a font on a server far away; this one takes what the reader has."""


def svg(draw: Callable[[int], RenderableType], width: int = 104) -> str:
    """A picture of a terminal.

    Args:
        draw: what is on it, given its columns.
        width: columns.
    """
    console = Console(
        record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(draw(width))
    return console.export_svg(title="reviewpulse demo", code_format=SVG, unique_id="demo")


def render_report(report: Report, names: Mapping[str, str]) -> RenderableType:
    """The reconciliation and the verdict."""
    table = Table(title="what became of every event", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("channel")
    for heading in ("sent", "counted", "dead", "skipped", "difference"):
        table.add_column(heading, justify="right")
    for each in report.channels:
        cells = (each.sent, each.counted, each.dead, each.skipped, each.difference)
        table.add_row(each.channel, *(f"{cell:,}" for cell in cells), style="" if each.agrees else "red")
    late = sum(each.late for each in report.channels)
    facts = Text(
        f"{report.products_exact} of {report.products} products' counters equal what was sent of them;"
        f" {late:,} of the events counted came late.\n"
        "Skipped are the agents' own chat lines. Dead letters, by reason:\n"
    )
    for reason, number in report.dead_letters.items():
        facts.append(f"  {number:>3}  {shortened(reason, 70)}\n")
    ended = {alert.id: alert for alert in report.alerts if alert.state == "resolved"}
    begun: dict[str, Alert] = {}
    for alert in report.alerts:
        if alert.state == "firing":
            begun.setdefault(alert.id, alert)  # a later one says that it got worse
    for alert in begun.values():
        facts.append(_alert_story(alert, ended.get(alert.id), names))
    verdict = (
        Text("Everything holds.", "bold green")
        if report.ok
        else Text("\n".join(f"Does not hold: {printable(each)}" for each in report.problems), "bold red")
    )
    return Group(table, facts, verdict)


def _alert_story(alert: Alert, end: Alert | None, names: Mapping[str, str]) -> str:
    name = printable(names.get(alert.product_id, alert.product_id))
    ending = f"resolved {end.duration_s:.0f} s after its onset" if end else "still firing"
    return (
        f"Alert: {name}, {alert.channel}: fired at {alert.negatives} negatives of {alert.events}, usually"
        f" {alert.baseline_share:.0%}; {ending}.\n"
    )


class Screen(Protocol):
    """Where a demo shows how it goes."""

    def show(self, snapshot: Snapshot) -> None:
        """Takes note of the moment."""
        ...

    def __enter__(self) -> Self:
        """Starts showing."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops showing."""
        ...


class LiveScreen:
    """The live view on a terminal."""

    EVERY_S = 0.2
    """Drawing costs milliseconds of a core that the worker could use."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._drawn: tuple[Stage, str] | None = None
        self._drawn_at = float("-inf")
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop")

    def show(self, snapshot: Snapshot) -> None:
        """Draws the moment, where it is news or the last one is old."""
        scene = (snapshot.stage, snapshot.note)
        if scene == self._drawn and time.monotonic() - self._drawn_at < self.EVERY_S:
            return
        self._drawn, self._drawn_at = scene, time.monotonic()
        self._live.update(render(snapshot, self._console.width), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()


class PlainScreen:
    """A line now and then, a line for each change of stage and each alert: for logs and CI."""

    EVERY_S = 5.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._said = ""
        self._said_at = float("-inf")
        self._alerts = 0
        self._page = ""

    def show(self, snapshot: Snapshot) -> None:
        """Prints what is new."""
        if snapshot.page != self._page:
            self._page = snapshot.page
            self._print(snapshot, f"the live page is at {snapshot.page}")
        text, _ = STAGES[snapshot.stage]
        sentence = snapshot.note or text.format(bad=snapshot.name(snapshot.bad_product))
        if sentence != self._said:
            self._said = sentence
            self._print(snapshot, printable(sentence))
        for alert in snapshot.alerts[self._alerts :]:
            turn = "critical" if alert.state == "firing" and alert.sequence > 1 else alert.state
            self._print(
                snapshot,
                f"{turn.upper()} {snapshot.name(alert.product_id)}, {alert.channel}:"
                f" {alert.current_share:.0%} negative, usually {alert.baseline_share:.0%}",
            )
            for quote in alert.quotes[:1] if alert.state == "firing" else ():
                self._print(snapshot, f"  “{shortened(quote.text, 100)}”")
        self._alerts = len(snapshot.alerts)
        if snapshot.worker and time.monotonic() - self._said_at >= self.EVERY_S:
            self._print(
                snapshot,
                f"sent {snapshot.sent:,}, lag {snapshot.lag:,}, {snapshot.worker.events_per_s:,.0f} events/s,"
                f" p50 {_ms(snapshot.worker.latency_p50_ms)}, p99 {_ms(snapshot.worker.latency_p99_ms)}",
            )

    def _print(self, snapshot: Snapshot, line: str) -> None:
        self._said_at = time.monotonic()
        clock = _clock(snapshot.elapsed_s) if snapshot.elapsed_s else "-:--"
        self._console.print(Text(f"{clock}  {line}"), soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _ms(latency_ms: float | None) -> str:
    return "–" if latency_ms is None else f"{latency_ms:,.0f} ms"
