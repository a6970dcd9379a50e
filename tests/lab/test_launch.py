"""What happens to a sweep when one of its runs or workers fails."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.data import load_dataset
from scaleinv.lab.data.sharing import share
from scaleinv.lab.launch import job as job_module
from scaleinv.lab.launch import processes
from scaleinv.lab.launch.base import Finished, Job
from scaleinv.lab.launch.processes import Processes
from scaleinv.lab.resolve import load_data, resolve
from scaleinv.studies.sweep import SweepConfig, run_folder, run_sweep

SETTINGS = Settings(subset=64, model="mlp", width=4, steps=8)


def sweep_of(*values: float) -> tuple[SweepConfig, Any]:
    data = load_data(SETTINGS)
    base = resolve(SETTINGS, data, elr=values[0], lr=None, seed=0, threads=1)
    return SweepConfig(base, "elr", values, (0,)), data


@pytest.mark.slow
def test_one_failing_run_does_not_stop_the_others(tmp_path: Path) -> None:
    sweep, data = sweep_of(0.1, 0.2, 0.3)
    broken, refused, _ = sweep.runs()
    folder = run_folder(tmp_path / "sweep", broken)
    (tmp_path / "sweep").mkdir()
    launch_sweep_config(tmp_path / "sweep", sweep)
    # the metrics of one cannot be written; in the folder of the other lies a foreign file
    folder.mkdir(parents=True)
    store_config(folder, broken)
    (folder / "metrics").write_text("")
    run_folder(tmp_path / "sweep", refused).mkdir()
    (run_folder(tmp_path / "sweep", refused) / "notes.txt").write_text("precious")
    outcomes = run_sweep(sweep, data, tmp_path / "sweep", workers=2)
    assert [outcome.result is None for outcome in outcomes] == [True, True, False]
    assert f"cannot write {folder / 'metrics'}: File exists" in outcomes[0].error
    assert "is not empty and not a run folder" in outcomes[1].error
    assert not (tmp_path / "sweep" / ".shared").exists()
    # mended, the same call does what is left
    (folder / "metrics").unlink()
    (run_folder(tmp_path / "sweep", refused) / "notes.txt").unlink()
    outcomes = run_sweep(sweep, data, tmp_path / "sweep", workers=1)
    assert all(outcome.result for outcome in outcomes)


def launch_sweep_config(out: Path, sweep: SweepConfig) -> None:
    (out / "sweep-config.json").write_text(json.dumps({"format": 3, "sweep": sweep.to_dict()}))


def store_config(folder: Path, config: Any) -> None:
    (folder / "config.json").write_text(
        json.dumps({"format": 3, "config": config.to_dict(), "identity": config.identity(), "environment": {}})
    )


def test_a_bug_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, data = sweep_of(0.1, 0.2)
    handle = share(data, tmp_path / "shared")
    job = Job(sweep.runs()[0], tmp_path / "run", {})

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(job_module, "run", bug)
    with pytest.raises(RuntimeError) as told:
        processes._train(handle, job, lambda event: None)
    assert str(told.value) == f"ZeroDivisionError: a bug (traceback: {tmp_path / 'run' / 'error.txt'})"
    assert "in bug" in (tmp_path / "run" / "error.txt").read_text()
    monkeypatch.undo()
    assert processes._train(handle, job, lambda event: None)["status"] == "finished"
    assert not (tmp_path / "run" / "error.txt").exists()


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_workers_that_die_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep, data = sweep_of(0.1, 0.2)
    monkeypatch.setattr(processes, "_train", die)
    outcomes = run_sweep(sweep, data, tmp_path / "sweep", workers=1)
    assert [outcome.error for outcome in outcomes] == [
        "its worker process died 2 times (exit code -9; out of memory?)"
    ] * 2


def test_thread_counts_must_agree(tmp_path: Path) -> None:
    sweep, data = sweep_of(0.1, 0.2)
    one, two = sweep.runs()
    jobs = [Job(c, tmp_path, {}) for c in (one, dataclasses.replace(two, threads=2))]
    with pytest.raises(UserError, match="one thread count"):
        next(Processes(data, tmp_path / "shared", 1).run(jobs))


def test_cancelled_it_ends_and_leaves_nothing_shared(tmp_path: Path) -> None:
    sweep, data = sweep_of(0.1, 0.2, 0.3)
    jobs = [Job(config, run_folder(tmp_path, config), {}) for config in sweep.runs()]
    launcher = Processes(data, tmp_path / "shared", 1)
    launcher.cancel()  # nothing is running: nothing happens
    running = launcher.run(jobs)
    first = next(running)
    assert isinstance(first, Finished)
    assert first.result is not None
    assert first.job == jobs[0]
    assert (tmp_path / "shared").exists()
    launcher.cancel()
    assert not (tmp_path / "shared").exists()
    assert list(running) == []
    assert not (jobs[2].folder / "result.json").exists()


def test_an_impossible_network_is_refused_once_and_before_anything_is_written(tmp_path: Path) -> None:
    sweep, data = sweep_of(0.1, 0.2)
    sweep = dataclasses.replace(sweep, base=dataclasses.replace(sweep.base, normalization="instance"))
    with pytest.raises(UserError, match="unknown normalization 'instance'"):
        run_sweep(sweep, data, tmp_path / "sweep", workers=2)
    assert list(tmp_path.iterdir()) == []


def test_runs_of_a_sweep_differ_in_rate_and_seed_alone() -> None:
    data = load_dataset("digits")
    standard = Settings(variant="standard", steps=3)
    base = resolve(standard, data, elr=None, lr=0.1, seed=0, threads=1)
    runs = SweepConfig(base, "lr", (0.1, 0.2), (0, 1)).runs()
    assert [(c.lr, c.seed) for c in runs] == [(0.1, 0), (0.2, 0), (0.1, 1), (0.2, 1)]
    assert {dataclasses.replace(c, lr=0.1, seed=0) for c in runs} == {base}
    # without --other-lr the head follows the rate of its own run
    from scaleinv.lab.build import build

    rates = [[g["lr"] for g in build(c, data).optimizer.param_groups] for c in runs[:2]]
    assert rates == [[0.1, 0.1], [0.2, 0.2]]
