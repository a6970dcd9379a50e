"""Say of tensors without a gradient why they have none."""

import torch
from torch import Tensor

from scaleinv.symmetry.probe import Probe
from scaleinv.symmetry.state import Reach, State


def unreached(probe: Probe, state: State) -> dict[int, str]:
    """Say of the tensors without a gradient why: not used at all, or used where no gradient passes."""
    why: dict[int, str] = {}
    lost = [i for i in state.dead if state.reach[i] is Reach.NONE]
    if not lost or state.numeric:
        return why
    usable, base = state.mask > 0, probe.value()
    for i in lost:
        if _moves_outputs(probe, state, i, base, usable):
            why[i] = (
                "the outputs depend on it, but no gradient passes (no_grad, detach, or a choice made by its numbers)"
            )
        elif i not in state.touched:
            why[i] = "the forward does not use it on these inputs"
    return why


def some_names(names: set[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:3]) + (f" and {len(shown) - 3} more" if len(shown) > 3 else "")


def _moves_outputs(probe: Probe, state: State, i: int, base: Tensor, usable: Tensor) -> bool:
    """Tell whether the outputs change when a tensor is moved, a little or far: what it decides may need much.

    Tensors that come into use by it are noted: it decides which parts run.
    """
    generator = torch.Generator().manual_seed(11)
    p = probe.tensors[i]
    for size in (1.0, -1.0, 30.0, -30.0, 1e4, -1e4):
        with probe.restored([i]), torch.no_grad():
            p.mul_((size * (0.5 + torch.rand(p.shape, generator=generator, dtype=torch.float64, device="cpu"))).to(p))
            moved = probe.value()
        new = probe.touched() - state.touched
        state.gated |= {(i, j) for j in new}
        if moved.shape != base.shape or new:
            return True
        if bool(torch.isfinite(moved[usable]).all()) and not torch.equal(moved[usable], base[usable]):
            return True
    return False
