"""Curves and reliability as SVG that stands in a page: its text is text, its colours are the page's.

Rules:
- Matplotlib draws with stand-in colours, which are replaced by the page's CSS variables, so that one drawing
  suits a light and a dark page.
- Lines differ in their dashes as well as in their colours.
- Nothing of a data set but numbers and label names is drawn.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.curves import Points
    from models.evaluate import Evaluation

INK, MUTED, FIRST, SECOND, THIRD = "#010101", "#020202", "#030303", "#040404", "#050505"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
}
LINES = ((FIRST, "-"), (SECOND, (0, (5, 2))), (THIRD, (0, (1.5, 1.5))))

WIDTH, HEIGHT = 4.4, 3.9
"""Inches, with 10 point text: as wide as a phone, where it is drawn at about its own size."""

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "reviewpulse",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": MUTED,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


def roc(evaluation: Evaluation) -> str:
    """ROC curves."""

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        for name, points, line in _lines(evaluation, "roc"):
            axes.plot(*zip(*points, strict=True), **line, label=name)
        axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="lower right")

    return _svg("roc", draw)


def precision_recall(evaluation: Evaluation) -> str:
    """Precision-recall curves."""

    def draw(axes: Any) -> None:
        for name, points, line in _lines(evaluation, "precision_recall"):
            axes.plot(*zip(*points, strict=True), **line, label=name)
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
        axes.legend(loc="lower left")

    return _svg("precision-recall", draw)


def reliability(evaluation: Evaluation) -> str:
    """How often the model was right, by how sure it was, with the share of rows beneath."""
    bins = evaluation.reliability

    def draw(axes: Any) -> None:
        lowest = min(1 / len(evaluation.model.labels), *(each.low for each in bins))
        axes.plot([lowest, 1], [lowest, 1], color=MUTED, linewidth=1, linestyle=":")
        below = [max(0.0, each.accuracy - each.interval[0]) for each in bins]
        above = [max(0.0, each.interval[1] - each.accuracy) for each in bins]
        axes.errorbar(
            [each.confidence for each in bins],
            [each.accuracy for each in bins],
            yerr=[below, above],
            fmt="o-",
            color=FIRST,
            markersize=4,
            linewidth=1.5,
            capsize=2,
            label="accuracy, 95% interval",
        )
        axes.bar(
            [each.low for each in bins],
            [each.rows / evaluation.set.rows for each in bins],
            width=[each.high - each.low for each in bins],
            align="edge",
            color=MUTED,
            alpha=0.3,
            label="share of the texts",
        )
        axes.set(xlabel="confidence", xlim=(lowest, 1), ylim=(0, 1.02))
        axes.legend(loc="upper left")

    return _svg("reliability", draw)


def _lines(evaluation: Evaluation, which: str) -> list[tuple[str, Points, dict[str, Any]]]:
    """Name, points and style of each line: two labels are one question, three are three."""
    found: list[tuple[str, Points, dict[str, Any]]] = []
    for each in evaluation.curves[-1:] if len(evaluation.model.labels) == 2 else evaluation.curves:
        color, dashes = LINES[len(found)]
        name = "model" if len(evaluation.model.labels) == 2 else each.label
        found.append((name, getattr(each, which), {"color": color, "linestyle": dashes, "linewidth": 1.8}))
    baseline = evaluation.baseline
    if baseline and len(evaluation.model.labels) == 2 and baseline.curves:
        color, dashes = LINES[1]
        style = {"color": color, "linestyle": dashes, "linewidth": 1.4}
        found.append(("baseline", getattr(baseline.curves[-1], which), style))
    return found


def _svg(name: str, draw: Callable[[Any], None]) -> str:
    """A drawing as an ``svg`` element, its ids apart from other drawings' in the page."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'^<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true">', svg)
    svg = re.sub(r'(\bid="|url\(#|xlink:href="#)', rf"\g<1>{name}-", svg).replace("xlink:href", "href")
    for stand_in, variable in VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return svg
