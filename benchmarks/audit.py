"""Ask for the known holes of the versions in constraints.txt, and say what could not be asked.

    python benchmarks/audit.py

pip-audit asks pypi.org about each version. Exit status 0: all were asked, none has a known hole. 1: holes, a line each.
3: not all could be asked, and those that were have none; a line says how many, and why.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ASK = ("--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off", "-r", "constraints.txt")
UNKNOWN = 3


def judge(dependencies: Sequence[Mapping[str, Any]]) -> tuple[int, list[str]]:
    """Give the exit status and the lines for what pip-audit found of each version."""
    lines = [
        f"{one['name']} {one['version']}: {hole['id']}, mended in {', '.join(hole['fix_versions']) or 'no version yet'}"
        for one in dependencies
        for hole in one.get("vulns", ())
    ]
    unasked = [one for one in dependencies if "skip_reason" in one]
    asked = len(dependencies) - len(unasked)
    known = f"{len(lines)} known holes" if lines else "no known hole"
    lines.append(f"audit: {asked} of {len(dependencies)} versions were asked about, {known}")
    if unasked:
        names = ", ".join(one["name"] for one in unasked[:3]) + (", ..." if len(unasked) > 3 else "")
        why = str(unasked[0]["skip_reason"]).partition(":")[0]
        lines.append(f"audit: nothing is known of the other {len(unasked)} ({names}): {why}")
    return (1 if len(lines) > 1 + bool(unasked) else UNKNOWN if unasked else 0), lines


def main() -> int:
    """Ask, and print what there is to say."""
    try:
        asked = subprocess.run(
            [sys.executable, "-m", "pip_audit", *ASK], cwd=ROOT, capture_output=True, text=True, timeout=600
        )
        code, lines = judge(json.loads(asked.stdout)["dependencies"])
    except subprocess.TimeoutExpired:
        code, lines = UNKNOWN, ["audit: nothing was asked: pip-audit did not end within ten minutes"]
    except (ValueError, LookupError):  # no network, no pip-audit
        last = asked.stderr.strip().splitlines()[-1:] or ["pip-audit said nothing"]
        code, lines = UNKNOWN, [f"audit: nothing was asked: {last[0][:200]}"]
    print("\n".join(lines))
    return code


if __name__ == "__main__":
    sys.exit(main())
