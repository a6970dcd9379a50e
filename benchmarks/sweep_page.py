"""The map and the page of a large sweep: seconds, megabytes of the page, the memory it took.

python benchmarks/sweep_page.py [--runs 1000] [--epochs 100] [--seeds 1] [--out FOLDER]

One run is trained; the others have its rows, with the loss, gradient and cosine of their ELR's regime, written by the
project's own writer as ended runs. What is timed is what `scaleinv sweep` does once all have ended.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.lab.train import run
from scaleinv.report import write_report
from scaleinv.runfolder.environment import environment
from scaleinv.runfolder.files import read_json
from scaleinv.runfolder.read import Run, load_run
from scaleinv.runfolder.rows import Row
from scaleinv.runfolder.store import RunStore
from scaleinv.studies.sweep import SweepConfig, map_sweep, prepare_sweep

LIMITS = {"seconds": 30.0, "megabytes of the page": 3.0}


def curve(elr: float, epochs: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Loss, effective gradient and cosine by epoch, as they are at such an ELR."""
    noise = np.exp(rng.normal(0, 0.1, epochs.size))
    if elr < 3e-2:
        loss = 2.3 / (1 + epochs * (elr / 3e-2) ** 0.45) ** 2.6 * noise
        eg = 60 * loss**0.85
    elif elr < 1:
        level = 0.25 * (elr / 3e-2) ** 0.5
        loss, eg = (level + (2.3 - level) * np.exp(-epochs)) * noise, 20 / (elr / 3e-2) ** 0.35 * noise
    else:
        loss, eg = 3 + rng.normal(0, 0.2, epochs.size), 300 * elr**0.5 * noise
    error = np.full(epochs.size, 0.9) if elr >= 1 else 0.02 + 0.4 * (1 - np.exp(-loss))
    return {"loss": loss, "error": error, "eg": eg, "ess": elr * eg, "cosine": 1 / np.sqrt(1 + (elr * eg) ** 2)}


def rows_like(template: Run, elr: float, seed: int) -> list[Row]:
    """The rows of the trained run with the curves of another ELR."""
    rows: list[Row] = []
    for (split, group, quantity), series in template.metrics.items():
        rng = np.random.default_rng([seed, int(1e9 * elr)])
        name = quantity.removesuffix("_recomputed_bn")
        values = curve(elr, series.epochs.astype(float), rng).get(name, series.values)
        values = series.values if split == "reference" else np.full(values.size, elr) if quantity == "elr" else values
        rows += [Row(s, e, split, group, quantity, v) for s, e, v in zip(series.steps.tolist(), series.epochs, values)]
    return sorted(rows, key=lambda row: row.step)


def write_runs(count: int, seeds: int, epochs: int, out: Path) -> SweepConfig:
    settings = Settings(subset=256, model="mlp", width=8, epochs=epochs)
    data = load_data(settings)
    base = resolve(settings, data, elr=1.0, lr=None, seed=0, threads=1)
    rates = np.geomspace(1e-4, 10, count // seeds)
    sweep = SweepConfig(base, "elr", tuple(map(float, rates)), tuple(range(seeds)))
    if (out / "sweep-config.json").exists():
        return sweep
    prepare_sweep(sweep, data, out)
    run(base, data, out / "template")
    template, result = load_run(out / "template"), read_json(out / "template" / "result.json")
    origin = environment(1, "cpu")
    for config in sweep.runs():
        folder = out / "runs" / config.identity()
        with RunStore(folder, config.to_dict(), config.identity(), origin, present=lambda: True) as store:
            store.append(rows_like(template, float(config.elr or math.nan), config.seed))
            store.finish(config.steps, {}, {}, result)
    return sweep


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--out", type=Path, help="keep the sweep here, and use the one that is there")
    asked = parser.parse_args()
    with nullcontext(asked.out) if asked.out else tempfile.TemporaryDirectory() as root:
        out = Path(root) / "sweep"
        begin = time.perf_counter()
        sweep = write_runs(asked.runs, asked.seeds, asked.epochs, out)
        print(f"{len(sweep.runs())} runs of {asked.epochs} epochs written: {time.perf_counter() - begin:.1f} s")
        data = load_data(Settings(subset=256))
        begin = time.perf_counter()
        map_sweep(sweep, data, out, workers=1)
        mapped = time.perf_counter()
        page = write_report(out)
        ended = time.perf_counter()
        size = page.stat().st_size / 1e6
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        files = sum(1 for path in out.rglob("*"))
        print(f"sweep.json: {mapped - begin:.1f} s, {(out / 'sweep.json').stat().st_size / 1e6:.2f} MB")
        print(f"page: {ended - mapped:.1f} s, {size:.2f} MB")
        print(f"memory: {memory:.0f} MB; files and folders of the sweep: {files}")
    within = ended - begin < LIMITS["seconds"] and size < LIMITS["megabytes of the page"]
    print("within the limits" if within else f"beyond the limits: {LIMITS}")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
