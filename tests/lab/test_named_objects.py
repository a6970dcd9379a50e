"""What is named is found again: functions, classes, partials, losses; a script is loaded once and not trained."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest
import torch
from tests.lab import own
from torch import nn

from scaleinv.errors import UserError
from scaleinv.lab.config import OPTIMIZERS_OF_TORCH
from scaleinv.lab.optimizers import measured_law, named_optimizer
from scaleinv.lab.own_losses import loss_spec
from scaleinv.lab.references import object_of, reference_to
from scaleinv.plugins import load_object


def test_functions_classes_and_partials_have_names() -> None:
    assert object_of(reference_to(own.make_net)) is own.make_net
    assert object_of(reference_to(nn.Linear)) is nn.Linear
    told = reference_to(functools.partial(own.make_net, width=5))
    again = object_of(json.loads(json.dumps(told)))
    assert (again.func, again.keywords) == (own.make_net, {"width": 5})
    assert reference_to(lambda: 0) is None
    assert reference_to(functools.partial(own.make_net, torch.zeros(1))) is None


@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(label_smoothing=0.2),
        nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), ignore_index=1),
        nn.MultiMarginLoss(margin=0.5),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_a_loss_of_torch_is_made_again_and_weighs_its_batches(loss: nn.Module) -> None:
    """The mean over two batches is that over both together, with class weights and ignored targets too."""
    draw = torch.Generator().manual_seed(0)
    outputs, targets = torch.randn(20, 3, generator=draw), torch.randint(3, (20,), generator=draw)
    spec = loss_spec(loss, integer=True)
    assert not isinstance(spec.reference, str)
    again = loss_spec(json.loads(json.dumps(spec.reference)), integer=True)
    assert again.description == spec.description
    assert torch.equal(again.measure(outputs, targets)[0], loss(outputs, targets))
    parts = [spec.total(outputs[a:b], targets[a:b]) for a, b in ((0, 5), (5, 20))]
    mean = sum(float(total) for total, _ in parts) / sum(float(weight) for _, weight in parts)
    assert mean == pytest.approx(float(loss(outputs, targets)), rel=1e-6)


def test_a_script_is_loaded_once_and_its_training_is_left_out(tmp_path: Path) -> None:
    script = tmp_path / "mine.py"
    script.write_text(
        "import pathlib\n"
        "from scaleinv.studies.own import sweep\n"
        f"with open({str(tmp_path / 'runs.txt')!r}, 'a') as file:\n    file.write('x')\n"
        "def before():\n    return 1\n"
        "sweep(None, elr='0.1,1', out='never', workers=1)\n"
        "def after():\n    return 2\n"
    )
    assert load_object(f"{script}:before")() == 1
    assert load_object(f"{script}:before") is load_object(f"{script}:before")
    assert (tmp_path / "runs.txt").read_text() == "x"
    assert not Path("never").exists()
    with pytest.raises(UserError, match="has no 'after'"):
        load_object(f"{script}:after")


def test_the_law_of_an_optimizer_is_measured() -> None:
    assert measured_law(lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9), "SGD") == "sgd"
    assert measured_law(lambda p: torch.optim.Adam(p, lr=1e-3), "Adam") == "normalised"

    class Root(torch.optim.Optimizer):
        """Steps grow as the root of the gradient: neither law."""

        def __init__(self, params: object) -> None:
            super().__init__(params, {"lr": 1.0})  # type: ignore[arg-type]

        @torch.no_grad()
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            for p in self.param_groups[0]["params"]:
                p.sub_(p.grad.sign() * p.grad.abs().sqrt())

    with pytest.raises(UserError, match="makes steps 4 times as long"):
        measured_law(Root, "Root")


@pytest.mark.parametrize("name", sorted(set(OPTIMIZERS_OF_TORCH) - {"SparseAdam", "Adafactor"}))
@pytest.mark.parametrize("rate", [1e-3, 1.0])
def test_every_optimizer_of_torch_has_a_law(name: str, rate: float) -> None:
    """Adadelta's first steps are a millionth of the weights, below the roundings of float32."""
    if not hasattr(torch.optim, name):
        pytest.skip(f"torch {torch.__version__} has no {name}")
    law = measured_law(lambda p: getattr(torch.optim, name)(p, lr=rate), name)
    assert law == ("sgd" if name in ("SGD", "ASGD", "RAdam") else "normalised")  # RAdam begins with plain momentum


def test_optimizers_are_named() -> None:
    assert named_optimizer("sgd") == ("sgd", {})
    assert named_optimizer(torch.optim.RAdam) == ("RAdam", {})
    assert named_optimizer(functools.partial(torch.optim.Adam, betas=(0.9, 0.95))) == ("Adam", {"betas": [0.9, 0.95]})
    with pytest.raises(UserError, match="holds weights already"):
        named_optimizer(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    with pytest.raises(UserError, match="has no name that can be imported"):
        named_optimizer(lambda params, lr: torch.optim.SGD(params, lr=lr))
