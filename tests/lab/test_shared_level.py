"""The level of regime 3 before training: measured once for the runs of a seed, and the same number for each."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.lab import own

from scaleinv.lab import levels, train
from scaleinv.lab.config import Settings
from scaleinv.lab.data import load_dataset
from scaleinv.lab.resolve import resolve
from scaleinv.runfolder.read import load_run


@pytest.mark.parametrize("kind", ["package", "own"])
def test_runs_that_differ_in_their_rate_share_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    levels.forget_shared_rows()
    given = {"model": "mlp", "width": 4, "subset": 64} if kind == "package" else {}
    source = load_dataset("digits", subset=64) if kind == "package" else own.problem()
    other = load_dataset("digits", subset=64) if kind == "package" else own.problem()
    measured: list[object] = []

    def counted(*args: object, **options: object) -> object:
        measured.append(options["step"])
        return levels.reference_rows(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "reference_rows", counted)
    rows = []
    # rates; another seed; the first once more, on data of its own; with nothing kept
    for k, (elr, seed, data) in enumerate(
        [(1e-3, 0, source), (1e-2, 0, source), (1e-3, 1, source), (1e-3, 0, source), (1e-3, 0, other)]
    ):
        config = resolve(Settings(steps=2, batch_size=16, **given), data, elr=elr, lr=None, seed=seed, threads=1)
        train.run(config, data, tmp_path / str(k))
        rows.append(load_run(tmp_path / str(k)).reference().tolist())
    assert measured.count(0) == 3
    assert rows[0] == rows[1] == rows[3] == rows[4] != rows[2]
    assert rows[0]
