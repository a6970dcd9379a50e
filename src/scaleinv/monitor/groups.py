"""Decide which tensors are measured together, under which names, and what is known about their scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.symmetry.result import Symmetries

FREE = "scale-invariant"
UNKNOWN = "scale unknown"
DEAD = "dead"
AFFINE = "scale-invariant vectors"
PARTIAL = "partly scale-invariant"
OWN = "own scale"

Given = Symmetries | Mapping[str, Any] | Iterable[Any]


@dataclass(frozen=True)
class Group:
    """Tensors measured together; ``kind`` says what is known about their scale."""

    name: str
    kind: str
    tensors: tuple[Tensor, ...] = field(repr=False)

    @property
    def scale_free(self) -> bool:
        return self.kind == FREE

    @property
    def size(self) -> int:
        """How many numbers."""
        return sum(t.numel() for t in self.tensors)


def bare(model: nn.Module) -> nn.Module:
    """Find the model inside ``torch.compile`` and DistributedDataParallel."""
    while True:
        if isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        elif isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            model = model.module
        else:
            return model


def clean(name: str) -> str:
    """Strip a parameter's name of what wrappers put into it."""
    for part in ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."):
        name = name.replace(part, "")
    return name


def short_name(name: str) -> str:
    """Name a joint group by its first tensor; the whole name is in the history."""
    first, *others = name.split("+")
    return f"{first} + {len(others)} more" if others else name


def parameter_names(model: nn.Module) -> dict[int, str]:
    """Map the id of each parameter to its (first) name; tied weights have one entry."""
    return {id(p): clean(n) for n, p in bare(model).named_parameters()}


def held(optimizer: Optimizer) -> list[Tensor]:
    """List the tensors of an optimizer in the order of its groups."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def make_groups(model: nn.Module, tensors: Sequence[Tensor], given: Given | None) -> list[Group]:
    """Make groups that cover ``tensors``: first the scale-invariant ones, then every other tensor by itself."""
    named = {clean(n): p for n, p in bare(model).named_parameters()}
    names = {id(p): n for n, p in named.items()}
    known = {id(t) for t in tensors}
    free: dict[str, tuple[Tensor, ...]] = {}
    kinds: dict[str, str] = {}
    if isinstance(given, Symmetries):
        if given.verdict == "clear":
            free, kinds = _found(named, given, known)
    elif given is not None:
        free = _by_hand(named, names, given, known)
    groups = [Group(name, FREE, members) for name, members in free.items()]
    taken = {id(t) for g in groups for t in g.tensors}
    spare = 0
    for t in tensors:
        if id(t) in taken:
            continue
        taken.add(id(t))
        name = names.get(id(t))
        if name is None:
            name, spare = f"outside the model {spare}", spare + 1
        groups.append(Group(name, kinds.get(name, UNKNOWN), (t,)))
    return groups


def _found(
    named: Mapping[str, Tensor], found: Symmetries, known: set[int]
) -> tuple[dict[str, tuple[Tensor, ...]], dict[str, str]]:
    free: dict[str, tuple[Tensor, ...]] = {}
    kinds = dict.fromkeys(named, OWN)
    kinds.update(dict.fromkeys([*found.single, *(n for j in found.joint for n in j)], AFFINE))
    kinds.update(dict.fromkeys([p.name for p in found.partial], PARTIAL))
    kinds.update(dict.fromkeys(found.dead, DEAD))
    for name, members in found.select(frozen=True):
        tensors = tuple(named[m] for m in members if m in named)
        if len(tensors) != len(members):
            raise UserError(
                f"the symmetries given are of another model: it has no parameter {members[0]!r}; pass its own"
            )
        if all(id(t) in known for t in tensors):
            free[name] = tensors
        else:  # some of it is in no optimizer, so its norm does not move as a whole
            kinds.update(dict.fromkeys(members, UNKNOWN))
    return free, kinds


def _by_hand(
    named: Mapping[str, Tensor], names: Mapping[int, str], given: Any, known: set[int]
) -> dict[str, tuple[Tensor, ...]]:
    def tensor(item: Any) -> Tensor:
        if isinstance(item, str):
            if item not in named:
                raise UserError(f"groups: the model has no parameter {item!r}; see model.named_parameters()")
            item = named[item]
        if not isinstance(item, Tensor):
            raise UserError(f"groups: {item!r} is a {type(item).__name__}, not a parameter and not the name of one")
        if id(item) not in known:
            raise UserError(
                f"groups: {names.get(id(item), 'a tensor')} is not held by the optimizer; add it there first"
            )
        return item

    def members(item: Any) -> tuple[Tensor, ...]:
        return (tensor(item),) if isinstance(item, (str, Tensor)) else tuple(tensor(i) for i in item)

    if isinstance(given, Mapping):
        result = {str(name): members(item) for name, item in given.items()}
    else:
        made = [members(item) for item in given]
        result = {"+".join(names.get(id(t), "tensor") for t in m): m for m in made}
    flat = [id(t) for m in result.values() for t in m]
    if any(not m for m in result.values()):
        raise UserError("groups: a group is empty; leave it out")
    if len(set(flat)) != len(flat):
        raise UserError("groups: a tensor stands in two groups; each belongs to one")
    if "total" in result:
        raise UserError("groups: 'total' is the name of all groups together; choose another")
    return result


@dataclass(frozen=True)
class Roster:
    """All that is measured; made anew when a parameter comes or goes. A step is read with the roster of its time."""

    tensors: tuple[Tensor, ...]
    groups: list[Group]
    names: dict[int, str]  # id of a parameter of the model -> its name, in the order of the model
    owner: dict[int, int]  # id of a tensor -> place of its group
    titles: tuple[str, ...]  # "total", then the groups

    @classmethod
    def of(cls, model: nn.Module, optimizers: Sequence[Optimizer], given: Given | None) -> Roster:
        """Group all tensors that the optimizers hold."""
        tensors = _present(optimizers)
        groups = make_groups(model, tensors, given)
        owner = {id(t): i for i, g in enumerate(groups) for t in g.tensors}
        titles = ("total", *(g.name for g in groups))
        return cls(tuple(tensors), groups, parameter_names(model), owner, titles)

    def is_of(self, optimizers: Sequence[Optimizer]) -> bool:
        """Tell whether the optimizers still hold just these tensors."""
        present = _present(optimizers)
        return len(present) == len(self.tensors) and all(a is b for a, b in zip(present, self.tensors))


def _present(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    return [p for one in optimizers for p in held(one)]
