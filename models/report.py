"""An evaluation as one HTML file that needs no network.

Rules:
- Texts and names are hostile: ``stream.pages`` escapes everything but our own drawings.
- No script, and a policy in the page that forbids any.
- The same evaluation gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import plots
from stream.pages import template

if TYPE_CHECKING:
    from models.evaluate import Evaluation

TEMPLATE = Path(__file__).parent / "report.html.j2"

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


def html(evaluation: Evaluation) -> str:
    """The page."""
    from markupsafe import Markup

    drawings: dict[str, Any] = {"reliability": plots.reliability(evaluation)}
    if evaluation.curves:
        drawings |= {"roc": plots.roc(evaluation), "precision_recall": plots.precision_recall(evaluation)}
    return template(TEMPLATE).render(
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
