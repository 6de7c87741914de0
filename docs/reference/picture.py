"""Draws the architecture as it is in the code: the rooms of docs/architecture.md's table and who imports whom.

Shells, which talk to the world, are on the left in the order of the flow; the pure core is on the right. A line is an
import. What a shell itself talks to (Kafka, Redis, ONNX Runtime) is read from its imports, too.
"""

# Tables and SVG stand here as they are written out.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
WORLD = {
    "Kafka": ("aiokafka", "kafka", "faust", "mode"),
    "Redis": ("redis", "stream.redis_config", "stream.redis_trip"),
    "ONNX Runtime": ("onnxruntime",),
    "HTTP": ("http", "aiohttp", "litestar", "uvicorn"),
}
COLOURS = {"Kafka": "#8250df", "Redis": "#cf222e", "ONNX Runtime": "#1a7f37", "HTTP": "#9a6700"}
BESIDE = ("web", "client", "deliver", "backtest", "digest", "cli", "demo", "bench")
WIDTH, BOX, ROW, TOP = 1180, 470, 54, 96
SHELLS_AT, CORE_AT = 24, WIDTH - 24 - BOX


class Room(NamedTuple):
    """One row of the table."""

    name: str
    job: str
    modules: frozenset[str]
    imports: frozenset[str]
    used: frozenset[str]
    """Of these, what runs: not what type checkers alone see."""

    @property
    def is_core(self) -> bool:
        """Whether it does no I/O."""
        return all(each.startswith("stream.core") for each in self.modules)


def rooms() -> list[Room]:
    """The rooms of the table, in its order."""
    table = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("| room | job |")[2]
    found, folder = [], ""
    for cell, job in re.findall(r"^\| (`[^|]+`) \| ([^|]+?) \|", table.partition("\n\n")[0], re.MULTILINE):
        files: list[Path] = []
        for name in re.findall(r"`([^`]+)`", cell):
            folder = (
                "stream/core/" if name.startswith("stream/core/") else "stream/" if "/" in name else folder
            )
            path = (
                name
                if name.startswith("stream/")
                else f"{'stream/' if name.startswith('core/') else folder}{name}"
            )
            files += [
                file
                for each in ROOT.glob(path.rstrip("/"))
                for file in (each.rglob("*.py") if each.is_dir() else [each])
            ]
        assert files, f"docs/architecture.md names {cell}, and there is no such file"
        shown = (
            " ".join(re.findall(r"`([^`]+)`", cell)).replace("stream/core/", "core/").replace("stream/", "")
        )
        found.append(Room(shown, job.replace("`", ""), *_read(files)))
    return found


def _read(files: list[Path]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    modules = {
        ".".join(each.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for each in files
    }
    trees = [ast.parse(file.read_text("utf-8")) for file in files]
    every = {name for tree in trees for name in _imports(tree)}
    for tree in trees:
        tree.body = [each for each in tree.body if not _is_for_types(each)]
    return frozenset(modules), frozenset(every), frozenset(name for tree in trees for name in _imports(tree))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def _is_for_types(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def talks_to(imports: frozenset[str]) -> list[str]:
    """What of the world a room's imports lead to."""
    return [
        name
        for name, packages in WORLD.items()
        if any(each == package or each.startswith(f"{package}.") for each in imports for package in packages)
    ]


def drawn() -> str:
    """The picture, as SVG."""
    all_rooms = rooms()
    shells = [each for each in all_rooms if not each.is_core]
    core = [each for each in all_rooms if each.is_core]
    height = TOP + ROW * max(len(shells), len(core)) + 150
    at = {each.name: TOP + ROW * n for column in (shells, core) for n, each in enumerate(column)}
    lines = [
        _line(at[shell.name], at[other.name])
        for shell in shells
        for other in core
        if shell.imports & other.modules
    ]
    boxes = [_box(each, SHELLS_AT, at[each.name]) for each in shells]
    boxes += [_box(each, CORE_AT, at[each.name]) for each in core]
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' font-family="system-ui, sans-serif" role="img" aria-labelledby="title">',
        '<title id="title">The rooms of a worker: shells that talk to Kafka, Redis and ONNX Runtime on the left,'
        " the pure core on the right, a line for each import between them</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(SHELLS_AT, 40, "Shells: they talk to the world", 18, "#1f2328", bold=True),
        _text(SHELLS_AT, 66, "in the order of the flow; coloured marks say to what", 13, "#59636e"),
        _text(CORE_AT, 40, "Core: no I/O, no clock", 18, "#1f2328", bold=True),
        _text(CORE_AT, 66, "a line is an import; the core imports no shell", 13, "#59636e"),
        *lines,
        *boxes,
        *_beside(height - 118),
        "</svg>",
        "",
    ])  # fmt: skip


def _line(from_y: int, to_y: int) -> str:
    x, end, middle = SHELLS_AT + BOX, CORE_AT, (SHELLS_AT + BOX + CORE_AT) / 2
    start_y, end_y = from_y + 21, to_y + 21
    path = f"M{x} {start_y} C{middle:g} {start_y} {middle:g} {end_y} {end} {end_y}"
    return f'<path d="{path}" fill="none" stroke="#8c959f" stroke-width="1.2"/>'


def _box(room: Room, x: int, y: int) -> str:
    fill = "#ddf4ff" if room.is_core else "#f6f8fa"
    marks, end = [], x + BOX - 10
    for name in reversed(talks_to(room.used)):
        end -= 7 * len(name) + 14
        marks.append(_text(end, y + 16, name, 11, COLOURS[name], bold=True))
    name = room.name if end - x > 8 * len(room.name) + 20 else room.name.rsplit(" ", 1)[0] + " …"
    job = room.job if len(room.job) <= 72 else room.job[:71].rsplit(" ", 1)[0] + " …"
    return (
        f'<rect x="{x}" y="{y}" width="{BOX}" height="42" rx="6" fill="{fill}" stroke="#d1d9e0"/>'
        + _text(x + 10, y + 17, name, 13, "#1f2328", bold=True)
        + _text(x + 10, y + 34, job, 12, "#59636e")
        + "".join(marks)
    )


def _beside(y: int) -> list[str]:
    """The rooms beside the worker, with what each talks to."""
    parts = [_text(SHELLS_AT, y, "Beside the worker, on the same core", 15, "#1f2328", bold=True)]
    width = (WIDTH - 48) // len(BESIDE)
    for n, name in enumerate(BESIDE):
        _, _, used = _read(list((ROOT / "stream" / name).rglob("*.py")))
        x = SHELLS_AT + n * width
        parts.append(
            f'<rect x="{x}" y="{y + 14}" width="{width - 8}" height="74" rx="6" fill="#f6f8fa" stroke="#d1d9e0"/>'
        )
        parts.append(_text(x + 10, y + 34, f"{name}/", 13, "#1f2328", bold=True))
        parts += [
            _text(x + 10, y + 50 + 14 * m, each, 11, COLOURS[each])
            for m, each in enumerate(talks_to(used)[:3])
        ]
    return parts


def _text(x: float, y: float, text: str, size: int, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}"{weight}>{escape(text)}</text>'
