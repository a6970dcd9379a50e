"""`import scaleinv` beside `import torch`: seconds more, medians of interleaved processes. Goal: at most 0.15 s."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

ROUNDS = 7


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main() -> None:
    seconds("import torch")  # warm the file cache
    alone, both, used = [], [], []
    for _ in range(ROUNDS):
        alone.append(seconds("import torch"))
        both.append(seconds("import torch, scaleinv"))
        used.append(seconds("import torch, scaleinv; scaleinv.Sphere"))
    base = statistics.median(alone)
    extra = statistics.median([b - a for a, b in zip(alone, both)])
    first = statistics.median([b - a for a, b in zip(alone, used)])
    print(f"import torch {base:.2f} s; scaleinv {extra:+.3f} s (goal <= 0.15); scaleinv.Sphere used {first:+.3f} s")


if __name__ == "__main__":
    main()
