"""Run ``scaleinv doctor``."""

import contextlib
import json
import math
import sys
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from scaleinv.cli.doctor import DoctorCommand, parse_inputs
from scaleinv.errors import UserError
from scaleinv.lab.devices import float64_device
from scaleinv.lab.splits import moved
from scaleinv.plugins import load_object
from scaleinv.runfolder.files import write_bytes
from scaleinv.runfolder.memory import require
from scaleinv.studies.terminal import Terminal, say
from scaleinv.symmetry.check import differences, read_expected
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.groups import ParamGroups, param_groups
from scaleinv.symmetry.inputs import load_model, random_inputs
from scaleinv.symmetry.render import html_page, terminal_table
from scaleinv.symmetry.render_optimizer import optimizer_html, optimizer_lines
from scaleinv.symmetry.result import Symmetries
from scaleinv.symmetry.review import OptimizerReview, builtin_optimizer, review_optimizer
from scaleinv.theory.optimizers import traits_of_names
from scaleinv.theory.rates import Law

_OPTIMIZER = "name one of torch.optim's (sgd, adamw), or FILE.py:FUNCTION, a function that takes the model"

#: of a number of the inputs: itself, in float64, moved by two steps, and what the layers make of it
_BYTES = 40
#: exit status where the evidence does not decide
UNDECIDED = 3


def run(command: DoctorCommand) -> int:
    """Find the groups and print them.

    Exit status 0: groups printed and as expected. 1: groups differ from --expect. 3: the answer is undecided.
    """
    expected = read_expected(command.expect) if command.expect is not None else None
    device = float64_device(command.device)
    described = parse_inputs(command.input)
    numbers = sum(math.prod(shape) for shape, _ in described.values())
    require(_BYTES * numbers, f"an input of {numbers:.3g} numbers", "a small batch is enough")
    inputs = random_inputs(described, command.seed)
    model = load_model(command.model)
    if device != "cpu":
        model, inputs = model.to(device), moved(inputs, torch.device(device))
    with contextlib.redirect_stdout(sys.stderr):  # what the model prints is not the answer
        found = find_symmetries(model, inputs, seed=command.seed, outputs=command.output or None)
    advice = _advice(command, model, found) if command.optimizer is not None else None
    lr, law = (command.lr, None) if advice is None else (advice.lr, advice.law)
    if command.html is not None:
        more = "" if advice is None else optimizer_html(advice.title, advice.review, advice.groups)
        page = html_page(found, command.model, lr, law, more)
        write_bytes(command.html, page.encode(), named=True, advice="choose another --html")
    if command.json:
        added = {} if advice is None else {"optimizer": advice.review.to_dict(), "groups": advice.groups.to_dict()}
        say(json.dumps(found.to_dict() | added, indent=1, allow_nan=False))
    else:
        console = Terminal()
        below = [] if advice is None else optimizer_lines(advice.title, advice.review, advice.groups)
        for line in [*terminal_table(found, lr, law), *below]:
            console.print(line)
    lines = differences(found, expected) if expected is not None else []
    for line in lines:
        say(line, file=sys.stderr)
    if found.verdict != "clear":
        return UNDECIDED
    return 1 if lines else 0


class _Advice(NamedTuple):
    title: str
    review: OptimizerReview
    groups: ParamGroups
    lr: float
    law: Law | None


def _advice(command: DoctorCommand, model: nn.Module, found: Symmetries) -> _Advice:
    """Make the optimizer and ask what it does; the proposed groups take its lr and its largest weight decay."""
    name = command.optimizer or ""
    made: Any = builtin_optimizer(name, model, command.lr, command.weight_decay)
    if made is None and ":" not in name:
        raise UserError(f"torch.optim has no optimizer {name!r}; {_OPTIMIZER}")
    if made is None:
        factory = load_object(name, _OPTIMIZER)
        with contextlib.redirect_stdout(sys.stderr):
            made = _called(factory, model, name)
    optimizers = [made] if isinstance(made, Optimizer) else list(made) if isinstance(made, (list, tuple)) else []
    if not optimizers or not all(isinstance(one, Optimizer) for one in optimizers):
        raise UserError(f"{name} gives {type(made).__name__}, not an optimizer or a list of them; {_OPTIMIZER}")
    review = review_optimizer(model, optimizer=optimizers, found=found)
    held = [group for one in optimizers for group in one.param_groups]
    lr = command.lr if command.lr is not None else float(held[0]["lr"])
    decay = max(float(group.get("weight_decay") or 0.0) for group in held)
    groups = param_groups(
        model, lr=lr, weight_decay=decay if command.weight_decay is None else command.weight_decay, found=found
    )
    title = " and ".join(dict.fromkeys(type(one).__name__ for one in optimizers))
    laws = {traits_of_names(kind.__name__ for kind in type(one).__mro__).law for one in optimizers}
    return _Advice(title, review, groups, lr, laws.pop() if len(laws) == 1 else None)


def _called(factory: Any, model: nn.Module, name: str) -> Any:
    try:
        return factory(model)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{name}(model) fails: {type(error).__name__}: {error}; {_OPTIMIZER}") from error
