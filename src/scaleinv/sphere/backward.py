"""Step on the sphere during the backward pass: every group as soon as its gradients are there, which are then freed."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from scaleinv.errors import UserError
from scaleinv.sphere import shards
from scaleinv.sphere.optimizer import Sphere
from scaleinv.sphere.rate import Elr
from scaleinv.sphere.units import Groups, named_groups


class StepInBackward:
    """Hold one optimizer for every group of weights and step it in the backward pass.

    The gradients of all weights never stand in memory at once. One backward pass is one step: accumulated gradients and
    a clip of their common norm are not possible.

    Args:
        groups: scale-invariant tensors, as for :class:`~scaleinv.Sphere`.
        optimizer: makes the optimizer of a list of parameters: ``lambda params: torch.optim.SGD(params, lr=1.0)``.
        elr: as for :class:`~scaleinv.Sphere`.
        others: parameters with a scale of their own; each is stepped by an optimizer of its own at its plain ``lr``.
        own_gradients: step at the gradients of this process although there are several; else plain tensors are refused
            then: DDP averages only after the steps. FSDP2's shards are stepped at what FSDP2 has averaged.
        options: of :class:`~scaleinv.Sphere`; the granularity ``total`` needs all gradients at once and is refused.

    Raises:
        UserError: for ``total``, for plain tensors among several processes, and all that Sphere refuses.
        StateError: out of ``loss.backward()``, where Sphere's step raises it.

    >>> import torch
    >>> weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    >>> steps = StepInBackward([weight], lambda p: torch.optim.SGD(p, lr=1.0), elr=0.1, granularity="tensor")
    >>> (weight * torch.tensor([-0.8, 0.6])).sum().backward()
    >>> round(weight.norm().item(), 6), weight.grad is None, steps.spheres[0].steps
    (5.0, True, 1)
    """

    def __init__(
        self,
        groups: Groups,
        optimizer: Callable[[list[Tensor]], Optimizer],
        elr: Elr,
        *,
        others: Sequence[Tensor] = (),
        granularity: Any = "group",
        own_gradients: bool = False,
        **options: Any,
    ) -> None:
        if granularity == "total":
            raise UserError("granularity 'total' needs the gradients of all weights at once; use 'group' or 'tensor'")
        named = named_groups(groups)
        if not own_gradients and shards.several_processes():
            for t in (*others, *(t for tensors in named.values() for t in tensors)):
                if not shards.is_sharded(t):
                    raise UserError(
                        f"a tensor of shape {tuple(t.shape)} would be stepped before DDP averages its gradient over "
                        "the processes; step Sphere after the backward pass, wrap after fully_shard, or pass "
                        "own_gradients=True where every process trains alone"
                    )
        self.spheres: list[Sphere] = []
        self.plain: list[Optimizer] = [optimizer([p]) for p in others]
        for name, tensors in named.items():
            own = granularity if not isinstance(granularity, dict) else granularity.get(name, "group")
            split = options.get("split")
            more = {**options, "split": split.get(name)} if isinstance(split, dict) else options
            self.spheres.append(Sphere(optimizer(list(tensors)), {name: tensors}, elr, granularity=own, **more))
        self._handles = []
        for one in (*self.spheres, *self.plain):
            waited = [p for group in one.param_groups for p in group["params"] if p.requires_grad]
            missing = {id(p) for p in waited}
            for p in waited:
                self._handles.append(p.register_post_accumulate_grad_hook(_step_when_all(one, waited, missing)))

    @property
    def optimizers(self) -> list[Optimizer]:
        """All optimizers, those on spheres first: each takes a scheduler of its own."""
        return [*self.spheres, *self.plain]

    def state_dict(self) -> dict[str, Any]:
        """Give the states of all optimizers."""
        return {"optimizers": [one.state_dict() for one in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what :meth:`state_dict` gave."""
        states = state_dict.get("optimizers", [])
        if len(states) != len(self.optimizers):
            raise UserError(
                f"the state is of {len(states)} optimizers, here are {len(self.optimizers)}; group them alike"
            )
        for one, state in zip(self.optimizers, states):
            one.load_state_dict(state)

    def remove(self) -> None:
        """Step in the backward pass no more."""
        for handle in self._handles:
            handle.remove()


def _step_when_all(one: Optimizer, waited: list[Tensor], missing: set[int]) -> Callable[[Tensor], None]:
    def hook(p: Tensor) -> None:
        missing.discard(id(p))
        if not missing:
            missing.update(id(q) for q in waited)
            one.step()
            one.zero_grad(set_to_none=True)

    return hook
