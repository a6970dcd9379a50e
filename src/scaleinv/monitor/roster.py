"""The tensors that are measured at present, by group and by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from scaleinv.monitor.groups import Given, Group, held, make_groups, parameter_names


@dataclass(frozen=True)
class Roster:
    """Made anew when a parameter comes or goes; a step that was measured is read with the roster of its time."""

    tensors: tuple[Tensor, ...]
    groups: list[Group]
    names: dict[int, str]  # id of a parameter of the model -> its name, in the order of the model
    owner: dict[int, int]  # id of a tensor -> place of its group
    titles: tuple[str, ...]  # "total", then the groups

    @classmethod
    def of(cls, model: nn.Module, optimizers: Sequence[Optimizer], given: Given | None) -> Roster:
        """All tensors that the optimizers hold."""
        tensors = _present(optimizers)
        groups = make_groups(model, tensors, given)
        owner = {id(t): i for i, g in enumerate(groups) for t in g.tensors}
        titles = ("total", *(g.name for g in groups))
        return cls(tuple(tensors), groups, parameter_names(model), owner, titles)

    def is_of(self, optimizers: Sequence[Optimizer]) -> bool:
        """Whether the optimizers still hold just these tensors."""
        present = _present(optimizers)
        return len(present) == len(self.tensors) and all(a is b for a, b in zip(present, self.tensors))


def _present(optimizers: Sequence[Optimizer]) -> list[Tensor]:
    return [p for one in optimizers for p in held(one)]
