"""Speed of the toy simulator: against a plain numpy loop over runs, and against the memory traffic of its own arrays.

    python benchmarks/toy.py [--groups 5] [--elrs 64] [--seeds 16]

Interleaved rounds, medians of ratios. The plain loop does the bare step (F, gradient, projection) and keeps F only; the
simulator keeps everything it always keeps. "Traffic" is one read and write per step of every array that the inner loop
updates (x, y, four sums per group): in the simulator's own blocks, in one sweep over all replicas, and as many bytes
from main memory.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from scaleinv.theory.simulators import toy
from scaleinv.theory.simulators import toy_step as step


def plain_loop(alphas: np.ndarray, elr: float, x: np.ndarray, y: np.ndarray, steps: int) -> float:
    """One run as one would write it first: numpy over the groups, a Python loop over the steps."""
    total = 0.0
    for _ in range(steps):
        size = x * x + y * y
        total += float((alphas * x * x / size).sum())
        slope = 2 * alphas / size**2
        x, y = x - elr * slope * x * y * y, y + elr * slope * y * x * x
        norm = np.sqrt((x * x + y * y).sum())
        x, y = x / norm, y / norm
    return total / steps


def sweep_kernel() -> Any:
    """Read and write each array once per step, nothing else."""
    import numba

    @numba.njit(error_model="numpy")
    def sweep(arrays: Any, steps: int, factor: float) -> None:
        for _ in range(steps):
            for a in range(arrays.shape[0]):
                for i in range(arrays.shape[1]):
                    for r in range(arrays.shape[2]):
                        arrays[a, i, r] *= factor

    return sweep


def timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=5)
    parser.add_argument("--elrs", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    n, e, s = arguments.groups, arguments.elrs, arguments.seeds
    alphas = np.arange(1.0, n + 1)
    elrs = np.geomspace(0.3, 30, e) / alphas.sum()
    replicas, steps, few = e * s, 4000, 100
    x0, y0 = toy.start(n, [0])
    chosen = elrs[:: max(1, e // 8)]

    def plain() -> None:
        for elr in chosen:
            plain_loop(alphas, elr, x0[:, 0], y0[:, 0], few)

    def ours(threads: int, engine: str = "auto", count: int = steps) -> None:
        toy.simulate(alphas, elrs, count, seeds=s, every=count, threads=threads, engine=engine)

    sweep = sweep_kernel()
    blocks = [np.ones((6, n, min(step.BLOCK, replicas))) for _ in range(max(1, replicas // step.BLOCK))]
    whole = np.ones((6, n, replicas))
    large = np.ones((6, 10, 200_000))  # 96 MB: larger than any cache here

    def blocked_traffic() -> None:
        for block in blocks:
            sweep(block, steps, 1.0 + 1e-12)

    ours(1), ours(1, "numpy", 20), blocked_traffic(), sweep(large, 1, 1.0)  # compile
    rows: dict[str, list[float]] = {}
    for _ in range(arguments.rounds):
        # all in seconds per step of all replicas
        base = timed(plain) / few / len(chosen) * replicas
        one, two = timed(lambda: ours(1)) / steps, timed(lambda: ours(2)) / steps
        arrays = timed(lambda: ours(1, "numpy", 200)) / 200
        in_blocks = timed(blocked_traffic) / steps
        in_one = timed(lambda: sweep(whole, steps, 1.0 + 1e-12)) / steps
        from_memory = timed(lambda: sweep(large, 1, 1.0 + 1e-12)) * whole.size / large.size
        for name, value in (
            ("microseconds per step, one thread", one * 1e6),
            ("plain numpy loop over runs / ours, one thread", base / one),
            ("plain numpy loop over runs / ours, two threads", base / two),
            ("plain numpy loop over runs / ours without numba", base / arrays),
            ("ours / traffic of its arrays, in its blocks", one / in_blocks),
            ("ours / traffic of its arrays, in one sweep", one / in_one),
            ("ours / the same bytes from main memory", one / from_memory),
            ("nanoseconds per group and step", one / n / replicas * 1e9),
            ("minutes for a million steps, two threads", two * 1e6 / 60),
        ):
            rows.setdefault(name, []).append(value)
    print(f"{e} ELRs x {s} seeds, {n} groups; {arguments.rounds} interleaved rounds, median (least to largest)")
    for name, values in rows.items():
        print(f"{name:<50} {statistics.median(values):8.3g}  ({min(values):.3g} to {max(values):.3g})")


if __name__ == "__main__":
    main()
