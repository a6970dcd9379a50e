"""A data set with other than ten classes, from its tensors to the page: nothing is judged as if it had ten."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.data import Dataset, load_dataset
from scaleinv.lab.resolve import resolve
from scaleinv.lab.train import run
from scaleinv.report import write_report
from scaleinv.runfolder.read import load_run
from scaleinv.studies.regime_map import regime_map, run_row, verdict_of
from scaleinv.studies.sweep import SweepConfig, run_sweep
from scaleinv.theory import guessing

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))
from folders import write_run

CONSTANT = {"ce": math.log, "mse": lambda c: (c - 1) / c**2}
#: eps as small as float32 allows: at the ELRs of these tests, deep in regime 3, rows become tiny
SETTINGS = Settings(model="mlp", width=16, batch_size=16, epochs=24, evaluation="online", norm_eps=1e-12)


def made(classes: int, labels: torch.Tensor | None = None) -> Dataset:
    """128 images of equally frequent classes (or with the labels given): a class's own image and noise."""
    draw = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % classes if labels is None else labels
    centres = torch.randn(classes, 1, 8, 8, generator=draw)
    images = centres[labels.clamp(0, classes - 1)] + torch.randn(len(labels), 1, 8, 8, generator=draw)
    return Dataset(
        name="mine",
        train_images=images,
        train_labels=labels,
        test_images=images[:16],
        test_labels=labels[:16],
        classes=classes,
        fingerprint=f"mine, {classes} classes",
        pad_value=(0.0,),
    )


def settings_of(loss: str) -> Settings:
    return dataclasses.replace(SETTINGS, loss=loss, head_norm=1.5 if loss == "mse" else 10.0)


@pytest.mark.parametrize("loss", ["ce", "mse"])
@pytest.mark.parametrize("classes", [2, 4])
def test_a_run_is_judged_by_its_own_classes(tmp_path: Path, classes: int, loss: str) -> None:
    """At ELR 3 the network guesses: over 6 seeds and two sets of kernels the mean error was 0.43 to 0.56 of 2 classes
    and 0.74 to 0.80 of 4, each within its scatter of chance, and below what chance is among ten classes.
    """
    data = made(classes)
    config = resolve(settings_of(loss), data, elr=3.0, lr=None, seed=0, threads=1)
    assert (config.data, config.classes, config.chance_error) == ("mine", classes, 1 - 1 / classes)
    assert config.constant_loss == CONSTANT[loss](classes)
    run(config, data, tmp_path / "run")
    stored = json.loads((tmp_path / "run/config.json").read_text())["config"]
    assert (stored["classes"], stored["chance_error"]) == (classes, 1 - 1 / classes)
    found, verdict = verdict_of(tmp_path / "run")
    assert verdict.evidence["chance_error"] == 1 - 1 / classes
    assert verdict.evidence["threshold"] == 0.01 * CONSTANT[loss](classes)
    assert "is chance, consecutive iterates are uncorrelated" in verdict.evidence["reason"]
    assert found.has("reference_limit", "direction-0", "loss")  # measured of runs that guess
    assert found.result is not None
    assert found.result["evidence"] is None  # nobody has stored a verdict: the page makes its own
    page = write_report(tmp_path / "run").read_text()
    assert "is chance, consecutive iterates are uncorrelated" in page
    assert "mine" in page


def test_the_map_of_a_sweep_over_four_classes(tmp_path: Path) -> None:
    data = made(4)
    base = resolve(settings_of("ce"), data, elr=1.0, lr=None, seed=0, threads=1)
    sweep = SweepConfig(base, "elr", (1e-3, 1.0, 3.0), (0,))
    outcomes = run_sweep(sweep, data, tmp_path, workers=1)
    rows = [run_row(*verdict_of(outcome.job.folder)) for outcome in outcomes]
    assert [row["regime"] for row in rows[1:]] == [3, 3]
    for row in rows:
        assert row["evidence"]["chance_error"] == 0.75
        assert row["evidence"]["threshold"] == 0.01 * math.log(4)
    (tmp_path / "sweep.json").write_text(json.dumps(regime_map(rows, "elr", {}), default=str))
    page = write_report(tmp_path).read_text()
    assert page.count("<dt>threshold</dt><dd>0.01386</dd><dt>chance error</dt><dd>0.75</dd>") == 3


def test_an_older_sweep_goes_on(tmp_path: Path) -> None:
    """sweep-config.json of before the derived fields is that of the same sweep."""
    data = load_dataset("digits", subset=32)
    settings = dataclasses.replace(SETTINGS, subset=32, epochs=1)
    sweep = SweepConfig(resolve(settings, data, elr=0.1, lr=None, seed=0, threads=1), "elr", (0.1,), (0,))
    (outcome,) = run_sweep(sweep, data, tmp_path, workers=1)
    for name, key in (("sweep-config.json", "sweep"), (f"runs/{outcome.job.folder.name}/config.json", "config")):
        content = json.loads((tmp_path / name).read_text())
        content.pop("checksum", None)  # nor had it one
        fields = content[key].get("base", content[key])
        for derived in ("classes", "chance_error", "constant_loss"):
            del fields[derived]
        (tmp_path / name).write_text(json.dumps(content))
    (again,) = run_sweep(sweep, data, tmp_path, workers=1)
    assert again.result == outcome.result
    assert run(sweep.runs()[0], data, outcome.job.folder) == outcome.result
    assert load_run(outcome.job.folder).chance_error == 0.9


def test_unequal_classes_are_compared_with_the_best_constant_answer(tmp_path: Path) -> None:
    """70 % of the labels are of one class: an error of 30 % needs no look at the images."""
    shares = (0.7, 0.1, 0.1, 0.1)
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([140, 20, 20, 20]))
    data = made(4, labels[torch.randperm(200, generator=torch.Generator().manual_seed(1))])
    assert data.shares() == shares
    config = resolve(settings_of("ce"), data, elr=3.0, lr=None, seed=0, threads=1)
    assert config.chance_error == pytest.approx(0.3)
    assert config.constant_loss == pytest.approx(-sum(p * math.log(p) for p in shares))
    run(config, data, tmp_path)
    _, verdict = verdict_of(tmp_path)
    assert verdict.evidence["chance_error"] == pytest.approx(0.3)
    assert "is chance" in verdict.evidence["reason"]  # some 70 %: guesses err more often than the best constant answer


@pytest.mark.parametrize("size", [2, 16, 128, 512, 1437])
def test_the_first_images_of_a_set_of_the_package_count_as_equal(size: int) -> None:
    for noise in (0.0, 1.0):
        assert load_dataset("digits", subset=size, label_noise=noise).shares() is None


def test_a_class_that_does_not_occur() -> None:
    assert made(4, torch.arange(12) % 3).shares() is None  # a small sample of four may lack one
    shares = made(4, torch.arange(3000) % 3).shares()
    assert shares == (1 / 3, 1 / 3, 1 / 3, 0.0)


@pytest.mark.parametrize(
    ("classes", "labels", "message"),
    [
        (1, torch.zeros(8, dtype=torch.int64), "mine has classes=1: at least two"),
        (4, torch.arange(10), "train labels from 0 to 9, and classes=4: labels are 0 to 3"),
        (4, torch.arange(-1, 3), "train labels from -1 to 2"),
        (4, torch.zeros(0, dtype=torch.int64), "mine has no train labels"),
    ],
)
def test_labels_that_make_no_sense_are_refused(classes: int, labels: torch.Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve(SETTINGS, made(classes, labels), elr=0.1, lr=None, seed=0, threads=1)
    assert "\n" not in str(caught.value)


def test_a_run_is_not_given_other_classes(tmp_path: Path) -> None:
    data = made(4)
    config = resolve(SETTINGS, data, elr=0.1, lr=None, seed=0, threads=1)
    with pytest.raises(UserError, match="not those the run was made for"):
        run(config, dataclasses.replace(data, classes=5), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- folders that do not say -------------------------------------------------------------------------------------------


def test_an_old_folder_of_unknown_data_is_undecided_until_it_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "run", elr=3.0, config={"data": "mine"})  # errors of about 0.9
    _, verdict = verdict_of(tmp_path / "run")
    assert verdict.regime is None
    for word in ("no chance_error", "no constant_loss", '"config" in config.json'):
        assert word in verdict.evidence["reason"]
    assert verdict.evidence["chance_error"] is None
    write_report(tmp_path / "run")

    def tell(**fields: Any) -> None:
        content = json.loads((tmp_path / "run/config.json").read_text())
        content["config"] |= fields
        (tmp_path / "run/config.json").write_text(json.dumps(content))

    tell(classes=100)
    _, verdict = verdict_of(tmp_path / "run")
    assert verdict.evidence["chance_error"] == 0.99
    assert verdict.evidence["threshold"] == 0.01 * math.log(100)
    assert verdict.regime == 2  # an error of 0.9 among a hundred classes is ten times better than guessing
    tell(chance_error="0.99")
    with pytest.raises(UserError, match=r"config\.json: chance_error is '0\.99', not a fraction between 0 and 1"):
        verdict_of(tmp_path / "run")


def test_a_loss_without_a_known_level_is_not_given_that_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scaleinv.lab import losses

    def absolute(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return (logits - torch.nn.functional.one_hot(labels, logits.shape[1])).abs().mean()

    monkeypatch.setitem(losses.LOSSES, "mse", absolute)
    monkeypatch.delitem(guessing.CONSTANT_LOSS, "mse")
    data = made(4)
    settings = dataclasses.replace(SETTINGS, loss="mse")
    low = resolve(settings, data, elr=1e-4, lr=None, seed=0, threads=1)
    assert (low.chance_error, low.constant_loss) == (0.75, None)
    run(low, data, tmp_path / "low")
    _, verdict = verdict_of(tmp_path / "low")
    assert verdict.regime is None
    assert "no constant_loss (its loss" in verdict.evidence["reason"]
    assert "chance_error" not in verdict.evidence["reason"]
    # the error tells guessing all the same; and the level can be told
    run(dataclasses.replace(low, elr=3.0), data, tmp_path / "high")
    assert "is chance" in verdict_of(tmp_path / "high")[1].evidence["reason"]
    run(dataclasses.replace(low, constant_loss=0.25, seed=1), data, tmp_path / "told")
    assert verdict_of(tmp_path / "told")[1].evidence["threshold"] == 0.0025
