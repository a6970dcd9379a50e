"""The reader of the per-step record."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.analysis.series import breaking, columns, record, write_run

from scaleinv.analysis.periods import find_periods
from scaleinv.errors import UserError
from scaleinv.runfolder.files import write_bytes
from scaleinv.runfolder.rows import part_bytes, to_table
from scaleinv.runfolder.steps import has_steps, load_steps


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
    assert [e.step for e in found.break_downs] == [e.step for e in other.break_downs]
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
    with pytest.raises(UserError, match="got 0"):
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
    with pytest.raises(UserError, match="no such f"):
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


def momentum_run(folder, form, *, optimizer="sgd", momentum=0.0, dampening=0.0, lr=0.1):
    """The folder of a run whose weights move like ``breaking(9000, 0.1, 0.01)``, recorded by the lab or the monitor."""
    series = breaking(9000, 0.1, 0.01)
    series["lr"] = lr
    if form == "lab":
        return write_run(folder, [record(series)], optimizer=optimizer, momentum=momentum, lr=lr)
    write_run(folder, [], source="monitor")
    names = {"sgd": "SGD", "adam": "Adam", "adamw": "AdamW"}
    group = {"lr": lr, "weight_decay": 0.01, "momentum": momentum, "dampening": dampening}
    if optimizer != "sgd":
        group = {"lr": lr, "weight_decay": 0.01, "decoupled_weight_decay": optimizer == "adamw"}
    law = "sgd" if optimizer == "sgd" else "normalised"
    told = {"class": names[optimizer], "law": law, "groups": [group, group]}
    config = json.loads((folder / "config.json").read_text())
    config["config"] = {"source": "monitor", "optimizer": names[optimizer], "optimizers": [told], "time": "step"}
    (folder / "config.json").write_text(json.dumps(config))
    columns = {**{name: series[name] for name in ("loss", "rho", "eg")}, "lr": np.full(9000, lr)}
    rows = [(k, k, "online", "total", name, float(column[k])) for name, column in columns.items() for k in range(9000)]
    write_bytes(folder / "metrics" / "part-00000.parquet", part_bytes(to_table(rows)))
    return folder


@pytest.mark.parametrize("form", ["lab", "monitor"])
def test_momentum_has_the_clock_and_the_elr_of_plain_sgd_at_the_rate_that_acts(tmp_path, form):
    """The same weights, told as SGD at 0.1 and as SGD at 0.01 with momentum 0.9: one answer."""
    plain = find_periods(momentum_run(tmp_path / "plain", form))
    found = find_periods(momentum_run(tmp_path / "momentum", form, momentum=0.9, lr=0.01))
    assert found.verdict == plain.verdict == "periodic"
    # float32 records: lr 0.01 and 0.1 are rounded apart by 1e-7
    assert found.unit == pytest.approx(plain.unit, rel=1e-6)
    assert found.interval_time.mean == pytest.approx(plain.interval_time.mean, rel=1e-6)
    assert [p.elr for p in found.periods] == pytest.approx([p.elr for p in plain.periods], rel=1e-6)
    assert [p.settled for p in found.periods] == [p.settled for p in plain.periods]
    assert any(sentence.startswith("Momentum: a gradient acts 10 times") for sentence in found.evidence)
    assert not any(sentence.startswith("Momentum") for sentence in plain.evidence)


def test_dampening_takes_back_what_momentum_gives_and_does_nothing_alone(tmp_path):
    plain = find_periods(momentum_run(tmp_path / "plain", "monitor"))
    both = find_periods(momentum_run(tmp_path / "both", "monitor", momentum=0.9, dampening=0.9))
    alone = find_periods(momentum_run(tmp_path / "alone", "monitor", dampening=0.9))
    assert both.unit == pytest.approx(plain.unit, rel=1e-12)
    assert alone.unit == pytest.approx(plain.unit, rel=1e-12)
    assert alone.equilibrium is not None  # torch dampens its buffer only: without momentum this is plain SGD


@pytest.mark.parametrize("form", ["lab", "monitor"])
def test_coupled_decay_of_adam_has_no_clock_of_its_own(tmp_path, form):
    """Decay that passes through Adam's normalisation does not shrink the norm by lr wd: the norm gives the clock."""
    adam = find_periods(momentum_run(tmp_path / "adam", form, optimizer="adam", lr=0.001))
    assert adam.log.clock == "estimated"
    assert adam.unit == pytest.approx(1000, rel=0.05)
    adamw = find_periods(momentum_run(tmp_path / "adamw", form, optimizer="adamw"))
    assert adamw.log.clock == "given"
    assert adamw.unit == pytest.approx(1000, rel=1e-3)


@pytest.mark.slow
def test_a_trained_network_with_momentum_breaks_down_like_plain_sgd_at_the_rate_that_acts(tmp_path):
    """ConvNet on digits: SGD at 0.3, and at 0.03 with momentum 0.9. Before the first period both norms fall alike."""
    from scaleinv.lab.config import Settings
    from scaleinv.studies.obtain import Request, obtain_many

    settings = Settings(data="digits", model="convnet", weight_decay=4e-3, steps=450, eval_every=1, evaluation="online")
    requests = [
        Request(settings=settings, lr=0.3),
        Request(settings=replace(settings, momentum=0.9), lr=0.03),
    ]
    plain, momentum = (find_periods(folder) for folder in obtain_many(tmp_path, requests))
    assert momentum.unit == pytest.approx(plain.unit, rel=1e-4)
    assert momentum.log.elr[300:].mean() == pytest.approx(plain.log.elr[300:].mean(), rel=0.5)
