"""How examples are read: ahead by other processes, augmented, by a collate function; the numbers are the same."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.lab import own
from torch.utils.data import default_collate

import scaleinv as si
from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig, Settings
from scaleinv.lab.recipe import made_again, recipe_of
from scaleinv.lab.resolve import resolve
from scaleinv.lab.splits import Streamed
from scaleinv.lab.train import Stopped, run

FILE = Path(own.__file__)


def config_of(problem: Any, **settings: Any) -> RunConfig:
    chosen = Settings(**{"epochs": 3, "evaluation": "online", "batch_size": 16, **settings})
    return resolve(chosen, problem, elr=0.05, lr=None, seed=1, threads=1)


def numbers(folder: Path) -> Any:
    series = si.load(folder).metrics  # type: ignore[union-attr]
    return {key: (s.steps.tolist(), s.values.tobytes()) for key, s in series.items()}


@pytest.mark.parametrize(
    ("make", "settings"),
    [(own.augmented, {}), (own.augmented, {"gradient": "accumulate"}), (own.shifted, {"evaluation": "exact"})],
)
def test_reading_ahead_changes_no_bit(tmp_path: Path, make: Any, settings: dict[str, Any]) -> None:
    configs = []
    for workers in (0, 1, 3):
        problem = make(workers)
        configs.append(config_of(problem, **settings))
        torch.manual_seed(workers)  # what the global generators hold must not matter
        np.random.seed(workers)  # noqa: NPY002
        random.seed(workers)
        run(configs[-1], problem, tmp_path / str(workers))
    assert configs[0] == configs[1] == configs[2]
    assert numbers(tmp_path / "0") == numbers(tmp_path / "1") == numbers(tmp_path / "3")


@pytest.mark.parametrize("evaluation", ["exact", "online"])
def test_passes_before_the_first_step_draw_from_the_seed(tmp_path: Path, evaluation: str) -> None:
    """Dropout draws in a pass in train mode."""
    for k in (0, 1):
        torch.manual_seed(k)
        run(config_of(own.problem(), evaluation=evaluation), own.problem(), tmp_path / str(k))
    assert numbers(tmp_path / "0") == numbers(tmp_path / "1")


def test_a_run_goes_on_with_another_number_of_readers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config_of(own.augmented()), own.augmented(), tmp_path / "whole")
    asked = iter([False] * 8 + [True])  # within the second epoch
    with pytest.raises(Stopped):
        run(config_of(own.augmented(2)), own.augmented(2), tmp_path / "parts", stop=lambda: next(asked))
    run(config_of(own.augmented()), own.augmented(), tmp_path / "parts")
    assert numbers(tmp_path / "whole") == numbers(tmp_path / "parts")


def test_an_augmentation_reaches_examples_that_are_read(tmp_path: Path) -> None:
    plain, changed = own.jittered(), own.augmented()
    assert plain.fingerprint != changed.fingerprint
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    before, _ = plain.split("train").batch(slice(0, 4), None, draw)
    torch.manual_seed(0)
    after, _ = changed.split("train").batch(slice(0, 4), None, draw)
    assert torch.equal(after, own.noisy(before, torch.Generator().manual_seed(0)))
    torch.manual_seed(0)
    assert torch.equal(changed.split("train").batch(slice(0, 4))[0], before)  # an evaluation is not augmented


def test_another_process_reads_alike(tmp_path: Path) -> None:
    """What augments, collates and reads is part of how a problem is made again."""
    options: dict[str, Any] = {"augment": own.noisy, "collate": backwards, "read_workers": 2}
    for train in (own.arrays(), f"{FILE}:load_jittered"):
        problem = si.classification(own.make_net, train, **options)
        recipe = recipe_of(problem, tmp_path)
        assert recipe is not None
        again = recipe.open()
        assert again.fingerprint == problem.fingerprint
        assert dataclasses.asdict(again.reading) == dataclasses.asdict(problem.reading)  # type: ignore[attr-defined]
        for name in ("0", "1"):
            torch.manual_seed(3)
            draw = torch.Generator().manual_seed(int(name))
            x, _ = problem.split("train").batch(slice(0, 8), None, draw)
            torch.manual_seed(3)
            other, _ = again.split("train").batch(slice(0, 8), None, torch.Generator().manual_seed(int(name)))  # type: ignore[union-attr]
            assert torch.equal(x, other)


def test_a_sweep_in_other_processes_augments(tmp_path: Path) -> None:
    problem = si.classification(f"{FILE}:make_net", f"{FILE}:load", augment=own.noisy)
    options: dict[str, Any] = {"epochs": 3, "quiet": True, "evaluation": "online", "device": "cpu"}
    folders = [si.sweep(problem, elr="0.05,0.1", out=tmp_path / str(n), workers=n, **options) for n in (1, 2)]
    here, there = ([numbers(one.folder) for one in sweep.runs] for sweep in folders)
    assert here == there
    plain = si.sweep(
        si.classification(f"{FILE}:make_net", f"{FILE}:load"), elr="0.05,0.1", out=tmp_path / "p", **options
    )
    assert [numbers(one.folder) for one in plain.runs] != here


def test_a_part_without_a_name_stays_in_this_process(tmp_path: Path) -> None:
    for name in ("augment", "collate"):
        given: Any = {"augment": lambda x, g: x, "collate": lambda rows: default_collate(rows)}[name]
        problem = si.classification(own.make_net, f"{FILE}:load_jittered", **{name: given})
        assert recipe_of(problem, tmp_path) is None
        assert name in problem.why_not_elsewhere()


def test_a_set_that_is_not_to_be_held_is_read_in_other_processes_as_well(tmp_path: Path) -> None:
    problem = si.classification(own.make_net, f"{FILE}:load_plain", in_memory=False)
    recipe = recipe_of(problem, tmp_path)
    assert recipe is not None
    again = recipe.open()
    assert isinstance(again.split("train"), Streamed)
    assert again.fingerprint == problem.fingerprint


@pytest.mark.parametrize("workers", [-1, 1.5, True, 100_000])
def test_a_number_of_readers_that_is_none_is_refused(workers: Any) -> None:
    with pytest.raises(UserError, match="read_workers"):
        own.augmented(workers)


def test_an_old_recipe_is_read(tmp_path: Path) -> None:
    """Of before it said how examples are read."""
    problem = si.classification(own.make_net, own.arrays())
    assert recipe_of(problem, tmp_path) is not None
    content = dict(problem.stored)  # type: ignore[attr-defined]
    assert not {"augment", "collate", "in_memory", "workers"} & set(content)
    assert made_again(content, tmp_path / "data").fingerprint == problem.fingerprint


def backwards(rows: list[Any]) -> Any:
    return default_collate(rows[::-1])


def test_kernels_in_any_order_are_a_matter_of_gpus() -> None:
    problem = own.problem()
    assert config_of(problem, nondeterministic=True) == config_of(problem)
    at: dict[str, Any] = {"elr": 0.05, "lr": None, "seed": 1, "threads": 1, "device": "cuda:1"}
    loose, strict = (resolve(Settings(nondeterministic=one), problem, **at) for one in (True, False))
    assert loose.nondeterministic
    assert loose.identity() != strict.identity()
