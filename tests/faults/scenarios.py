"""What is run into faults: a run, a sweep with what it shares, a monitored training, a page, a landscape.

Each writes below one folder and goes on there when it is called again.
"""

from __future__ import annotations

import functools
import io
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import nn

from scaleinv import Monitor
from scaleinv.lab import levels, train
from scaleinv.lab.config import Settings
from scaleinv.lab.data import share
from scaleinv.lab.launch.here import Here
from scaleinv.lab.resolve import load_data as lab_data
from scaleinv.lab.resolve import resolve
from scaleinv.monitor.sinks import RunFolder
from scaleinv.report import write_report
from scaleinv.runfolder import environment
from scaleinv.runfolder.checkpoint import FILES
from scaleinv.runfolder.seal import SEAL, TOKEN
from scaleinv.studies.landscape import Study, study
from scaleinv.studies.sweep import SweepConfig, map_sweep

SETTINGS = Settings(
    data="digits", subset=64, batch_size=16, model="mlp", width=2, steps=6, keep_every=1, record_steps=True
)
#: of results: how long it took and where
_OF_THE_MACHINE = {"timing", "environment", "seconds"}


class Scenario(NamedTuple):
    """``act(folder)``: do it, or go on with it. ``prepare(folder)``: what must be there before."""

    act: Callable[[Path], None]
    prepare: Callable[[Path], None] = lambda folder: None


load_data = functools.cache(lab_data)  # before the fork


@contextmanager
def _often() -> Iterator[None]:
    """A checkpoint after every step; nothing that takes time and no file. As before at the end: other tests follow."""
    with (
        patch.multiple(train, CHECKPOINT_SECONDS=0.0, CHECKPOINT_SHARE=math.inf),
        patch.object(environment, "git_revision", lambda folder: None),
        patch.multiple(levels, REFERENCE_DIRECTIONS=2, LIMIT_STEPS=2),  # half of the time of a trial, and no file
    ):
        yield


@_often()
def run(folder: Path, seed: int = 0) -> None:
    """A run with kept weights and a record of every step."""
    data = load_data(SETTINGS)
    config = resolve(SETTINGS, data, elr=0.03, lr=None, seed=seed, threads=1)
    train.run(config, data, folder / "run")


@_often()
def sweep(folder: Path, seed: int = 0) -> None:
    """A sweep of two ELRs in this process, its map and its page."""
    data = load_data(SETTINGS)
    base = resolve(SETTINGS, data, elr=0.03, lr=None, seed=seed, threads=1)
    asked = SweepConfig(base, "elr", (1e-3, 1.0), (seed,))
    map_sweep(asked, data, folder / "sweep", workers=1, launch=lambda s: Here(s.source))


def shared(folder: Path) -> None:
    """The copy of the data that worker processes share."""
    handle = share(load_data(SETTINGS), folder / ".shared")
    handle.open()
    handle.remove()


def monitored(folder: Path, seed: int = 0) -> None:
    """A training of one's own with a Monitor, which saves its state every two steps and goes on from it."""
    if not (folder / "state.pt").exists() and (folder / "run").exists():  # not beside what a killed one wrote
        shutil.rmtree(folder / "run")
    training(folder / "run", folder / "state.pt", seed)


def training(run: Path, saved: Path, seed: int = 0) -> None:
    """Train with a Monitor that writes ``run``, from the state ``saved`` where there is one."""
    # as in a process of a user, where it ends no training; pytest makes errors of warnings
    warnings.filterwarnings("default", "the sink RunFolder failed .*, training goes on", RuntimeWarning)
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.Linear(6, 3))
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sink, first = RunFolder(run, rows=30, seconds=0.0), 0
    with Monitor(model, optimizer, groups=["0.weight"], every=1, sinks=sink) as monitor:
        if saved.exists():
            state = torch.load(saved, weights_only=True)
            model.load_state_dict(state["model"])
            monitor.load_state_dict(state["monitor"])
            first = state["step"]
        for step in range(first, 8):
            data = torch.randn(16, 4, generator=torch.Generator().manual_seed(100 * seed + step))
            loss = nn.functional.cross_entropy(model(data), torch.arange(16) % 3)
            monitor.loss(loss)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            if step % 2 == 1:
                _save(saved, model, monitor, step + 1)


def _save(path: Path, model: nn.Module, monitor: Monitor, step: int) -> None:
    """As a careful user saves: whole, or not at all."""
    stream = io.BytesIO()
    torch.save({"model": model.state_dict(), "monitor": monitor.state_dict(), "step": step}, stream)
    handle = os.open(path.with_suffix(".new"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        os.write(handle, stream.getvalue())
    finally:
        os.close(handle)
    os.replace(path.with_suffix(".new"), path)


def page(folder: Path) -> None:
    """The page of a run."""
    write_report(folder / "run")


def landscape(folder: Path) -> None:
    """The landscape of a run, measured once."""
    study(folder / "run", ("sharpness",), settings=Study(images=16, probes=1))


SCENARIOS = {
    "run": Scenario(run),
    "sweep": Scenario(sweep),
    "monitor": Scenario(monitored),
    "shared data": Scenario(shared),
    "report": Scenario(page, run),
    "landscape": Scenario(landscape, run),
}


def content(folder: Path) -> dict[str, Any]:
    """Everything below a folder by its name, without what differs from time to time: locks, times, the machine."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.name.endswith((".lock", ".html")):
            found[name] = path.is_dir()
        elif path.suffix == ".json":
            found[name] = _plain(json.loads(path.read_text()))
        elif path.suffix == ".pt":
            found[name] = _flat(torch.load(path, weights_only=True))
        else:
            found[name] = path.read_bytes()
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        skipped = {*_OF_THE_MACHINE, SEAL, TOKEN, FILES[1]}  # the bytes of a state are compared as tensors
        return {k: _plain(v) for k, v in value.items() if k not in skipped}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _flat(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.stride(), state.contiguous().numpy().tobytes()
    if isinstance(state, dict):
        return {key: _flat(value) for key, value in state.items()}
    return [_flat(value) for value in state] if isinstance(state, (list, tuple)) else state


def difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Name the first file that is not as it should be; empty where all are."""
    for name in sorted({*found, *wanted}):
        if name not in found:
            return f"{name} is missing"
        if name not in wanted:
            return f"{name} is left over"
        if repr(found[name]) != repr(wanted[name]):
            return f"{name} has other content"
    return ""
