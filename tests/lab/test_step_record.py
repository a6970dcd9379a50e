"""The record of every step: what stands in it, how large it is, and that the epochs' means are its means."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaleinv.lab.config import Settings
from scaleinv.runfolder.read import load_run
from scaleinv.studies.obtain import obtain

pytestmark = pytest.mark.numerics

SMALL = Settings(subset=100, batch_size=16, epochs=5, width=2, weight_decay=0.01, evaluation="online", norm_eps=1e-10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return obtain(tmp_path_factory.mktemp("runs"), SMALL, lr=0.1)


def test_a_row_a_step_float32(folder: Path) -> None:
    table = pq.read_table(folder / "metrics" / "steps-final.parquet")
    run = load_run(folder)
    assert table.num_rows == run.result["steps"] == 5 * 7  # type: ignore[index]
    groups = [f"convs.{i}.weight" for i in range(4)]
    columns = ["loss", "lr", "total:angle"] + [f"{g}:{q}" for g in groups for q in ("rho_sq", "g", "angle")]
    assert table.column_names == columns
    assert all(field.type == pa.float32() for field in table.schema)


def test_the_means_of_the_epochs_are_means_of_the_steps(folder: Path) -> None:
    table = pq.read_table(folder / "metrics" / "steps-final.parquet")
    run = load_run(folder)

    def means(values: np.ndarray) -> np.ndarray:
        return values.astype(float).reshape(5, 7).mean(axis=1)

    groups = run.groups()
    for group in groups:
        rho_sq, g = (table[f"{group}:{q}"].to_numpy() for q in ("rho_sq", "g"))
        for quantity, values in {
            "rho": np.sqrt(rho_sq),
            "g": g,
            "eg": g * np.sqrt(rho_sq),
            "elr": table["lr"].to_numpy() / rho_sq,
            "angle": table[f"{group}:angle"].to_numpy(),
        }.items():
            np.testing.assert_allclose(means(values), run.series("online", group, quantity)[1], rtol=1e-5)
    rho_sq = sum(table[f"{group}:rho_sq"].to_numpy().astype(float) for group in groups)
    np.testing.assert_allclose(means(np.sqrt(rho_sq)), run.series("online", "total", "rho")[1], rtol=1e-5)
    np.testing.assert_allclose(
        means(table["total:angle"].to_numpy()), run.series("online", "total", "angle")[1], rtol=1e-5
    )


def test_norms_obey_the_recursion_step_by_step(folder: Path) -> None:
    """Lobacheva et al. 2021, eq. 4: rho'^2 = (1 - lr wd)^2 rho^2 + lr^2 g^2, for every group."""
    table = pq.read_table(folder / "metrics" / "steps-final.parquet")
    for group in load_run(folder).groups():
        rho_sq, g = (table[f"{group}:{q}"].to_numpy().astype(float) for q in ("rho_sq", "g"))
        expected = (1 - 0.1 * 0.01) ** 2 * rho_sq + 0.1**2 * g**2
        np.testing.assert_allclose(rho_sq[1:], expected[:-1], rtol=1e-5)


def test_without_the_flag_there_is_none(tmp_path: Path) -> None:
    sphere = obtain(tmp_path, dataclasses.replace(SMALL, weight_decay=0.0), elr=0.01)
    asked = obtain(tmp_path, dataclasses.replace(SMALL, weight_decay=0.0, record_steps=True), elr=0.01)
    assert not list((sphere / "metrics").glob("steps-*"))
    assert len(list((asked / "metrics").glob("steps-*"))) == 1


@pytest.mark.slow
def test_a_million_steps_of_four_groups_stay_under_100_MB(tmp_path: Path) -> None:
    """Numbers as irregular as they come: a twentieth of the steps, times twenty."""
    from scaleinv.runfolder.files import write_bytes
    from scaleinv.runfolder.rows import part_bytes

    draw = np.random.default_rng(0)
    names = ["loss", "lr", "total:angle"] + [f"g{i}:{q}" for i in range(4) for q in ("rho_sq", "g", "angle")]
    table = pa.table(
        {
            n: draw.lognormal(size=50_000).astype(np.float32) if n != "lr" else np.full(50_000, 0.1, np.float32)
            for n in names
        }
    )
    path = tmp_path / "steps-00000.parquet"
    write_bytes(path, part_bytes(table))
    assert 20 * path.stat().st_size < 100e6
