"""Valid inputs, made wrong in ways that a parser has to think about.

Rules:
- What is done is drawn from a ``Random``: hypothesis gives one that it can shrink, the long run a seeded one.
- Most mutations keep the input's form (JSON, lines of text, bytes with a header) so that they get past the
  first check; some do not.
- An input does not grow without bound: ``MOST_BYTES``, as a Kafka record or an HTTP body has one, too.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

MOST_BYTES = 70_000

HARD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e-320, 1e308, float("nan"),
    float("inf"), "", " ", "\0", "a\0b", "\ud800", "\u202e\x1b[31m", "٣", "ﷺ" * 40, "x" * 300, "é" * 21_000,
    [], {}, [None], {"": {}}, [[[[[[[[]]]]]]]], "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999+23:59",
    "0001-01-01T00:00:00-12:00", "2024-02-30T00:00:00Z", "2024-06-30T23:59:60Z", "../../../etc/passwd", "NaN",
    "1e400", "5m", "99999999999999d", "0s", "*" * 50, "(a+)+$", "http://[::1", "=1+1", "a" * 129,
)  # fmt: skip
HARD_BYTES = (
    b"", b"\0", b"\xff",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\n", b"\r\n", b'"', b"'", b'"""', b"\\", b"\\u",
    b"\\ud800", b"[", b"]", b"[[", b"{", b"}", b",", b":", b"=", b"#", b"NaN", b"-", b"1e999", b"9" * 5_000,
    b"[" * 20_000, b'{"a":' * 5_000, b"null", b"\x1f\x8b", b"\xdd\xff\xff\xff\xff", b"\xc1", b"\x91" * 5_000,
    b"\xdc\xff\xff", b"\x80", b"\x7f\xff\xff\xff", b"\x01", b"\x02", b"\x03", b"\xe2\x80\xae", b"\x1b[2J",
)  # fmt: skip


def mutated(example: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """One to four things done to ``example``.

    Args:
        example: a valid input, or one that was interesting.
        others: more of them, to take pieces of.
        rng: decides.
    """
    for _ in range(rng.randint(1, 4)):
        ways: tuple[Callable[[bytes, Sequence[bytes], Random], bytes], ...] = (
            (_json, _json, _json, _line, _bytes)
            if example.lstrip()[:1] in b"{[" and example
            else (_line, _bytes)
        )
        example = rng.choice(ways)(example, others, rng)[:MOST_BYTES]
    return example


def _json(example: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """A value exchanged, taken out, doubled or renamed, somewhere in the tree."""
    try:
        tree = json.loads(example)
    except (ValueError, RecursionError):
        return _bytes(example, others, rng)
    places = list(_places(tree))
    if not places:
        return json.dumps(rng.choice(HARD_VALUES)).encode()
    holder, key = rng.choice(places)
    way = rng.randint(0, 5)
    if way <= 2:
        holder[key] = rng.choice(HARD_VALUES)
    elif way == 3:
        del holder[key]
    elif way == 4:
        other, place = rng.choice(places)
        holder[key] = json.loads(json.dumps(other[place]))
    elif isinstance(holder, dict):
        holder[str(rng.choice(HARD_VALUES))] = holder.pop(key)
    else:
        holder.extend(holder * rng.randint(1, 30))
    return json.dumps(tree, ensure_ascii=bool(rng.randint(0, 1))).encode("utf-8", "surrogatepass")


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def _line(example: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """A line taken out, doubled, moved, taken of another example, or with another value behind its sign."""
    lines = example.split(b"\n")
    at = rng.randint(0, len(lines) - 1)
    way = rng.randint(0, 5)
    if way == 0:
        del lines[at]
    elif way == 1:
        lines[at:at] = [lines[at]] * rng.randint(1, 20)
    elif way == 2:
        lines.insert(rng.randint(0, len(lines) - 1), lines.pop(at))
    elif way == 3:
        lines[at] = rng.choice(rng.choice([*others, example]).split(b"\n"))
    else:
        for sign in (b"=", b",", b":"):
            head, found, _ = lines[at].partition(sign)
            if found:
                value = rng.choice(HARD_VALUES)
                written = json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")
                lines[at] = head + found + b" " + written
                break
    return b"\n".join(lines)


def _bytes(example: bytes, others: Sequence[bytes], rng: Random) -> bytes:
    """Bytes changed, put in, taken out, or another example's behind a place."""
    at = rng.randint(0, len(example))
    way = rng.randint(0, 4)
    if way == 0:
        return example[:at] + rng.choice(HARD_BYTES) + example[at:]
    if way == 1:
        return example[:at] + example[at + rng.randint(1, 8) :]
    if way == 2:
        return example[:at] + bytes([rng.randint(0, 255)]) + example[at + 1 :]
    if way == 3:
        return example[:at]
    other = rng.choice([*others, example])
    return example[:at] + other[rng.randint(0, len(other)) :]
