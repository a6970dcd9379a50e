r"""Average weights along a run without leaving the spheres.

An average of points of a sphere lies inside it. Of scale-invariant weights the function is that of its direction, but
the norm decides what a learning rate or a weight decay would do next, and what a mixture with other weights is. So the
mean is brought back to the sphere after every update ::

    m <- R N(decay m + (1 - decay) x)
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.sphere import shards
from scaleinv.sphere.optimizer import Sphere

Average = Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]


def ema_on_spheres(sphere: Sphere, decay: float = 0.999) -> Average:
    """Make the ``multi_avg_fn`` of torch's ``AveragedModel`` that averages exponentially and stays on the spheres.

    - ``sphere``: what trains the model.
    - ``decay``: of the average, in [0, 1).

    Weights that are not on a sphere are averaged as ever.
    Raises :class:`~scaleinv.UserError` for another decay.

    >>> from torch.optim.swa_utils import AveragedModel
    >>> net = torch.nn.Linear(4, 4, bias=False)
    >>> sphere = Sphere(torch.optim.SGD(net.parameters(), lr=1.0), [net.weight], elr=0.1)
    >>> mean = AveragedModel(net, multi_avg_fn=ema_on_spheres(sphere, 0.9))
    >>> for _ in range(3):
    ...     net.weight.grad = torch.randn(4, 4)
    ...     sphere.step()
    ...     mean.update_parameters(net)
    >>> torch.allclose(mean.module.weight.norm(), net.weight.norm())
    True
    """
    if not 0 <= decay < 1:
        raise UserError(f"decay {decay} is not in [0, 1); 0.999 averages over the last 1000 updates or so")

    @torch.no_grad()
    def update(means: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
        floating = [i for i, m in enumerate(means) if m.is_floating_point()]
        for i in range(len(means)):
            if i in floating:
                means[i].lerp_(current[i], 1 - decay)
            else:
                means[i].copy_(current[i])
        at = {_memory(current[i]): i for i in floating}
        _return(sphere, [means[i] for i in floating], {key: floating.index(i) for key, i in at.items()})

    return update


def _return(sphere: Sphere, means: list[Tensor], at: dict[int, int]) -> None:
    weights = {} if sphere.masters is None else {id(m): p for p, m in sphere.masters.pairs}
    for i, (unit, ruler) in enumerate(zip(sphere.units, sphere._rulers)):
        keys = [_memory(weights.get(id(p), p)) for p in unit.parameters]
        if not set(keys) <= set(at):
            continue  # of another dtype or device: torch averages these by a call of their own
        held = [shards.local(means[at[key]]) for key in keys]
        radius = sphere.radius_of(i)
        if ruler.pieces is None:
            torch._foreach_mul_(held, (radius / ruler.norms(held)).to(held[0].dtype))
        else:
            ruler.multiply(held, (radius / ruler.norms(held)).to(held[0].dtype))


def _memory(t: Tensor) -> int:
    return shards.local(t.detach()).data_ptr()
