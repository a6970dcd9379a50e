"""Run every benchmark of this folder, one after another; each prints its figures and its goal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    here = Path(__file__).parent
    no_speed = ("_", "run.py", "mutate", "kernels.py", "room.py")
    names = [p for p in sorted(here.glob("*.py")) if not p.name.startswith(no_speed)]
    failed = []
    for path in names:
        print(f"== {path.stem}", flush=True)
        if subprocess.run([sys.executable, str(path)], check=False).returncode:
            failed.append(path.stem)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
