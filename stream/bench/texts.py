"""Made texts with the length spread of chats and reviews, where no real ones are at hand.

Rules:
- A fixed seed: the same texts each time. Whoever reports figures on them says that they are made.
"""

from __future__ import annotations

import random

WORDS = (  # noqa: SIM905 - a sentence is read as one
    "the battery died after two days and support never answered but sound is great screen broke I love it "
    "refund waste of money excellent quality not what was shown in pictures arrived late would buy again"
).split()


def synthetic(count: int) -> list[str]:
    """Made texts: half of a dozen words, half log-normal around 85 with a tail to 600."""
    chance = random.Random(7)
    lengths = [
        max(2, round(chance.gauss(12, 5)))
        if number % 2
        else min(600, max(5, round(chance.lognormvariate(4.45, 0.9))))
        for number in range(count)
    ]
    return [" ".join(chance.choices(WORDS, k=length)) for length in lengths]
