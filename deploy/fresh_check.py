#!/usr/bin/env python3
"""Runs the README's commands as they are printed, on what is nearest to a fresh machine: ``make fresh``.

Rules:
- The commands are read out of README.md's own blocks and typed into an interactive bash on a terminal of
  its own, Ctrl-C included. A command that this file does not know ends the check: it is to be taught.
- The shell has an empty HOME, an empty folder for temporary files and an environment made from nothing but
  what says how to reach a package registry. The checkout is a ``git clone`` of HEAD: what is not committed
  is not there.
- All else of the file system is read-only meanwhile, in a mount namespace (``unshare``), so what writes
  elsewhere fails. Where that is not allowed, the last line says that it was not looked at.
- Every process begun carries a mark in its environment; one that still runs at the end is a failure.
- Nothing but the standard library: a fresh machine has no more.

Exit codes: 0 all as the README says, 1 something was not, 2 it cannot be tried here.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pty
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen
from uuid import uuid4

ROOT = Path(__file__).resolve().parents[1]
MARK = "FRESH_CHECK"
INSIDE = "FRESH_CHECK_INSIDE"
PRODUCT = "B00004TZTZ"
"""The README's own."""
PRAISED, BLAMED = 30, 30
"""Reviews of it that `ingest` gets: too few for an alert at the default budget."""
ENDS_S = 900.0
"""Longest a command may take: installing downloads some 400 MB."""
STAYS_S = 120.0
"""Longest one that stays may take until it says what it should."""
SILENT_S = 10.0
"""How long one that has nothing to say is left alone: it has begun by then."""
AGAIN_S = 2.0
"""Between two tries of a command that reads what a worker is still counting."""
LEFT_S = 10.0
KEPT = re.compile(r"PIP_.*|UV_.*|.*_proxy|.*_PROXY|SSL_CERT_.*|REQUESTS_CA_BUNDLE|LANG|LC_.*|TZ")
"""Variables the shell keeps: how to reach a registry, and the language."""
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[=>])|\r")


class Known(NamedTuple):
    """What a command of the README is expected to do.

    Attributes:
        says: what it prints, a regular expression; ``None`` for nothing in particular.
        how: ``ends`` by itself with code 0; ``again``, likewise, but may be asked until it says so;
            ``stays`` until Ctrl-C; ``background``, for a line that ends with ``&``.
        then: a line typed after it, to see what it did, and what that prints.
    """

    says: str | None
    how: str = "ends"
    then: tuple[str, str] | None = None


KNOWN = {
    "make demo": Known("Everything holds"),
    "make test": Known(r"\d+ passed"),
    "pip install": Known(r"Successfully installed .*reviewpulse"),
    "reviewpulse local": Known(None, "background"),
    "until": Known(None, then=('echo "kafka=$REVIEWPULSE_KAFKA"', r"kafka=127\.0\.0\.1:\d+")),
    "sleep": Known(None, then=('echo "kafka=$REVIEWPULSE_KAFKA"', r"kafka=127\.0\.0\.1:\d+")),
    "reviewpulse worker": Known(None, "background"),
    "reviewpulse ingest": Known(rf"\b{PRAISED + BLAMED}\b"),
    "reviewpulse top": Known(PRODUCT, "again"),
    "reviewpulse counters": Known(rf"\ball(?:\s+[\d,]+){{3}}\s+{PRAISED + BLAMED}\b", "again"),
    "reviewpulse alerts --follow": Known(None, "stays"),  # transitions from now on: none comes
    "reviewpulse web": Known(r"The page is at (http://\S+)", "stays"),
}


class FreshError(Exception):
    """The README does not hold; the sentence says where."""


def commands(readme: str, heading: str) -> list[str]:
    r"""The lines of the first shell block under a heading, without their comments.

    >>> commands("## Two\nOn Linux:\n```sh\nmake demo    # all of it\n\nmake test\n```\n", "Two")
    ['make demo', 'make test']
    """
    block = re.search(rf"^## {re.escape(heading)}\n.*?^```sh\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
    if block is None:
        raise FreshError(f"README.md has no shell block under '## {heading}'.")
    lines = (re.sub(r"\s+#\s.*", "", line).strip() for line in block[1].splitlines())
    return [line for line in lines if line]


def known(command: str) -> Known:
    """What is expected of a command, by the longest beginning that is known.

    Raises:
        FreshError: it is not known.
    """
    beginnings = [each for each in KNOWN if re.match(rf"{re.escape(each)}\b", command)]
    if not beginnings:
        raise FreshError(f"README.md has a command that this check does not know: {command}. Teach it KNOWN.")
    return KNOWN[max(beginnings, key=len)]


def reviews(now: datetime) -> str:
    """JSON lines as the README describes them: a product that people like, until its battery fails them.

    Real sentences, each one another; the times lie in the last day.
    """
    liked = ("Works as described and the screen is bright.", "My son loves it, great value for the price.")
    failed = ("The battery died after two days.", "It no longer charges. I want my money back.")
    lines = []
    for number in range(PRAISED + BLAMED):
        bad = number >= PRAISED
        ago = timedelta(minutes=BLAMED + PRAISED - number) if bad else timedelta(minutes=1300 - 40 * number)
        lines.append(
            json.dumps(
                {
                    "event_id": f"fresh-{number}",
                    "product_id": PRODUCT,
                    "text": f"{(failed if bad else liked)[number % 2]} Order {number}.",
                    "event_time": (now - ago).isoformat(),
                }
            )
        )
    return "\n".join(lines) + "\n"


class Terminal:
    """An interactive bash on a pseudo-terminal.

    Args:
        folder: where it begins.
        environment: all it knows.
        log: takes everything it shows.
    """

    def __init__(self, folder: Path, environment: dict[str, str], log: Path) -> None:
        self._master, slave = pty.openpty()
        # What is typed is not to be shown again: it would be taken for output. Ctrl-C stays what it is.
        modes = termios.tcgetattr(slave)
        modes[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, modes)
        self._shell = subprocess.Popen(
            ["setsid", "--ctty", "bash", "--norc", "--noprofile", "--noediting", "-i"],
            cwd=folder,
            env=environment | {"PS1": "", "PS2": "", "TERM": "dumb", "COLUMNS": "200"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)
        self._log = log.open("ab")
        self.shown = ""
        self._number = 0
        self.run("stty -echo cols 200; unset HISTFILE")

    def send(self, text: str) -> None:
        """Types."""
        os.write(self._master, text.encode())

    def start(self, command: str) -> None:
        """Types a command and its Enter; what was shown before is forgotten."""
        self.shown = ""
        self._number += 1
        self.send(command + "\n")

    def run(self, command: str, longest_s: float = ENDS_S) -> int:
        """Types a command, waits until it ends and returns its exit code."""
        self.start(command)
        return self.code(longest_s)

    def code(self, longest_s: float) -> int:
        """The exit code of what runs, once it has ended."""
        self.send(f"printf '\\n@%s:%s@\\n' {self._number} $?\n")
        return int(self.wait(rf"@{self._number}:(\d+)@", longest_s)[1])

    def wait(self, pattern: str, longest_s: float) -> re.Match[str]:
        """Waits until something is shown.

        Raises:
            FreshError: it is not, or the shell ended.
        """
        deadline = time.monotonic() + longest_s
        while (found := re.search(pattern, self.shown)) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise FreshError(f"it did not show {pattern!r} within {longest_s:.0f} s")
            if not select.select([self._master], [], [], left)[0]:
                continue
            try:
                read = os.read(self._master, 65536)
            except OSError:  # how Linux says that the other end is closed
                read = b""
            if not read:
                raise FreshError("the shell ended")
            self._log.write(read)
            self._log.flush()
            self.shown += ESCAPES.sub("", read.decode("utf-8", "replace"))
        return found

    def interrupt(self) -> None:
        """Presses Ctrl-C, once a command has the terminal: bash names a job before it hands it over."""
        deadline = time.monotonic() + LEFT_S
        while os.tcgetpgrp(self._master) == self._shell.pid:
            if time.monotonic() > deadline:
                raise FreshError("nothing runs that Ctrl-C could end")
            time.sleep(0.05)
        self.send("\x03")

    def close(self) -> None:
        """Ends the shell; jobs of its that run yet are told to hang up."""
        with contextlib.suppress(OSError):
            self.send("exit\nexit\n")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._shell.wait(5)
        os.close(self._master)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._shell.wait(5)
        self._log.close()


class Check:
    """One run.

    Args:
        scratch: an empty folder; all that is written is below it.
        options: the command line's.
    """

    def __init__(self, scratch: Path, options: argparse.Namespace) -> None:
        self._options = options
        self._checkout = scratch / "checkout"
        self._log = scratch / "terminal.log"
        self._opened = scratch / "opened"
        self.mark = uuid4().hex
        for name in ("home", "tmp"):
            (scratch / name).mkdir()
        browser = scratch / "browser"
        browser.write_text(f'#!/bin/sh\necho "$1" >> {shlex.quote(str(self._opened))}\n', "utf-8")
        browser.chmod(0o755)
        python = Path(sys.base_prefix) / "bin"
        self._environment = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)} | {
            "HOME": str(scratch / "home"),
            "TMPDIR": str(scratch / "tmp"),
            "PATH": f"{python}:/usr/local/bin:/usr/bin:/bin",
            "BROWSER": str(browser),
            MARK: self.mark,
        }

    def run(self) -> None:
        """All of it, in the README's order.

        Raises:
            FreshError: something is not as the README says.
        """
        clone = ["git", "clone", "--quiet", str(ROOT), str(self._checkout)]
        with told("git clone"):
            subprocess.run(clone, check=True, env=self._environment)
        readme = (self._checkout / "README.md").read_text("utf-8")
        blocks = [commands(readme, heading) for heading in ("Two commands", "Try it piece by piece")]
        for each in (line for block in blocks for line in block):
            known(each)  # before anything is installed
        self._two_commands(blocks[0])
        self._piece_by_piece(blocks[1])
        self._nothing_is_left()

    def _two_commands(self, lines: list[str]) -> None:
        bounds = {
            "DEMO_ARGS": f"--headless --duration {self._options.demo_s}",
            "PYTEST_ARGS": self._options.tests or "",
        }
        terminal = Terminal(self._checkout, self._environment | bounds, self._log)
        try:
            for line in lines:
                if line.startswith("make demo") and self._options.no_demo:
                    say("not run", line, None, "as --no-demo says")
                elif line.startswith("make test") and self._options.tests is None:
                    say("not run", line, None, "some 25 minutes; --tests ARGS runs it with these PYTEST_ARGS")
                else:
                    self._type(terminal, line)
        finally:
            terminal.close()

    def _piece_by_piece(self, lines: list[str]) -> None:
        terminal = Terminal(self._checkout, self._environment, self._log)
        try:
            self._ends(terminal, "python3 -m venv fresh-venv && . fresh-venv/bin/activate", Known(None))
            (self._checkout / "events.jsonl").write_text(reviews(datetime.now(UTC)), "utf-8")
            background = [line for line in lines if self._type(terminal, line).how == "background"]
            for number in range(len(background), 0, -1):
                with told(f"fg %{number}, Ctrl-C    ({background[number - 1]})"):
                    terminal.start(f"fg %{number}")
                    terminal.wait("reviewpulse", STAYS_S)  # bash shows the command it brings back
                    self._interrupt(terminal, {0})
        finally:
            terminal.close()

    def _type(self, terminal: Terminal, line: str) -> Known:
        expected = known(line)
        {"ends": self._ends, "again": self._again, "stays": self._stays, "background": self._ends}[
            expected.how
        ](terminal, line, expected)
        return expected

    def _ends(self, terminal: Terminal, line: str, expected: Known) -> None:
        with told(line):
            code = terminal.run(line)
            if code:
                raise FreshError(f"it ended with {code}:\n{tail(terminal.shown)}")
            if expected.says and not re.search(expected.says, terminal.shown):
                raise FreshError(f"it did not print {expected.says!r}:\n{tail(terminal.shown)}")
            if expected.then:
                command, says = expected.then
                terminal.run(command)
                if not re.search(says, terminal.shown):
                    raise FreshError(f"afterwards `{command}` did not print {says!r}")

    def _again(self, terminal: Terminal, line: str, expected: Known) -> None:
        deadline = time.monotonic() + STAYS_S
        with told(line) as noted:
            for tries in range(1, 1000):
                code = terminal.run(line)
                if code == 0 and re.search(expected.says or "", terminal.shown):
                    noted.append(f"try {tries}: the worker was starting" if tries > 1 else "")
                    return
                if code or time.monotonic() > deadline:
                    raise FreshError(f"it ended with {code} and printed\n{tail(terminal.shown)}")
                time.sleep(AGAIN_S)

    def _stays(self, terminal: Terminal, line: str, expected: Known) -> None:
        with told(f"{line}, Ctrl-C") as noted:
            terminal.start(line)
            found = terminal.wait(expected.says, STAYS_S) if expected.says else None
            if found is None:
                time.sleep(SILENT_S)
                noted.append(f"{SILENT_S:g} s without an event to tell")
            elif "--open" in line:
                self._look_at(found[1])
                noted.append("page and API answer, the browser was sent there")
            self._interrupt(terminal, {0, 130})

    def _look_at(self, address: str) -> None:
        for path, holds in (("", "<html"), (f"api/v1/counters?product_id={PRODUCT}", PRODUCT)):
            try:
                with urlopen(f"{address}{path}", timeout=30) as answer:  # noqa: S310 - of the page just started
                    found = answer.read().decode()
            except OSError as error:
                raise FreshError(f"{address}{path}: {error}") from error
            if holds not in found:
                raise FreshError(f"{address}{path} does not hold {holds}")
        deadline = time.monotonic() + LEFT_S
        while not (self._opened.exists() and address in self._opened.read_text("utf-8")):
            if time.monotonic() > deadline:
                raise FreshError("no browser was sent there")
            time.sleep(0.1)

    def _interrupt(self, terminal: Terminal, codes: set[int]) -> None:
        terminal.interrupt()
        code = terminal.code(STAYS_S)
        if code not in codes:
            raise FreshError(f"after Ctrl-C it ended with {code}:\n{tail(terminal.shown)}")

    def _nothing_is_left(self) -> None:
        with told("nothing is left running"):
            deadline = time.monotonic() + LEFT_S
            while left := running(self.mark):
                if time.monotonic() > deadline:
                    raise FreshError(f"still there: {'; '.join(left.values())}")
                time.sleep(0.2)


def running(mark: str) -> dict[int, str]:
    """Command lines, by process id, of the processes that carry the mark."""
    found = {}
    for each in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if each.name.isdigit() and f"{MARK}={mark}".encode() in (each / "environ").read_bytes():
                found[int(each.name)] = (each / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    return found


@contextlib.contextmanager
def told(what: str):  # noqa: ANN201 - no typing beyond the standard library's at run time
    """Prints a line when what is inside has ended: how it went, what it was, how long it took."""
    noted: list[str] = []
    started = time.monotonic()
    try:
        yield noted
    except FreshError as error:
        say("WRONG", what, time.monotonic() - started, "")
        raise FreshError(f"{what}: {error}") from error
    say("ok", what, time.monotonic() - started, "; ".join(filter(None, noted)))


def say(how: str, what: str, seconds: float | None, note: str) -> None:
    """One line."""
    took = "" if seconds is None else f"{seconds:7.1f} s"
    print(f"{how:8}{took:>10}  {what}{f'    [{note}]' if note else ''}", flush=True)


def tail(shown: str) -> str:
    """The end of what was shown, indented."""
    return "\n".join(f"    {line}" for line in shown.strip().splitlines()[-25:])


def confined(scratch: Path) -> list[str] | None:
    """What to put before a command so that it writes below ``scratch`` alone; None where that cannot be."""
    if shutil.which("unshare") is None:
        return None
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,ro / && exec "$@"'
    prefix = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, str(scratch)]
    writes = subprocess.run(
        [*prefix, "touch", str(scratch / "probe")], capture_output=True, check=False
    ).returncode
    outside = subprocess.run(
        [*prefix, "touch", str(ROOT / ".fresh-probe")], capture_output=True, check=False
    ).returncode
    return prefix if writes == 0 and outside != 0 else None


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Runs the README's commands as printed, from nothing.")
    parser.add_argument(
        "--demo-s", type=int, default=30, help="seconds of `make demo` (default 30, its least)"
    )
    parser.add_argument("--no-demo", action="store_true", help="leaves `make demo` out")
    parser.add_argument("--tests", metavar="ARGS", help="runs `make test`, too, with these PYTEST_ARGS")
    parser.add_argument("--keep", action="store_true", help="keeps the folder, with all that was shown")
    options = parser.parse_args()
    for tool in ("git", "bash", "make", "setsid"):
        if shutil.which(tool) is None:
            print(f"fresh-check: there is no {tool} here; install it.", file=sys.stderr)
            return 2
    if inside := os.environ.pop(INSIDE, None):
        return checked(Path(inside), options)
    scratch = Path(tempfile.mkdtemp(prefix="reviewpulse-fresh-"))
    try:
        prefix = confined(scratch)
        command = [*(prefix or []), sys.executable, str(Path(__file__).resolve()), *sys.argv[1:]]
        code = subprocess.run(command, check=False, env=os.environ | {INSIDE: str(scratch)}).returncode
        if prefix:
            say("ok", "nothing is written elsewhere", None, "the rest of the file system was read-only")
        else:
            say("not run", "nothing is written elsewhere", None, "mount namespaces are not allowed here")
        return code
    finally:
        if options.keep:
            print(f"All that was shown: {scratch / 'terminal.log'}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def checked(scratch: Path, options: argparse.Namespace) -> int:
    """Runs the check below ``scratch``; its exit code."""
    check = Check(scratch, options)
    try:
        check.run()
    except FreshError as error:
        print(f"fresh-check: {error}", file=sys.stderr)
        return 1
    finally:
        for pid in running(check.mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)
    return 0


if __name__ == "__main__":
    sys.exit(main())
