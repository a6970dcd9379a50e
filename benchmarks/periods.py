"""How well ``scaleinv periods`` sees periods: in thinned logs, in logs without any, and how fast.

python benchmarks/periods.py [--quick]

Prints (1) of the break-downs that every step shows, how many are found with rows further apart, on six small trainings;
(2) false alarms on 108 logs without periods, and periods found in 48 logs that have them; (3) seconds and memory for a
million rows.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from scaleinv.analysis.periods import find_periods
from scaleinv.lab.data import load_dataset
from scaleinv.theory.simulators import recursion

GAPS = (0.01, 0.02, 0.05, 0.1)


def trained(seed: int, lr: float, wd: float, steps: int) -> dict[str, np.ndarray]:
    """Train a scale-invariant MLP on 256 digits with SGD and weight decay; a row a step."""
    data = load_dataset("digits")
    images, labels = data.train_images[:256].flatten(1), data.train_labels[:256]
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(64, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(),
        nn.Linear(32, 32, bias=False), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10),
    )  # fmt: skip
    free = [model[0].weight, model[3].weight]
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, weight_decay=wd)
    generator, rows = torch.Generator().manual_seed(seed + 100), []
    for _ in range(steps):
        batch = torch.randint(256, (128,), generator=generator)
        loss = functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        rho = torch.cat([w.detach().flatten() for w in free]).norm().item()
        rows.append((loss.item(), rho, rho * torch.cat([w.grad.flatten() for w in free]).norm().item()))
        optimizer.step()
    return dict(zip(("loss", "rho", "eg"), np.array(rows).T))


def thinned(log: dict[str, np.ndarray], every: int) -> dict[str, np.ndarray]:
    """Keep every n-th row."""
    return {**{name: column[::every] for name, column in log.items()}, "step": np.arange(0, len(log["loss"]), every)}


def missed(steps: int) -> None:
    """Print how many break-downs are found in thinned logs."""
    print(f"{'rows apart':>12}  " + "  ".join(f"{gap:>5}/(lr wd)" for gap in GAPS))
    total = np.zeros(1 + len(GAPS), dtype=int)
    for wd, seed in itertools.product((0.005, 0.002), range(3)):
        log = trained(seed, 0.5, wd, steps)
        real = [event.step for event in find_periods(**log, lr=0.5, wd=wd).break_downs]
        hits = [len(real)]
        for gap in GAPS:
            every = max(1, round(gap / (0.5 * wd)))
            found = find_periods(**thinned(log, every), lr=0.5, wd=wd).break_downs
            hits.append(sum(any(abs(step - event.step) <= 2 * every + 20 for event in found) for step in real))
        total += hits
        print(f"  wd {wd}, {seed}  " + "  ".join(f"{hit:>6} of {len(real):<4}" for hit in hits[1:]))
    print(f"{'all':>12}  " + "  ".join(f"{hit:>6} of {total[0]:<4}" for hit in total[1:]))


def noisy(steps: int, spread: float, seed: int) -> dict[str, np.ndarray]:
    """Make an equilibrium: log-normal gradients around those that hold the norm."""
    noise = np.random.default_rng(seed).normal(0, spread, steps)
    eg = 10 / np.sqrt(0.1 / 0.02) * np.exp(noise)
    path = recursion.run(10.0, 0.1, 0.01, recursion.given(eg[:, None]), steps)
    return {"loss": 0.1 * np.exp(noise), "rho": np.sqrt(path[:-1, 0]), "eg": eg}


def breaking(steps: int, jump: float, seed: int) -> dict[str, np.ndarray]:
    """Make periods: small gradients until rho^2 has fallen to 1, then 20 steps that multiply it by ``jump``."""
    draw, left = np.random.default_rng(seed), 0
    large = []

    def law(step: int, rho_sq: np.ndarray) -> np.ndarray:
        nonlocal left
        left = 20 if left == 0 and rho_sq[0] <= 1 else max(0, left - 1)
        large.append(left > 0)
        return rho_sq * np.sqrt(jump ** (1 / 20) - 0.999**2) / 0.1 if left else np.full(rho_sq.shape, 1e-3)

    path, eg = recursion.run(jump, 0.1, 0.01, law, steps, keep_eg=True)
    loss = 1e-3 * np.exp(draw.normal(0, 0.3, steps)) * np.where(large[:steps], 1e3, 1.0)
    return {"loss": loss, "rho": np.sqrt(path[:-1, 0]), "eg": eg[:, 0]}


def alarms() -> None:
    """Print false alarms, and periods found."""
    columns = (("loss", "rho", "eg"), ("loss", "rho"), ("loss",))
    verdicts = []
    for spread, every, seed, names in itertools.product((0.3, 0.5, 0.7), (1, 5, 20), range(4), columns):
        rows = thinned(noisy(12_000, spread, seed), every)
        given = {name: column for name, column in rows.items() if name in names or name == "step"}
        verdicts.append(find_periods(**given, lr=0.1, wd=0.01).verdict)
    print(f"without periods: {verdicts.count('periodic')} of {len(verdicts)} are called periodic")
    verdicts = []
    for jump, every, seed, names in itertools.product((2.0, 4.0), (1, 5, 20), range(4), columns[:2]):
        rows = thinned(breaking(12_000, jump, seed), every)
        given = {name: column for name, column in rows.items() if name in names or name == "step"}
        verdicts.append(find_periods(**given, lr=0.1, wd=0.01).verdict)
    print(f"with periods: {verdicts.count('periodic')} of {len(verdicts)} are called periodic")


def speed(rows: int) -> None:
    """Print seconds and memory of the command on one long log."""
    log = breaking(rows, 4.0, 0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("step,loss,rho,eg\n")
            file.writelines(f"{k},{a:.7g},{b:.9g},{c:.7g}\n" for k, (a, b, c) in enumerate(zip(*log.values())))
        size, before = path.stat().st_size / 1e6, resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        command = [sys.executable, "-m", "scaleinv", "periods", str(path), "--lr", "0.1", "--weight-decay", "0.01"]
        begin = time.perf_counter()
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout.partition(";")[0]
    wall, used = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, peak = used.ru_utime - before, used.ru_maxrss / 1024
    print(f"{rows} rows ({size:.0f} MB): {wall:.1f} s, of CPU {seconds:.1f} s, at most {peak:.0f} MB: {answer}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    missed(1500 if quick else 6000)
    alarms()
    speed(100_000 if quick else 1_000_000)
