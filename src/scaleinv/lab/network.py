"""Make a user's network, twice the same for one seed, and say which of its weights have no scale."""

import hashlib
import weakref
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from scaleinv.errors import UserError
from scaleinv.lab.global_random import FACTORY, PASS, seeded
from scaleinv.lab.problem import Problem
from scaleinv.lab.random import INIT, generator
from scaleinv.lab.splits import leaves, tree
from scaleinv.symmetry import find_symmetries, make_scale_invariant
from scaleinv.symmetry.result import Symmetries
from scaleinv.text import count

Kept = TypeVar("Kept")
#: examples of the batch that the doctor looks at
PROBED = 32


def make_network(problem: Problem, seed: int, variant: str, head_norm: float) -> nn.Module:
    """Make the network of a seed on the CPU; ``si`` converts it by ``make_scale_invariant``.

    UserError for a factory that fails or gives no Module, and for one without floating parameters.
    """
    with seeded(seed, FACTORY):
        try:
            model = problem.model(generator(seed, INIT))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"the model of {problem.name} cannot be made: {type(error).__name__}: {error}") from error
        if not isinstance(model, nn.Module):
            raise UserError(f"the model of {problem.name} is {type(model).__name__}, not a torch.nn.Module")
        lazy = [name for name, p in model.named_parameters() if isinstance(p, UninitializedParameter)]
        if lazy:
            raise UserError(
                f"the model of {problem.name} has {lazy[0]} of no size yet (a lazy layer); give its size, or call the "
                "model once before it is returned"
            )
        bad = [name for name, p in model.named_parameters() if p.is_floating_point() and not p.isfinite().all()]
        if bad:
            raise UserError(f"the model of {problem.name} starts with {bad[0]} that is not finite")
        model = model.cpu()
        return _converted(problem, model, head_norm or None) if variant == "si" else model


def _converted(problem: Problem, model: nn.Module, head_norm: float | None) -> nn.Module:
    inputs = first_inputs(problem)
    if getattr(problem, "calls_plainly", False):
        with suppress(UserError):
            return make_scale_invariant(model, inputs, head_norm)
    wrapped = make_scale_invariant(_Called(model, problem, inputs), tuple(leaves(inputs)), head_norm)
    assert isinstance(wrapped, _Called)
    return wrapped.model


def first_inputs(problem: Problem, most: int = PROBED) -> Any:
    """Give the inputs of the first examples as the doctor takes them: on the CPU; lists become tuples."""
    train = problem.split("train")
    assert train is not None
    with seeded(0, PASS):
        inputs, _ = train.batch(torch.arange(min(most, len(train)), device="cpu"), torch.device("cpu"))
    return inputs


def weights_checksum(model: nn.Module) -> str:
    """Compute the sha256 of names, shapes and values of all parameters and buffers, hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(
            value.view(torch.uint8).numpy().data if value.ndim else value.reshape(1).view(torch.uint8).numpy()
        )
    return digest.hexdigest()


@dataclass(frozen=True)
class Invariant:
    """The scale-invariant weights of a network, and what is said of them before training."""

    names: tuple[tuple[str, ...], ...]  # the tensors of every group
    tensors: int = 0  # of the network
    share: float = 0.0  # of its weights that are scale-invariant
    scaled: int = 0  # trained tensors that keep a scale
    frozen: int = 0
    doubt: str = ""  # why the doctor is undecided

    def words(self, other_lr: float | None) -> str:
        """Say what is trained on the sphere and what is not; ``other_lr``: of the weights that keep a scale."""
        free, joint = sum(map(len, self.names)), sum(len(group) > 1 for group in self.names)
        text = f"{free} of {self.tensors} tensors are scale-invariant ({self.share:.0%} of the weights"
        text += f", {count(joint, 'group')} of several tensors)" if joint else ")"
        if self.scaled:
            rate = "lr" if other_lr is None else f"other_lr {other_lr:g}"
            fate = "are not trained (other_lr 0)" if other_lr == 0 else f"are trained at {rate}"
            text += f"; {self.scaled} keep a scale and {fate}"
        if self.frozen:
            text += f"; {self.frozen} are frozen"
        return f"{text}; the doctor is undecided: {self.doubt}" if self.doubt else text


_found: "weakref.WeakKeyDictionary[Any, dict[str, Invariant]]" = weakref.WeakKeyDictionary()


def of_problem(table: MutableMapping[Any, dict[Any, Kept]], problem: Problem) -> dict[Any, Kept]:
    """Return what a weak table keeps of a problem; an empty dict for one that cannot be referred to weakly."""
    try:
        return table.setdefault(problem, {})
    except TypeError:
        return {}


def names_of_groups(problem: Problem, model: nn.Module, variant: str) -> Invariant:
    """Find the groups of a network once a problem; one that has them already (``groups``) is taken at its word.

    UserError, with the doctor's reason and the call that would help, where no weight is scale-invariant.
    """
    known = getattr(problem, "groups", None)
    kept = of_problem(_found, problem)
    if variant not in kept:
        if isinstance(known, Mapping) and variant in known:
            return Invariant(tuple(tuple(group) for group in known[variant]))
        kept[variant] = _find(problem, model, variant)
        if isinstance(known, dict):
            known[variant] = [list(group) for group in kept[variant].names]
    return kept[variant]


def _find(problem: Problem, model: nn.Module, variant: str) -> Invariant:
    inputs = first_inputs(problem)
    try:
        found = _symmetries(problem, model, inputs)
    except UserError as error:
        raise UserError(f"the doctor cannot look at the model of {problem.name}: {error}") from error
    groups = tuple(tensors for _, tensors in found.groups)
    if not groups:
        help_ = (
            "scaleinv.make_scale_invariant(model, inputs, insert_norms=True) puts norms where they are missing"
            if variant == "si"
            else "variant='si' (scaleinv.make_scale_invariant) removes affine parameters, freezes the last layer and "
            "says which norms are missing"
        )
        raise UserError(
            f"the model of {problem.name} has no scale-invariant weights, so there is no sphere to train on "
            f"({found.headline()}); {help_}"
        )
    parameters = dict(model.named_parameters())
    free = {name for group in groups for name in group}
    frozen = sum(not p.requires_grad for name, p in parameters.items() if name not in free)
    weights = sum(parameters[name].numel() for name in free) / sum(p.numel() for p in parameters.values())
    doubt = "" if found.verdict == "clear" else str(found.evidence["reason"])
    return Invariant(groups, len(parameters), weights, len(parameters) - len(free) - frozen, frozen, doubt)


def _symmetries(problem: Problem, model: nn.Module, inputs: Any) -> Symmetries:
    if getattr(problem, "calls_plainly", False):
        with suppress(UserError):  # it may answer with an object that has logits, which the problem takes out
            return find_symmetries(model, inputs, defect=False)
    wrapped = _Called(model, problem, inputs)
    return _renamed(find_symmetries(wrapped, tuple(leaves(inputs)), defect=False))


class _Called(nn.Module):
    """A network called as its problem calls it; takes the tensors of the inputs one by one."""

    def __init__(self, model: nn.Module, problem: Problem, inputs: Any) -> None:
        super().__init__()
        self.model, self.problem, self.form = model, problem, inputs

    def forward(self, *tensors: Tensor) -> Any:
        given = iter(tensors)
        return self.problem.call(self.model, tree(lambda _: next(given), self.form))


def _renamed(found: Symmetries) -> Symmetries:
    """Take the wrapper's name off the names of tensors."""

    def bare(name: str) -> str:
        return name.removeprefix("model.")

    changed: dict[str, Any] = {
        "single": tuple(map(bare, found.single)),
        "joint": tuple(tuple(map(bare, group)) for group in found.joint),
        "frozen": tuple(map(bare, found.frozen)),
        "dead": tuple(map(bare, found.dead)),
        "fixed": tuple(map(bare, found.fixed)),
        "shapes": {bare(name): shape for name, shape in found.shapes.items()},
    }
    return replace(found, **changed)
