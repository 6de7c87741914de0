"""Three months of a shop's reviews as its own CSV, with columns called as the shop calls them.

``python docs/examples/tutorial_history.py > shop.csv``. In the third month the blender begins to leak.
"""

from __future__ import annotations

import csv
import random
import sys
from datetime import UTC, datetime, timedelta

PRODUCTS = ("blender", "toaster", "scale", "whisk")
GOOD = ("Does what it should.", "Very pleased with it.", "Good quality for the price.", "A fine present.")
POOR = ("Arrived scratched.", "Louder than I thought.", "The manual is useless.")
LEAKS = ("It leaks all over the table.", "Leaking after a week, very disappointed.", "Leaks. Sent it back.")
FIRST = datetime(2024, 1, 1, tzinfo=UTC)


def main() -> None:
    """Writes the file to standard output."""
    rng = random.Random(7)
    written = csv.writer(sys.stdout)
    written.writerow(("sku", "posted", "stars", "body", "customer"))
    for day in range(90):
        for product in PRODUCTS:
            for number in range(rng.randint(0, 2) + (product == "blender" and 60 <= day < 75)):
                leaks = product == "blender" and 60 <= day < 75 and rng.random() < 0.8
                poor = not leaks and rng.random() < 0.1
                stars = 1 if leaks else 2 if poor else rng.choice((4, 5))
                text = rng.choice(LEAKS if leaks else POOR if poor else GOOD)
                moment = FIRST + timedelta(days=day, hours=8 + number, minutes=rng.randint(0, 59))
                written.writerow((product, moment.isoformat(), stars, text, f"c{rng.randint(1, 5_000)}"))


if __name__ == "__main__":
    main()
