"""Synthetic run and sweep folders in the documented form (docs/architecture.md), with plausible curves of all three
regimes.
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("epoch", pa.int64()),
        ("split", pa.string()),
        ("group", pa.string()),
        ("quantity", pa.string()),
        ("value", pa.float64()),
    ]
)
GROUPS = ("conv1", "conv2", "conv3", "conv4")
ENVIRONMENT = {
    "scaleinv": "0.1.0",
    "git": "4bc5acc0",
    "argv": [
        "/home/someone/.venv/bin/scaleinv",
        "sweep",
        "--data",
        "digits",
        "--elr",
        "1e-4:10:20",
        "--out",
        "runs/demo",
    ],
    "torch": "2.13.0",
    "threads": 1,
    "device": "cpu",
}
Row = tuple[int, int, str, str, str, float]


def write_parts(folder: Path, rows: list[Row], parts: int = 3) -> None:
    """The rows as ``part-*.parquet`` files."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, chunk in enumerate(np.array_split(np.arange(len(rows)), parts)):
        columns = list(zip(*(rows[j] for j in chunk))) or [[]] * 6
        table = pa.table([pa.array(c, t) for c, t in zip(columns, SCHEMA.types)], schema=SCHEMA)
        pq.write_table(table, folder / f"part-{i:06d}.parquet")


def curves(elr: float, epochs: int, rng: np.random.Generator, diverge_at: int | None = None) -> dict[str, np.ndarray]:
    """Loss, error and effective gradient at epochs 0..epochs, in the shape the papers report for that ELR."""
    t = np.arange(epochs + 1.0)
    noise = np.exp(rng.normal(0, 0.08, t.size))
    if elr < 3e-2:  # convergence: the loss falls, the effective gradient with it, and larger ELRs end flatter
        loss = 9.0 / (1 + t * (elr / 3e-2) ** 0.45) ** 2.6 * noise
        eg = 60 * loss**0.85 * (3e-2 / elr) ** 0.1 * np.exp(rng.normal(0, 0.05, t.size))
        error = 0.02 + 0.88 * (1 - np.exp(-loss / 2))
    elif elr < 1.0:  # a stable level away from both the minimum and chance
        level = 0.25 * (elr / 3e-2) ** 0.7
        loss = (level + (9 - level) * np.exp(-t)) * np.exp(rng.normal(0, 0.25, t.size))
        eg = 20 / (elr / 3e-2) ** 0.35 * noise + 600 * np.exp(-3 * t)
        error = np.clip(0.1 + 0.45 * (1 - np.exp(-loss)) * noise, 0, 0.9)
    else:  # chance
        loss = 8.5 + rng.normal(0, 0.8, t.size)
        eg = 300 * elr**0.5 * noise
        error = np.clip(0.9 + rng.normal(0, 0.015, t.size), 0, 1)
    if diverge_at is not None:
        loss[diverge_at:], eg[diverge_at:], error[diverge_at:] = math.nan, math.inf, 0.9
    return {"loss": loss, "eg": eg, "error": error}


def run_rows(
    elr: float,
    epochs: int,
    seed: int,
    exact: bool = True,
    diverge_at: int | None = None,
    groups: tuple[str, ...] = GROUPS,
) -> list[Row]:
    """The metrics rows of one run."""
    rng = np.random.default_rng([seed, int(1e6 * elr)])
    c = curves(elr, epochs, rng, diverge_at)
    spe, rho = 90, 8.9
    rows: list[Row] = [
        (0, 0, "reference", f"direction-{i}", q, v)
        for i in range(5)
        for q, v in (("loss", 8.6 + 0.2 * i), ("error", 0.9))
    ]
    evaluated = sorted({0, *np.unique(np.geomspace(1, epochs, 14).round().astype(int)).tolist()})

    def measured(step: int, epoch: int, split: str, group: str, eg: float, share: float) -> None:
        own = elr / share**2
        ess = own * eg
        values = {"rho": rho * share, "g": eg / (rho * share), "eg": eg, "elr": own, "ess": ess}
        if split == "online":
            values["angle"] = math.atan(ess)
        rows.extend((step, epoch, split, group, q, v) for q, v in values.items())

    for epoch in range(epochs + 1):
        eg = float(c["eg"][epoch])
        for split in ("online", "train", "test"):
            if (split == "online" and epoch == 0) or (split == "train" and not exact):
                continue
            if split != "online" and epoch not in evaluated:
                continue
            base = (epoch * spe, epoch, split, "total")
            rows.append((*base, "loss", float(c["loss"][epoch] * (1.2 if split == "test" else 1))))
            rows.append((*base, "error", float(c["error"][epoch] * (1 if split == "test" else 0.9))))
            if split == "test":
                continue
            measured(epoch * spe, epoch, split, "total", eg, 1.0)
            if split == "online":
                ess = elr * eg
                rows.append((*base, "cosine", 1 / math.sqrt(1 + ess * ess)))
            for i, group in enumerate(groups):
                share = math.sqrt((i + 1) / sum(range(1, len(groups) + 1)))
                measured(epoch * spe, epoch, split, group, eg * share * (1 + 0.05 * i), share)
    if diverge_at is None:
        rows.append((epochs * spe, epochs, "test", "total", "loss_recomputed_bn", float(c["loss"][-1])))
        rows.append((epochs * spe, epochs, "test", "total", "error_recomputed_bn", float(c["error"][-1])))
    return rows


def write_run(
    folder: Path,
    elr: float = 1e-2,
    epochs: int = 60,
    seed: int = 1,
    *,
    ended: bool = True,
    exact: bool = True,
    diverge_at: int | None = None,
    config: dict[str, Any] | None = None,
    groups: tuple[str, ...] = GROUPS,
) -> dict[str, Any]:
    """A run folder; returns its entry for ``sweep.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "data": "digits",
        "model": "convnet",
        "variant": "si",
        "width": 16,
        "elr": elr,
        "lr": None,
        "steps": 90 * epochs,
        "seed": seed,
        "batch_size": 16,
        "loss": "ce",
        "data_fingerprint": "sha256:0f3a",
        **(config or {}),
    }
    head = {"format": 3, "config": config, "identity": folder.name, "environment": ENVIRONMENT}
    (folder / "config.json").write_text(json.dumps(head, indent=1))
    rows = run_rows(elr, epochs, seed, exact, diverge_at, groups)
    write_parts(folder / "metrics", rows)
    regime = None if diverge_at is not None else 1 if elr < 3e-2 else 2 if elr < 1 else 3

    def last(split: str, quantity: str) -> float | None:
        found = [r[5] for r in rows if r[2:5] == (split, "total", quantity)]
        return found[-1] if found and math.isfinite(found[-1]) else None

    def mean(quantity: str) -> float | None:
        """Over the last half of the epochs."""
        found = [r[5] for r in rows if r[2:5] == ("online", "total", quantity) and r[1] > epochs // 2]
        return float(np.mean(found)) if np.all(np.isfinite(found)) else None

    reason = {
        1: "loss 0.011 on average, below 0.023 in 97% of epochs 31-60",
        2: "stationary at loss 0.41 +- 0.02 (drift x0.96), above 0.023 in 100% of epochs 31-60, error 23%",
        3: "test error at chance, consecutive iterates uncorrelated, loss not below that of random directions",
        None: f"the loss is not finite from epoch {diverge_at}",
    }[regime]
    evidence = {
        "reason": reason,
        "window": [epochs // 2, epochs],
        "threshold": 0.023,
        "loss": last("online", "loss"),
        "share_above_threshold": 0.03,
        "loss_drift": -0.6,
    }
    status = "diverged" if diverge_at is not None else "finished"
    if ended:
        result = {
            "status": status,
            "steps": 90 * epochs,
            "epochs": epochs,
            "message": "",
            "timing": {"seconds": 14.0, "steps_here": 90 * epochs, "seconds_per_step": 14 / (90 * epochs)},
            "regime": regime,
            "evidence": evidence,
        }
        (folder / "result.json").write_text(json.dumps(result))
    return {
        "run": folder.name,
        "elr": elr,
        "seed": seed,
        "regime": regime,
        "evidence": evidence,
        "train_loss": mean("loss"),
        "test_error": last("test", "error"),
        "test_error_recomputed_bn": last("test", "error_recomputed_bn"),
        "effective_gradient": mean("eg"),
        "ess": mean("ess"),
        "cosine": mean("cosine"),
        "status": status,
    }


def boundary(entries: list[dict[str, Any]], upper: int) -> dict[str, Any]:
    """The interval between the last ELR of the regime below and the first of the regime ``upper``."""
    below = [e["elr"] for e in entries if e["regime"] == upper - 1]
    above = [e["elr"] for e in entries if e["regime"] == upper]
    if not below or not above:
        return {"low": None, "high": None, "decided": False}
    return {"low": max(below), "high": min(above), "decided": True}


def write_sweep(
    folder: Path,
    elrs: list[float] | None = None,
    epochs: int = 60,
    seeds: int = 1,
    *,
    mapped: bool = True,
    diverged: bool = True,
    exact: bool = True,
    config: dict[str, Any] | None = None,
) -> Path:
    """A sweep folder; the run at the largest ELR of the last seed has a loss that is not finite from a third on."""
    elrs = list(np.geomspace(1e-4, 10, 20)) if elrs is None else elrs
    folder.mkdir(parents=True, exist_ok=True)
    base = {"data": "digits", "model": "convnet", "steps": 90 * epochs}
    sweep = {"base": base, "axis": "elr", "values": elrs, "seeds": list(range(1, seeds + 1))}
    (folder / "sweep-config.json").write_text(json.dumps({"format": 3, "sweep": sweep}))
    entries = []
    for seed in range(1, seeds + 1):
        for elr in elrs:
            name = hashlib.sha256(f"{elr}{seed}".encode()).hexdigest()[:12]
            bad = epochs // 3 if diverged and elr == elrs[-1] and seed == seeds else None
            entries.append(
                write_run(folder / "runs" / name, elr, epochs, seed, exact=exact, diverge_at=bad, config=config)
            )
    if mapped:
        summary = {
            "boundaries": {"1/2": boundary(entries, 2), "2/3": boundary(entries, 3)},
            "runs": entries,
            "horizon": {"epochs": epochs, "steps": 90 * epochs},
        }
        (folder / "sweep.json").write_text(json.dumps(summary))
    return folder
