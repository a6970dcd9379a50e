"""Logs with known periods, and a per-step record on disk, for the tests of periods."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from scaleinv.theory.simulators import recursion


def breaking(
    steps: int, lr: float, wd: float, *, jump: float = 4.0, burst: int = 20, low: float = 1e-3, seed: int = 0
) -> dict[str, Any]:
    """Exact norm recursion: quiet (eg = low) until rho^2 falls to 1, then ``burst`` steps that make it ``jump``.

    The loss follows eg^2 with noise, and rises two steps before eg does.
    """
    rng = np.random.default_rng(seed)
    left = 0
    bursts = []

    def law(t: int, rho_sq: Any) -> Any:
        nonlocal left
        if left == 0 and rho_sq[0] <= 1.0:
            left = burst
            bursts.append(t)
        if left:
            left -= 1
            return rho_sq * np.sqrt((jump ** (1 / burst) - (1 - lr * wd) ** 2) / lr**2)
        return np.full(rho_sq.shape, low)

    path, eg = recursion.run(jump, lr, wd, law, steps, keep_eg=True)
    loss = 1e-4 * np.exp(rng.normal(0, 0.3, steps))
    for t in bursts:
        loss[max(0, t - 2) : t + burst] *= 1e4
        fall = np.arange(min(200, steps - t - burst))
        loss[t + burst : t + burst + len(fall)] *= 1e4 ** (1 - fall / 200)
    return {"loss": loss, "rho": np.sqrt(path[:-1, 0]), "eg": eg[:, 0], "lr": lr, "wd": wd, "bursts": bursts}


def columns(series: dict[str, Any]) -> dict[str, Any]:
    """What :func:`find_periods` takes of it."""
    return {name: value for name, value in series.items() if name != "bursts"}


def balanced(steps: int, lr: float, wd: float, *, spread: float = 0.5, seed: int = 0) -> dict[str, Any]:
    """An equilibrium: independent log-normal eg around the value that holds rho^2 at about 10."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, spread, steps)
    eg = 10 / np.sqrt(lr / (2 * wd)) * np.exp(noise)
    path = recursion.run(10.0, lr, wd, recursion.given(eg[:, None]), steps)
    return {"loss": 0.1 * np.exp(noise), "rho": np.sqrt(path[:-1, 0]), "eg": eg, "lr": lr, "wd": wd}


def write_run(folder: Path, parts: list[dict[str, Any]], **config: Any) -> Path:
    """A run folder with a per-step record in as many files as ``parts``."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from scaleinv.runfolder.layout import FORMAT

    (folder / "metrics").mkdir(parents=True)
    content = {"format": FORMAT, "config": {"lr": 0.1, "weight_decay": 0.01, **config}, "identity": "x"}
    (folder / "config.json").write_text(json.dumps(content))
    for k, part in enumerate(parts):
        table = pa.table({name: np.asarray(column, np.float32) for name, column in part.items()})
        pq.write_table(table, folder / "metrics" / f"steps-{k:06d}.parquet")
    return folder


def record(series: dict[str, Any]) -> dict[str, Any]:
    """The columns of a record of two groups whose squares sum to the series'."""
    rho_sq, g_sq = series["rho"] ** 2, (series["eg"] / series["rho"]) ** 2
    lr, wd = series["lr"], series["wd"]
    angle = np.arctan(lr * series["eg"] / ((1 - lr * wd) * rho_sq))
    return {
        "loss": series["loss"],
        "lr": np.full(len(rho_sq), lr),
        "total:angle": angle,
        "a:rho_sq": 0.25 * rho_sq,
        "a:g": np.sqrt(0.5 * g_sq),
        "a:angle": angle,
        "b.weight:rho_sq": 0.75 * rho_sq,
        "b.weight:g": np.sqrt(0.5 * g_sq),
        "b.weight:angle": angle,
    }
