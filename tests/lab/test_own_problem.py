"""Problems of one's own: what is measured before training, what is refused, that a run resumes the same."""

from __future__ import annotations

import functools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.lab import own
from torch import nn
from torch.utils.data import IterableDataset, TensorDataset

import scaleinv as si
from scaleinv.errors import UserError
from scaleinv.lab.config import Settings
from scaleinv.lab.resolve import resolve
from scaleinv.lab.splits import Held, Streamed
from scaleinv.lab.train import RunEvent, run


def config_of(problem: Any, *, seed: int = 0, elr: float = 0.05, **settings: Any) -> Any:
    return resolve(Settings(**{"epochs": 3, **settings}), problem, elr=elr, lr=None, seed=seed, threads=1)


# -- what is measured before training ----------------------------------------------------------------------------------


def test_three_equal_classes_are_guessed_in_two_of_three_cases() -> None:
    config = config_of(own.problem())
    assert config.classes == 3
    assert config.chance_error == pytest.approx(2 / 3)
    assert config.constant_loss == pytest.approx(math.log(3))


def test_unequal_classes_are_guessed_by_the_most_frequent_one() -> None:
    x, _ = own.arrays(200)
    labels = np.array([0] * 150 + [1] * 30 + [2] * 20)
    problem = si.classification(own.make_net, (x, labels))
    assert problem.chance_error == pytest.approx(0.25)
    shares = np.array([0.75, 0.15, 0.1])
    assert problem.constant_loss == pytest.approx(-float(np.sum(shares * np.log(shares))))


def test_the_constant_loss_of_a_regression_is_the_variance_of_its_targets() -> None:
    problem = own.regression()
    config = config_of(problem)
    assert (config.classes, config.chance_error) == (None, None)
    assert config.constant_loss == pytest.approx(float(problem.splits["train"].targets.var(unbiased=False)), rel=1e-5)


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 4.0]])
def test_the_constant_loss_of_a_smoothed_and_weighted_cross_entropy(weights: list[float] | None) -> None:
    """Against the minimum over a fine grid of softmax answers, by the same formula written out."""
    loss = nn.CrossEntropyLoss(label_smoothing=0.1, weight=None if weights is None else torch.tensor(weights))
    config = config_of(si.classification(own.make_net, own.arrays(), loss=loss))
    labels = torch.as_tensor(own.arrays()[1])
    w = torch.tensor(weights or [1.0, 1.0, 1.0], dtype=torch.float64)
    target = torch.full((len(labels), 3), 0.1 / 3, dtype=torch.float64)
    target[torch.arange(len(labels)), labels] += 0.9
    grid = torch.linspace(0.01, 0.98, 195, dtype=torch.float64)
    p = torch.tensor(
        [(a, b, 1 - a - b) for a in grid.tolist() for b in grid.tolist() if a + b < 0.995], dtype=torch.float64
    )
    levels = -(torch.log(p) @ (target * w).mean(0)) / w[labels].mean()
    assert config.constant_loss == pytest.approx(float(levels.min()), rel=1e-3)


def test_several_labels_at_once_are_judged_by_the_loss_alone() -> None:
    x, labels = own.arrays()
    targets = np.stack([labels == 0, labels > 0, np.ones(len(labels)) * 0.5], axis=1).astype(np.float32)
    config = config_of(si.classification(own.make_net, (x, targets), loss="bce"))
    h = -(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3))
    assert config.chance_error is None
    assert config.constant_loss == pytest.approx((2 * h + math.log(2)) / 3, rel=1e-5)


def test_chance_and_constant_loss_of_tokens_are_those_of_their_frequencies() -> None:
    problem = own.language()
    train = own.tokens()[:1080]
    p = np.bincount(train) / len(train)
    assert problem.chance_error == pytest.approx(1 - p.max())
    assert problem.constant_loss == pytest.approx(-float(np.sum(p * np.log(p))))
    inputs, targets = problem.split("train").batch(torch.tensor([2]))
    assert inputs[0].tolist() == train[32:48].tolist()
    assert targets[0].tolist() == train[33:49].tolist()


# -- data --------------------------------------------------------------------------------------------------------------


def test_a_data_set_that_does_not_change_is_held_in_memory_and_one_that_does_is_read() -> None:
    plain = si.classification(own.make_net, own.Plain())
    assert isinstance(plain.split("train"), Held)
    x, y = own.arrays()
    assert torch.equal(plain.split("train")[0], torch.as_tensor(x).float())
    assert isinstance(own.jittered().split("train"), Streamed)
    tensors = TensorDataset(torch.as_tensor(x), torch.as_tensor(y))
    assert isinstance(si.classification(own.make_net, tensors).split("train"), Held)


def test_examples_as_dicts_are_read() -> None:
    rows = [{"x": np.ones((2, 12), np.float32) * k, "labels": k % 3} for k in range(9)]
    split = si.classification(own.make_net, rows).split("train")
    assert split[0].shape == (9, 2, 12)
    assert split[1].tolist() == [k % 3 for k in range(9)]


class _Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter(())


X, Y = own.arrays()


class _Broken(torch.utils.data.Dataset[Any]):
    """A data set of which one file is cut off."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> Any:
        if index == 17:
            raise OSError("17.jpg\nis cut off")
        return torch.ones(4) * index, index % 3


class _Ragged(_Broken):
    """Examples of two shapes."""

    def __getitem__(self, index: int) -> Any:
        return torch.ones(4 + index % 2), index % 3


@pytest.mark.parametrize(
    ("train", "options", "message"),
    [
        (_Endless(), {}, "can only be iterated"),
        ((X, Y[:-1]), {}, "96 inputs and 95 targets"),
        ((np.where(np.arange(96)[:, None, None] == 5, np.nan, X), Y), {}, "NaN or infinity, first in example 5"),
        ((X, Y - 1), {}, "the labels begin at -1"),
        ((X, np.zeros(96, int)), {}, "all train labels are 0"),
        (((X * 9).astype(np.uint8), Y), {}, "are bytes"),
        ((X, Y), {"loss": "cee"}, "unknown loss 'cee', did you mean 'ce'?"),
        ((X, Y), {"loss": "bce"}, "needs floating targets"),
        ((X, Y), {"loss": nn.CrossEntropyLoss(reduction="sum")}, "reduction='sum'"),
        ((X, Y), {"loss": nn.BCEWithLogitsLoss(weight=None, reduction="none")}, "reduction='none'"),
        ((X, np.array(["cat", "dog"])[Y % 2]), {}, "they are texts; number them"),
        ((torch.eye(96).to_sparse(), Y), {}, "inputs are sparse; give them dense"),
        (_Broken(), {}, "example 17 of the data cannot be read: OSError: 17.jpg is cut off"),
        (_Ragged(), {}, "examples of the train data cannot be put together: RuntimeError: stack expects"),
        (X, {}, "give (inputs, targets)"),
        ((X, X, Y), {}, "is 3 arrays; give (inputs, targets), several inputs as one"),
    ],
)
def test_data_that_cannot_be_used_is_told_at_once(train: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        si.classification(own.make_net, train, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ("to be or not to be", "the tokens are a text; give whole numbers, such as np.frombuffer"),
        ("to be: or not", "the tokens are a text"),
        (np.full(400, 7), "all train tokens are 7"),
        (np.arange(400.0), "give whole numbers"),
    ],
)
def test_tokens_that_cannot_be_used_are_told_at_once(tokens: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        si.language_model(own.make_net, tokens, context=8)
    assert "\n" not in str(caught.value)


def test_arrays_that_are_only_read_are_taken_without_a_word() -> None:
    inputs = X.copy()
    inputs.flags.writeable = False  # as those of pandas and of memory maps; torch warns of them
    assert (
        si.classification(own.make_net, (inputs, Y)).fingerprint == si.classification(own.make_net, (X, Y)).fingerprint
    )


class _Ever:
    """A factory that keeps a generator of its own: other weights every time."""

    def __init__(self) -> None:
        self.draw = torch.Generator().manual_seed(0)

    def __call__(self) -> nn.Module:
        net = own.make_net()
        with torch.no_grad():
            next(net.parameters()).normal_(generator=self.draw)
        return net


def _broken() -> nn.Module:
    raise RuntimeError("no weights today")


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (_broken, {}, "cannot be made: RuntimeError: no weights today"),
        (lambda: 3, {}, "is int, not a torch.nn.Module"),
        (_Ever(), {}, "starts with other weights when it is made again for seed 0"),
        (functools.partial(own.make_net, classes=2), {}, "labels are 0 to 1"),
        (
            functools.partial(nn.Linear, 4, 3),
            {},
            "refuses inputs of shape (16, 2, 12); its first weight has the shape (3, 4)",
        ),
        (
            own.make_net,
            {"loss": lambda o, t: nn.functional.cross_entropy(o, t, reduction="none")},
            "is no scalar but (16,)",
        ),
        (
            own.make_net,
            {"loss": lambda o, t: nn.functional.cross_entropy(o, t, reduction="sum")},
            "is a sum over the batch",
        ),
        (own.make_net, {"loss": lambda o, t: o.detach().mean()}, "has no gradient"),
        (own.make_net, {"loss": lambda o, t: o.mean() / 0}, "on the first batch, before training"),
        (own.make_net, {"error": lambda o, t: o.argmin(7)}, "the error of make_net on arrays refuses outputs of shape"),
        (own.make_net, {"test": (X[:, :1], Y)}, "refuses test inputs of shape (16, 1, 12); its first weight"),
        (own.make_net, {"test": (X, Y + 1)}, "the test labels of make_net on arrays are 1 to 3, and the model gives 3"),
        (
            own.make_net,
            {"loss": lambda o, t: nn.functional.mse_loss(o, nn.functional.one_hot(t, 3).float()), "test": (X, Y * 1.0)},
            "the loss of make_net on arrays refuses outputs of shape (16, 3) with targets of shape (16,)",
        ),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(24, 3)), {}, "has no scale-invariant weights"),
        (
            own.make_net,
            {"train": (X, Y * 1.0)},
            "labels of classes are whole numbers of the shape (16,), such as y.ast",
        ),
        (
            own.make_net,
            {"train": (X, Y[:, None])},
            "labels of classes are whole numbers of the shape (16,), such as y[",
        ),
        (
            functools.partial(own.make_net, classes=1),
            {"train": (X, Y % 2), "loss": nn.BCEWithLogitsLoss()},
            "1 number for an example: labels are 0 to 0; for a single number give targets as float32, and loss bce",
        ),
    ],
)
def test_a_problem_that_cannot_be_trained_is_told_before_anything_is_written(
    tmp_path: Path, model: Any, options: dict[str, Any], message: str
) -> None:
    problem = si.classification(model, **{"train": (X, Y), **options})
    with pytest.raises(UserError) as caught:
        si.sweep(problem, elr="0.1,1", epochs=1, out=tmp_path / "out", workers=1, quiet=True)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("loss", ["mse", "l1", "huber", "bce"])
def test_numbers_that_would_be_taken_each_against_all_others_are_refused(tmp_path: Path, loss: str) -> None:
    """Of shape (N, 1) against (N,), which torch only warns of."""
    problem = si.classification(functools.partial(own.make_net, classes=1), (X, Y / 2), loss=loss)
    with pytest.raises(UserError, match=r"refuses outputs of shape \(16, 1\) with targets of shape \(16,\)"):
        si.sweep(problem, elr="0.1,1", epochs=1, out=tmp_path / "out", workers=1, quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_network_that_is_made_already_is_refused() -> None:
    with pytest.raises(UserError, match="give the function or class that makes it"):
        si.classification(own.make_net(), (X, Y))


# -- a run resumes the same --------------------------------------------------------------------------------------------


class _Stop(Exception):
    pass


def _rows(folder: Path) -> list[Any]:
    run_ = si.load(folder)
    return [(key, s.steps.tolist(), s.values.astype(np.float64).tobytes()) for key, s in sorted(run_.metrics.items())]


@pytest.mark.parametrize("name", ["problem", "jittered", "regression", "language"])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """With dropout, and with a transform of the data set that draws at random."""
    make = getattr(own, name)
    run(config_of(make()), make(), tmp_path / "whole")
    monkeypatch.setattr("scaleinv.lab.train.CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr("scaleinv.lab.train.CHECKPOINT_SHARE", math.inf)

    def stop(event: RunEvent) -> None:
        if event.kind == "epoch" and event.epoch == 2:
            raise _Stop

    with pytest.raises(_Stop):
        run(config_of(make()), make(), tmp_path / "parts", watch=stop)
    resumed: list[int] = []
    torch.manual_seed(99)  # what the global generator holds must not matter

    def note(event: RunEvent) -> None:
        if event.kind == "resumed":
            resumed.append(event.step)

    run(config_of(make()), make(), tmp_path / "parts", watch=note)
    assert resumed
    assert 0 < resumed[0] < config_of(make()).steps
    whole, parts = (_last(tmp_path / f) for f in ("whole", "parts"))
    assert all(torch.equal(whole[n], parts[n]) for n in whole)
    assert _rows(tmp_path / "whole") == _rows(tmp_path / "parts")


def _last(folder: Path) -> dict[str, torch.Tensor]:
    (checkpoint,) = (folder / "checkpoints").glob("step-*")
    return load_file(checkpoint / "weights.safetensors")


def test_the_global_generators_are_left_as_they_were(tmp_path: Path) -> None:
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    expected = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    run(config_of(own.jittered(), epochs=1), own.jittered(), tmp_path / "run")
    assert torch.equal(torch.rand(3), expected[0])
    assert (np.random.rand(3) == expected[1]).all()  # noqa: NPY002
    assert random.random() == expected[2]


# -- identity ----------------------------------------------------------------------------------------------------------


def test_the_identity_follows_data_loss_arguments_and_start() -> None:
    x, y = own.arrays()
    problems = [
        own.problem(),
        si.classification(own.make_net, (x, y), own.arrays(48, 2)),
        si.classification(own.make_net, (x, y), own.arrays(48, 1), loss=own.smooth),
        si.classification(own.make_net, (x, y), own.arrays(48, 1), args={"width": 9}),
        si.classification(functools.partial(own.make_net, 9), (x, y), own.arrays(48, 1)),
    ]
    identities = {config_of(one).identity() for one in problems} | {config_of(own.problem(), seed=1).identity()}
    assert len(identities) == 6
    assert config_of(own.problem()).identity() == config_of(own.problem()).identity()


class _Net(nn.Module):
    slope = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.body = own.make_net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x + self.slope)  # type: ignore[no-any-return]


def test_a_changed_forward_is_caught_by_the_first_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    problem = si.classification(_Net, own.arrays())
    config = config_of(problem, epochs=1)
    run(config, problem, tmp_path / "run")
    before = (tmp_path / "run" / "config.json").read_bytes()
    assert json.loads(before)["problem"]["first_loss"] > 0
    monkeypatch.setattr(_Net, "slope", 1.0)
    changed = si.classification(_Net, own.arrays())
    with pytest.raises(
        UserError, match=r"the first batch has the loss .* the code of the model, the loss or the data has"
    ):
        run(config, changed, tmp_path / "run")
    assert (tmp_path / "run" / "config.json").read_bytes() == before


def test_other_initial_weights_are_another_run(tmp_path: Path) -> None:
    problem = si.classification(own.make_net, own.arrays())
    config = config_of(problem, epochs=1)
    run(config, problem, tmp_path / "run")
    with pytest.raises(UserError, match="starts with other weights than when the run was made"):
        run(config_of(problem, seed=0, epochs=1), _changed(problem), tmp_path / "run")


def _changed(problem: Any) -> Any:
    def other() -> nn.Module:
        net = own.make_net()
        with torch.no_grad():
            next(net.parameters()).mul_(1.5)
        return net

    changed = si.classification(other, own.arrays())
    changed.fingerprint = problem.fingerprint
    return changed
