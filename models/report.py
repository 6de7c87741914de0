"""An evaluation as one HTML file that needs no network.

Rules:
- Texts and names are hostile: everything but our own drawings is escaped, and what could reorder or hide
  text (control characters, direction overrides) is written out.
- No script, and a policy in the page that forbids any.
- The same evaluation gives the same bytes.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import plots

if TYPE_CHECKING:
    from models.evaluate import Evaluation

TEMPLATE = "report.html.j2"

OVERALL = (
    ("accuracy", "Accuracy", "share of texts whose likeliest label is the true one"),
    ("macro_f1", "Macro F1", "mean of the labels' F1, so that a rare label weighs as much"),
    ("mcc", "MCC", "correlation of said and true labels; 0 is chance"),
    ("roc_auc", "ROC AUC", "how often a text of a label scores above one of another"),
    ("average_precision", "Average precision", "area under the precision-recall curve"),
    ("ece", "Calibration error", "mean gap of confidence and accuracy (ECE, 15 bins); 0 is best"),
    ("log_loss", "Log loss", "in nats; 0 is best"),
    ("decided", "Decided", "share of texts outside the neutral band"),
    ("decided_accuracy", "Accuracy where decided", "among those"),
)
BY_LABEL = (
    ("precision", "Precision"),
    ("recall", "Recall"),
    ("f1", "F1"),
    ("roc_auc", "ROC AUC"),
    ("average_precision", "Average precision"),
)


def visible(text: str) -> str:
    r"""A text with what a reader would not see, or would be misled by, written out.

    >>> visible("good\x00 \u202etxt\n👍")
    'good\\x00 \\u202etxt\n👍'
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if (unicodedata.category(char) == "Cc" and char not in "\n\t")
        or unicodedata.bidirectional(char) in _DIRECTION
        else char
        for char in text
    )


_DIRECTION = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


def html(evaluation: Evaluation) -> str:
    """The page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    environment.filters["percent"] = _percent
    drawings: dict[str, Any] = {"reliability": plots.reliability(evaluation)}
    if evaluation.curves:
        drawings |= {"roc": plots.roc(evaluation), "precision_recall": plots.precision_recall(evaluation)}
    return environment.get_template(TEMPLATE).render(
        evaluation=evaluation,
        baseline=evaluation.baseline,
        overall=[each for each in OVERALL if each[0] in evaluation.figures],
        by_label=BY_LABEL,
        drawings={name: Markup(svg) for name, svg in drawings.items()},  # noqa: S704  # our own, of numbers
        largest=max(max(row) for row in evaluation.confusion) or 1,
        least=min([0.5, *(each.interval[0] for each in evaluation.slices)]),
    )


def write_html(evaluation: Evaluation, file: Path) -> None:
    """Writes the page at ``file``."""
    file.write_text(html(evaluation), encoding="utf-8")


def _percent(share: float) -> str:
    """For the size of a bar; a style takes no other characters."""
    return f"{100 * share:.2f}%"
