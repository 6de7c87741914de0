"""Writes the reference and the picture of the architecture from the code: ``python docs/reference/make.py``.

A test holds them up to date (``tests/unit/test_made_docs.py``); ``make docs`` runs this.
"""

# Tables and SVG stand here as they are written out.
# ruff: noqa: E501, ISC004

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stream import errors, settings, settings_check
from stream.cli.main import command_line
from stream.core import events
from stream.core.events import json_schemas

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "reference"
MADE = "\n<!-- Made from the code by docs/reference/make.py; change it there. -->\n"


def written() -> dict[Path, str]:
    """Every file that is made, as it must be."""
    sys.path.insert(0, str(Path(__file__).parent))
    import picture  # noqa: PLC0415 (beside this file, which is no package)

    return {
        FOLDER / "commands.md": commands(),
        FOLDER / "settings.md": all_settings(),
        FOLDER / "errors.md": all_errors(),
        FOLDER / "schemas.md": schemas(),
        ROOT / "docs" / "architecture.svg": picture.drawn(),
    }


# Commands


def commands() -> str:
    """Every command with its arguments and options, as ``--help`` has them."""
    root = typer.main.get_command(command_line())
    told = list(_commands("reviewpulse", root))
    index = ", ".join(
        f"[`{name.removeprefix('reviewpulse ')}`](#{name.replace(' ', '-')})" for name, _ in told
    )
    parts = [f"# Commands\n{MADE}\n{index}\n"]
    parts += [f"## {name}\n\n{text}\n" for name, text in told]
    return "\n".join(parts)


def _commands(name: str, command: Any) -> Iterator[tuple[str, str]]:
    below = getattr(command, "commands", None)
    if name != "reviewpulse" and (not below or command.params):
        yield name, _told(name, command)
    for each, sub in sorted((below or {}).items()):
        yield from _commands(f"{name} {each}", sub)


def _told(name: str, command: Any) -> str:
    arguments = [each for each in command.params if each.param_type_name == "argument"]
    options = [each for each in command.params if each.param_type_name == "option" and not _is_help(each)]
    usage = " ".join([name, *(_argument(each) for each in arguments), *(["[OPTIONS]"] if options else [])])
    text = inspect.cleandoc(command.help or "").replace("\f", "")
    parts = [f"    {usage}", "", text]
    if command.params:
        parts += ["", "| | | |", "|---|---|---|"]
        parts += [_row(each, required=each.required) for each in [*arguments, *options]]
    return "\n".join(parts)


def _is_help(option: Any) -> bool:
    return "--help" in option.opts


def _argument(argument: Any) -> str:
    shown = (argument.metavar or argument.name.upper()) + ("..." if argument.nargs == -1 else "")
    return shown if argument.required else f"[{shown}]"


def _row(parameter: Any, *, required: bool) -> str:
    is_argument = parameter.param_type_name == "argument"
    names = _argument(parameter) if is_argument else ", ".join([*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    has_default = not required and default not in (None, False, "", ()) and not callable(default)
    value = f"`{default}`" if has_default else "required" if required and not is_argument else ""
    meaning = " ".join((parameter.help or "").split()).replace("|", "\\|")
    return f"| `{names}` | {value} | {meaning} |"


# Settings


def all_settings() -> str:
    """The table of settings, with what each may be."""
    rows = ["| variable | default | may be | meaning |", "|---|---|---|---|"]
    for name, field in settings.Settings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        if name == "bundle":
            default = "the shipped one"
        kind = "a secret" if "SecretStr" in str(field.annotation) else settings_check.wanted(name, field)
        rows.append(f"| `{settings_check.variable(name)}` | {default} | {kind} | {field.description} |")
    text = (settings.__doc__ or "").partition("Rules:\n")[2].replace("``", "`").strip()
    about = (
        "`reviewpulse config show` prints them as they are now, with their sources and secrets masked;"
        " `reviewpulse config check` says all that is wrong or odd at once, without asking a server;"
        " `reviewpulse doctor` asks the servers, too.\n"
    )
    return f"# Settings\n{MADE}\n{text}\n\n{about}\n" + "\n".join(rows) + "\n"


# Errors


EXIT_CODES = {
    0: "It went well.",
    1: "It did its work and found something wrong: a bad line, a failed check, a gate that was missed.",
    2: "Wrong usage: an option, a setting, a file. All that is wrong is named; nothing was done.",
    3: "A server or a device failed: Kafka, Redis, CUDA, a disk. The same command may work later.",
    4: "A worker was stuck and ended itself; its supervisor is to start it again.",
    130: "Interrupted by Ctrl-C.",
}


def all_errors() -> str:
    """Exit codes, and the tree of errors."""
    codes = "\n".join(f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items())
    kinds = [each for each in vars(errors).values() if isinstance(each, type)]
    rows = [
        f"| {'&nbsp;&nbsp;' * (len(each.__mro__) - 4)}`{each.__name__}` | {each.exit_code} |"
        f" {' '.join(inspect.cleandoc(each.__doc__ or '').replace('``', '`').split())} |"
        for each in kinds
        if issubclass(each, errors.ReviewpulseError)
    ]
    stages = {
        "decode": "it is no event: not JSON, a field missing or wrong, too large, too far ahead of its time",
        "score": "the model fails on its text, alone",
        "worker": "it killed workers: found by their deaths",
    }
    dead = "\n".join(f"| `{stage}` | {why} |" for stage, why in stages.items())
    return (
        f"# Errors and exit codes\n{MADE}\n"
        "An error is one sentence on standard error: what is wrong, where, what to do. A traceback is a mistake of ours.\n\n"
        f"| exit code | means |\n|---|---|\n{codes}\n\n"
        "In Python (`stream.errors`; the clients raise the same):\n\n"
        "| class | exit code | whose fault it is |\n|---|---|---|\n" + "\n".join(rows) + "\n\n"
        'Over HTTP an error is `{"error": "one sentence"}` with a status: 4xx the caller\'s, 503 a server\'s that is'
        " away, 500 ours ([http-api.md](../http-api.md)).\n\n"
        "An event that cannot be counted becomes a dead letter with a stage and a reason (`reviewpulse dlq list`):\n\n"
        f"| stage | why |\n|---|---|\n{dead}\n"
    )


# Schemas


def schemas() -> str:
    """What stands on each topic, field by field."""
    parts = [
        f"# What is on the topics\n{MADE}\n"
        "Values are JSON. The schemas themselves, for programs: [stream/schemas](../../stream/schemas). Unknown"
        " fields are ignored. A field that may be left out has a default.\n"
    ]
    said = _said()
    for topic, schema in json_schemas().items():
        parts.append(f"## `{topic}`\n")
        main = schema["$ref"].rpartition("/")[2]
        for name in [main, *(each for each in schema["$defs"] if each != main)]:
            stated = schema["$defs"][name]
            about = " ".join(stated.get("description", "").replace("``", "`").split())
            parts.append(f"{'' if name == main else f'### {name}' + chr(10) * 2}{about}\n")
            parts.append("| field | type | default | |\n|---|---|---|---|")
            required = set(stated.get("required", ()))
            for field, of in stated["properties"].items():
                default = "" if field in required else f"`{json.dumps(of.get('default'))}`"
                meaning = said.get((name, field), "")
                parts.append(f"| `{field}` | {_type(of)} | {default} | {meaning} |")
            parts.append("")
    return "\n".join(parts)


def _type(of: dict[str, Any]) -> str:
    if "anyOf" in of:
        return " or ".join(_type(each) for each in of["anyOf"])
    if "$ref" in of:
        return of["$ref"].rpartition("/")[2]
    if "enum" in of:
        return ", ".join(f"`{json.dumps(each)}`" for each in of["enum"])
    if "prefixItems" in of:
        return f"[{', '.join(_type(each) for each in of['prefixItems'])}]"
    if of.get("type") == "array":
        return f"list of {_type(of['items'])}"
    limits = [
        f"{word} {of[key]:,}"
        for key, word in (
            ("minLength", "at least"),
            ("maxLength", "at most"),
            ("minimum", "from"),
            ("maximum", "to"),
        )
        if key in of
    ]
    kind = of.get("format", of.get("type", "anything"))
    return f"{kind} ({', '.join(limits)})" if limits else kind


def _said() -> dict[tuple[str, str], str]:
    """The docstrings of fields, which only the source has."""
    found = {}
    for module in ("events", "phrases", "summary"):
        source = (Path(events.__file__).parent / f"{module}.py").read_text("utf-8")
        for each in ast.parse(source).body:
            if isinstance(each, ast.ClassDef):
                for field, after in zip(each.body, each.body[1:], strict=False):
                    if (
                        isinstance(field, ast.AnnAssign)
                        and isinstance(field.target, ast.Name)
                        and isinstance(after, ast.Expr)
                        and isinstance(after.value, ast.Constant)
                    ):
                        text = " ".join(str(after.value.value).replace("``", "`").split())
                        found[each.name, field.target.id] = re.sub(r"\|", r"\\|", text)
    return found


def main() -> None:
    """Writes what has changed."""
    for path, text in written().items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
            print(textwrap.shorten(str(path.relative_to(ROOT)), 100))


if __name__ == "__main__":
    main()
