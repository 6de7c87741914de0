"""Known vulnerabilities in what constraints.txt pins: ``make audit``.

Rules:
- pip-audit asks an advisory service. What that did not answer for was not audited, and this says so and
  fails: pip-audit itself passes over what the service does not know, which is everything where a mirror
  stands before it.
- Nothing is installed or resolved: the pinned versions are asked about as they are.

Exit codes: 0 all were asked about and none is known to be vulnerable; 1 some are; 3 not all could be asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
TIMEOUT_S = 600
SHOWN = 10


def judge(dependencies: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """Exit code and lines for what pip-audit's JSON says.

    >>> judge([{"name": "a", "version": "1", "vulns": []}])
    (0, ['1 package audited, none is known to be vulnerable.'])
    >>> judge([{"name": "a", "skip_reason": "not found"}])[0]
    3
    """
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    vulnerable = [each for each in dependencies if each.get("vulns")]
    lines = [
        f"{each['name']} {each['version']}: {vuln['id']}; fixed in {', '.join(vuln['fix_versions']) or '-'}"
        for each in vulnerable
        for vuln in each["vulns"]
    ]
    if skipped:
        named = ", ".join(skipped[:SHOWN]) + (", ..." if len(skipped) > SHOWN else "")
        lines.append(
            f"NOT AUDITED: the advisory service does not know, or was not reached for, {len(skipped)} of"
            f" {len(dependencies)} packages ({named}). Run this where https://pypi.org can be reached."
        )
    if not dependencies:
        lines.append("NOT AUDITED: pip-audit named no package.")
    if vulnerable:
        return 1, lines
    if skipped or not dependencies:
        return 3, lines
    count = f"{len(dependencies)} package{'' if len(dependencies) == 1 else 's'}"
    return 0, [*lines, f"{count} audited, none is known to be vulnerable."]


def main() -> int:
    """Runs pip-audit and judges what it says."""
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(CONSTRAINTS)]
    command += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"NOT AUDITED: the advisory service did not answer within {TIMEOUT_S} s.")
        return 3
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        print(f"NOT AUDITED: pip-audit could not ask the advisory service: {last[0]}")
        return 3
    code, lines = judge(found)
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
