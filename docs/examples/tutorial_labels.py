"""Labelled reviews to train on: a toy set of 128 sentences, so that the tutorial takes a minute.

``python docs/examples/tutorial_labels.py > labelled.csv``. A real set has thousands.
"""

from __future__ import annotations

import csv
import itertools
import random
import sys

THINGS = ("kettle", "lamp", "toaster", "blender", "charger", "backpack", "mug", "chair")
GOOD = ("works perfectly", "is a joy to use", "arrived early and looks great", "is worth every penny",
        "is sturdy and well made", "makes me happy every day", "is excellent",
        "could not be better")  # fmt: skip
BAD = ("broke after a week", "is a waste of money", "arrived damaged", "never worked", "is terrible",
       "stopped working", "is the worst I ever bought", "fell apart at once")  # fmt: skip


def main() -> None:
    """Writes the file to standard output."""
    rows = [(f"The {thing} {said}.", "positive") for thing, said in itertools.product(THINGS, GOOD)]
    rows += [(f"The {thing} {said}.", "negative") for thing, said in itertools.product(THINGS, BAD)]
    rng = random.Random(1)
    rng.shuffle(rows)
    # One in ten pressed the wrong star: without mistakes a toy set would teach a model to be sure of all.
    other = {"positive": "negative", "negative": "positive"}
    rows = [(text, other[label] if rng.random() < 0.1 else label) for text, label in rows]
    written = csv.writer(sys.stdout)
    written.writerow(("text", "label"))
    written.writerows(rows)


if __name__ == "__main__":
    main()
