from __future__ import annotations

import numpy as np

from stream.scorer import isolate
from stream.scorer.constant import ConstantScorer


def test_every_text_gets_the_constant_and_its_label() -> None:
    scorer = ConstantScorer((0.7, 0.1, 0.2))
    texts = ["a", "b", "c"]
    result = isolate.score(scorer, texts, isolate.encode(scorer, texts), token_budget=2)
    assert np.array_equal(result.probabilities, np.array([[0.7, 0.1, 0.2]] * 3, np.float32))
    assert result.labels.tolist() == [0, 0, 0]
    assert result.failed == {}
