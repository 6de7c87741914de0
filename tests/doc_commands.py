"""The commands in the docs: found, taken apart, and held against what there is.

Rules:
- A block is what stands between three backticks and ``sh``, or between plain ones where its first line is a
  command of ours.
- A command of ours must exist, with every option that is written, values that its choices allow, and no more
  arguments than it takes. ``make`` targets, modules behind ``python -m`` and scripts must exist.
- Programs of others are known by name; one that is not on the list is asked about, not passed over.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
import typing
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from stream.cli.main import command_line

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
OURS = re.compile(r"(?:\$ )?(?:reviewpulse |make |python -m (?:tests|stream|pytest)|docker compose )")
_OTHERS = """
    ! . [ accelerate awk base64 bash cat cd chmod cosign cp curl date diff do docker done echo
    export fi for gh git grep gunzip head helm if jq kafka-acls.sh kafka-configs kafka-configs.sh
    kafka-console-consumer.sh kafka-console-producer.sh kafka-consumer-groups.sh
    kafka-delete-records.sh kafka-reassign-partitions.sh kafka-topics.sh kcat kill kubectl kustomize
    ln ls mkdir mv npm nvidia-smi openssl pip podman printf promtool python3 redis-cli rm sed set sh
    sleep sort source sudo syft systemctl tail tar tee test then touch trap true unset until
    valkey-cli wait watch wc while xargs
"""
OTHERS = frozenset(_OTHERS.split())
SHELLS = {"sh", "bash", "shell", "console"}
KEYWORDS = {"do", "then", "until", "while", "if", "!", "else", "time", "exec", "sudo", "done", "fi"}


class Block(NamedTuple):
    """A block of commands."""

    page: str
    """From the project's folder."""
    line: int
    text: str


def pages() -> list[Path]:
    """README and every page of the docs and of ``deploy``."""
    found = [
        ROOT / "README.md",
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "deploy").rglob("*.md")),
    ]
    return [each for each in found if each.is_file()]


def blocks(page: Path) -> list[Block]:
    """The blocks of a page."""
    found = []
    text = page.read_text("utf-8")
    for each in re.finditer(r"^```([a-z]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        if each[1] in SHELLS or (not each[1] and OURS.match(each[2])):
            line = text.count("\n", 0, each.start()) + 2
            found.append(Block(str(page.relative_to(ROOT)), line, each[2]))
    return found


def complaints(text: str) -> list[str]:
    """What is wrong with a block's commands."""
    return [wrong for words in commands(text) for wrong in _wrong(words)]


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell text, each as its words, without redirections and assignments."""
    text = re.sub(r"<<-?'?(\w+)'?(.*)\n(.*\n)*?\1$", r"\2", text, flags=re.MULTILINE)  # here documents
    text = re.sub(r"\\\n", " ", text)
    for line in _whole_lines(text):
        for inner in re.findall(r"\$\(([^()]*)\)", line):
            yield from commands(inner)
        lexer = shlex.shlex(re.sub(r"\$\([^()]*\)", "X", line), posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        yield from _simple(list(lexer))


def _whole_lines(text: str) -> Iterator[str]:
    """Lines, those within one quotation together."""
    waiting = ""
    for line in text.splitlines():
        waiting += f"\n{line}" if waiting else line
        try:
            shlex.split(waiting, comments=True)
        except ValueError:
            continue
        yield waiting.removeprefix("$ ")
        waiting = ""
    assert not waiting, f"a quotation that does not end: {waiting}"


def _simple(words: list[str]) -> Iterator[list[str]]:
    current: list[str] = []
    redirected = False
    for word in words:
        if set(word) <= set("();|&"):
            yield from [_bare(current)] if _bare(current) else []
            current = []
        elif set(word) <= set("<>&"):
            redirected = True
            if current and current[-1].isdigit():
                current.pop()
        elif redirected:
            redirected = False
        else:
            current.append(word)
    yield from [_bare(current)] if _bare(current) else []


def _bare(words: list[str]) -> list[str]:
    """Without what stands before the command's name."""
    while words and (words[0] in KEYWORDS or re.match(r"[A-Za-z_]\w*=", words[0])):
        words = words[1:]
    return [] if words[:1] == ["for"] else words


def _wrong(words: list[str]) -> list[str]:  # noqa: PLR0911 (a case each)
    name = words[0]
    if name == "reviewpulse":
        return _wrong_here(words[1:])
    if words[:4] == ["python", "-m", "stream.cli.main", *words[3:4]]:
        return _wrong_here(words[3:])
    if name == "make":
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return [f"make has no {each}" for each in words[1:] if "=" not in each and each not in targets]
    if name == "python" and words[1:2] == ["-m"]:
        if words[2] in {"pip", "venv", "pytest", "http.server"} or importlib.util.find_spec(words[2]):
            return []
        return [f"there is no module {words[2]}"]
    if name == "python":
        script = words[1] if len(words) > 1 else ""
        return [] if script in {"-c", "-", ""} or (ROOT / script).is_file() else [f"there is no {script}"]
    if name.startswith(("./", "deploy/", "docs/", ".ci/")):
        return [] if (ROOT / name).is_file() else [f"there is no {name}"]
    return [] if name in OTHERS else [f"{name} is no program that tests/doc_commands.py knows"]


def _wrong_here(words: list[str]) -> list[str]:
    """What is wrong with a command line of ours, behind its first word."""
    said = f"reviewpulse {shlex.join(words)}"
    command: Any = _root()
    path: list[str] = []
    while hasattr(command, "commands") and words:
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            if getattr(command, "invoke_without_command", False):
                break
            return [f"{said}: there is no command {' '.join([*path, words[0]])}"]
        command = command.commands[words[0]]
        path.append(words[0])
        words = words[1:]
    words = [each for each in words if each != "..."]
    context = command.context_class(command, info_name=" ".join(path), resilient_parsing=False)
    try:
        values, rest, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # noqa: BLE001  (typer's own copy of click is not to be imported)
        return [f"{said}: {getattr(error, 'message', error)}"]
    if rest and not hasattr(command, "commands"):
        return [f"{said}: too many arguments: {' '.join(rest)}"]
    hints = typing.get_type_hints(inspect.unwrap(command.callback)) if command.callback else {}
    return [
        f"{said}: {value} is none of {', '.join(choices)}"
        for name, hint in hints.items()
        if (choices := _choices(hint))
        for value in _listed(values.get(name))
        if value not in choices and not value.isupper()  # what a reader is to put in
    ]


def _choices(hint: Any) -> list[str]:
    """The values of a ``Literal``, or of one in a union."""
    if typing.get_origin(hint) is typing.Literal:
        return [str(each) for each in typing.get_args(hint)]
    return [choice for each in typing.get_args(hint) for choice in _choices(each)]


def _listed(value: Any) -> list[str]:
    return [each for each in (value if isinstance(value, list | tuple) else [value]) if isinstance(each, str)]


@cache
def _root() -> Any:
    return typer.main.get_command(command_line())
