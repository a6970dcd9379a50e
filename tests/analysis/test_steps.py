"""The reader of the per-step record."""

import numpy as np
import pytest
from tests.analysis.series import breaking, columns, record, write_run

from scaleinv.analysis.periods import find_periods
from scaleinv.analysis.steps import has_steps, load_steps
from scaleinv.errors import UserError


@pytest.fixture(scope="module")
def series():
    return breaking(6000, 0.1, 0.01)


@pytest.fixture(scope="module")
def folder(series, tmp_path_factory):
    table = record(series)
    parts = [{k: v[a:b] for k, v in table.items()} for a, b in ((0, 2500), (2500, 6000))]
    return write_run(tmp_path_factory.mktemp("runs") / "one", parts)


def test_files_are_joined_in_the_order_of_their_names(series, folder):
    steps = load_steps(folder)
    assert len(steps) == 6000
    assert steps.step.tolist() == list(range(6000))
    assert steps.rho == pytest.approx(series["rho"], rel=1e-6)
    assert steps.eg == pytest.approx(series["eg"], rel=1e-6)
    assert steps.elr == pytest.approx(0.1 / series["rho"] ** 2, rel=1e-6)
    assert steps.ess == pytest.approx(steps.elr * steps.eg)
    assert list(steps.groups) == ["a", "b.weight"]
    assert steps.groups["a"].rho_sq + steps.groups["b.weight"].rho_sq == pytest.approx(steps.rho_sq)
    z = np.tan(steps.angle)
    assert steps.one_minus_cos == pytest.approx(1 - 1 / np.sqrt(1 + z**2), abs=1e-12)
    assert steps.loss.dtype == np.float64


def test_thinning(folder):
    whole, thin = load_steps(folder), load_steps(folder, every=7)
    assert thin.step.tolist() == list(range(0, 6000, 7))
    assert thin.loss.tolist() == whole.loss[::7].tolist()
    assert thin.groups["a"].g.tolist() == whole.groups["a"].g[::7].tolist()


def test_the_joined_file_of_an_ended_run_holds_all(series, folder, tmp_path):
    run = write_run(tmp_path / "run", [record(series)])
    final = run / "metrics" / "steps-final.parquet"
    (run / "metrics" / "steps-000000.parquet").rename(final)
    (run / "metrics" / "steps-000000.parquet").write_bytes(final.read_bytes())  # about to be removed
    assert len(load_steps(run)) == 6000


def test_periods_of_a_run_folder(series, folder):
    found = find_periods(folder)
    other = find_periods(**columns(series))
    assert [e.step for e in found.destabilisations] == [e.step for e in other.destabilisations]
    assert found.verdict == other.verdict
    assert found.equilibrium is not None


def test_bounds_are_left_out_where_the_step_is_not_sgds(series, tmp_path):
    run = write_run(tmp_path / "run", [record(series)], momentum=0.9)
    found = find_periods(run)
    assert found.equilibrium is None
    assert any("not plain SGD" in sentence for sentence in found.evidence)


def test_mistakes(series, folder, tmp_path):
    empty = write_run(tmp_path / "empty", [])
    assert not has_steps(empty)
    with pytest.raises(UserError, match="no per-step record"):
        load_steps(empty)
    with pytest.raises(UserError, match="train with --lr"):
        find_periods(empty)
    with pytest.raises(UserError, match="every 0"):
        load_steps(folder, every=0)
    broken = write_run(tmp_path / "broken", [record(series)])
    (broken / "metrics" / "steps-000000.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="is damaged"):
        load_steps(broken)
    foreign = write_run(tmp_path / "foreign", [{"loss": [1.0]}])
    with pytest.raises(UserError, match="no column lr"):
        load_steps(foreign)
    half = record(series)
    del half["a:g"]
    with pytest.raises(UserError, match="group a has no column a:g"):
        load_steps(write_run(tmp_path / "half", [half]))
    two = [record(series), {**record(series), "c:rho_sq": series["loss"]}]
    with pytest.raises(UserError, match="different columns"):
        load_steps(write_run(tmp_path / "two", two))
    with pytest.raises(UserError, match="no such folder"):
        find_periods(tmp_path / "nowhere")


def test_periods_of_a_folder_that_the_monitor_wrote(tmp_path):
    """Loss, norm, effective gradient, rate and decay come through: the norm follows the recursion they predict."""
    import torch

    from scaleinv import Monitor

    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(64, 8, generator=generator), torch.arange(64) % 4
    net = torch.nn.Sequential(
        torch.nn.Linear(8, 16, bias=False), torch.nn.BatchNorm1d(16, affine=False, eps=1e-10), torch.nn.Linear(16, 4)
    )
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, weight_decay=0.01)
    monitor = Monitor(net, optimizer, inputs=images[:16], every=1, sinks=tmp_path / "mine")
    for _ in range(250):
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        monitor.loss(loss)
        optimizer.step()
    monitor.close()
    found = find_periods(tmp_path / "mine")
    assert len(found.log) == 250
    assert found.unit == pytest.approx(1000, rel=1e-3)
    assert found.verdict == "not yet"
    assert found.equilibrium is None  # the burn-in is longer than the log
    assert any("follows SGD's recursion" in sentence for sentence in found.evidence)
