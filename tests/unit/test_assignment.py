"""What the consumer does when Faust gives it partitions."""

from __future__ import annotations

from builders import REVIEWS

from stream.errors import DependencyError
from stream.transport import Consumer


async def test_an_assignment_while_redis_fails_over_waits_for_it() -> None:
    consumer = object.__new__(Consumer)
    answers = [DependencyError("Redis at redis://h: failing over"), {REVIEWS: 7}]

    async def seek(tps: object) -> object:
        assert tps == {REVIEWS}
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    consumer.assignment = lambda: {REVIEWS}  # type: ignore[method-assign]
    consumer._seek_to_sink = seek  # type: ignore[method-assign,assignment]
    assert await consumer.seek_to_committed() == {REVIEWS: 7}
    assert answers == []
