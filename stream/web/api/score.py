"""Scores texts with the bundle in use: ``POST /api/v1/score``."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import post

from stream.core.events import MAX_TEXT_CHARS
from stream.web.scoring import ScoreView  # noqa: TC001  # Litestar reads the annotations
from stream.web.shared import Shared  # noqa: TC001
from stream.web.tokens import needs

MOST_TEXTS = 64
LARGEST_BYTES = 2_000_000


class Texts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be scored."""

    texts: Annotated[
        list[Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]],
        msgspec.Meta(min_length=1, max_length=MOST_TEXTS),
    ]


class Scores(msgspec.Struct, frozen=True):
    """In the order of the texts."""

    scores: list[ScoreView]


@post(
    "/api/v1/score",
    guards=[needs("read")],
    tags=["scores"],
    summary="Scores texts",
    status_code=200,
    request_max_body_size=LARGEST_BYTES,
)
async def score(shared: Shared, data: Texts) -> Scores:
    """Label, probabilities and sentiment. The model is loaded with the first request; nothing is counted."""
    return Scores(await shared.scoring.score(data.texts))


HANDLERS = [score]
