"""Synthetic folders of runs in the whole space with weight decay, in the documented form (docs/architecture.md)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

GROUPS = ("conv1", "conv2")
PER_EPOCH = 50


def saw(steps: int, length: int, product: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Loss, rho and eg that break down every ``length`` steps: the norm falls by weight decay and jumps back within 20
    steps; the loss leads it by some.
    """
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    phase = t % length
    fall = 2 * product * (phase - 20).clip(0)
    rise = 2 * product * (length - 20) * (1 - np.minimum(phase, 20) / 20)
    rho_sq = 40 * np.exp(-fall - rise * (t >= length))
    high = ((phase < 40) | (phase >= length - 6)) & (t >= length - 6)
    loss = np.where(high, 1.0, 1e-2) * np.exp(0.1 * rng.standard_normal(steps))
    eg = np.where(high, 50.0, 1.0) * np.exp(0.1 * rng.standard_normal(steps))
    return {"loss": loss, "rho": np.sqrt(rho_sq), "eg": eg}


def write_run(
    folder: Path,
    series: dict[str, Any],
    lr: float,
    wd: float,
    *,
    config: dict[str, Any] | None = None,
    status: str | None = "finished",
    per_epoch: int = PER_EPOCH,
) -> Path:
    """A run folder with the per-step record of ``series`` (loss, rho, eg) and epoch means in the metrics."""
    loss, rho, eg = (np.asarray(series[name], dtype=np.float64) for name in ("loss", "rho", "eg"))
    steps, angle = len(loss), np.arctan(lr * eg / rho**2)
    metrics = folder / "metrics"
    metrics.mkdir(parents=True)
    settings = {
        "data": "digits",
        "model": "convnet",
        "variant": "si",
        "width": 8,
        "batch_size": 16,
        "elr": None,
        "lr": lr,
        "weight_decay": wd,
        "optimizer": "sgd",
        "momentum": 0.0,
        "fix_norm": False,
        "steps": steps,
        "seed": 0,
        "record_steps": True,
        **(config or {}),
    }
    environment = {"scaleinv": "0.1.0", "argv": ["scaleinv", "train", "--lr", str(lr), "--weight-decay", str(wd)]}
    head = {"format": 3, "config": settings, "identity": folder.name, "environment": environment}
    (folder / "config.json").write_text(json.dumps(head))
    shares = np.sqrt([0.25, 0.75])
    columns = {"loss": loss, "lr": np.full(steps, lr), "total:angle": angle}
    for name, share in zip(GROUPS, shares):
        columns |= {f"{name}:rho_sq": (share * rho) ** 2, f"{name}:g": share * eg / rho, f"{name}:angle": angle}
    table = pa.table({name: np.asarray(column, dtype=np.float32) for name, column in columns.items()})
    pq.write_table(table, metrics / "steps-final.parquet")
    means = {"loss": loss, "rho": rho, "g": eg / rho, "eg": eg, "elr": lr / rho**2, "ess": lr * eg / rho**2}
    rows = []
    for epoch in range(1, steps // per_epoch + 1):
        part = slice((epoch - 1) * per_epoch, epoch * per_epoch)
        at = (epoch * per_epoch, epoch)
        rows += [(*at, "online", "total", name, float(values[part].mean())) for name, values in means.items()]
        rows += [(*at, "online", "total", "error", float(min(0.9, loss[part].mean())))]
        rows += [(*at, "online", "total", "cosine", float(np.cos(angle[part]).mean()))]
        rows += [(*at, "online", "total", "angle", float(angle[part].mean()))]
        for name, share in zip(GROUPS, shares):
            own = {"rho": share * rho, "elr": lr / (share * rho) ** 2, "eg": share**2 * eg, "angle": angle}
            rows += [(*at, "online", name, q, float(values[part].mean())) for q, values in own.items()]
        if epoch % 2 == 0:
            rows += [(*at, "test", "total", "loss", 0.5), (*at, "test", "total", "error", 0.1 + 0.5 / epoch)]
    names = ("step", "epoch", "split", "group", "quantity", "value")
    columns = {name: list(column) for name, column in zip(names, zip(*rows))} if rows else {}
    if rows:
        pq.write_table(pa.table(columns), metrics / "part-final.parquet")
    if status is not None:
        result = {"status": status, "steps": steps, "epochs": steps / per_epoch, "steps_per_epoch": per_epoch}
        timing = {"seconds": 10.0, "steps_here": steps, "seconds_per_step": 10.0 / steps}
        found = {"regime": None, "evidence": {"reason": "a run in the whole space"}}
        (folder / "result.json").write_text(json.dumps({**result, "message": "", "timing": timing, **found}))
    return folder
