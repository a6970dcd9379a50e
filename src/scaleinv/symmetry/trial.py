"""Run a user's model for the first time: what goes wrong is said in one line that names the module."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.symmetry.probe import Probe, output_tensors


def trial(probe: Probe) -> Tensor:
    """Compute the model's outputs (M,); UserError if it fails, has no finite output, or differs from run to run."""
    stack: list[tuple[str, nn.Module, tuple[Any, ...]]] = []
    records: list[tuple[str, float, float]] = []
    hooks: list[Any] = []

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        stack.append((name, module, args))

    def leave(name: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        stack.pop()
        records.append((name, _print(args), _print(result)))

    for name, module in probe.model.named_modules():
        hooks.append(module.register_forward_pre_hook(partial(enter, name)))
        hooks.append(module.register_forward_hook(partial(leave, name)))
    try:
        with torch.no_grad():
            first = probe.outputs()
            earlier, records[:] = list(records), []
            second = probe.outputs()
    except UserError:
        raise
    except Exception as error:
        raise UserError(_failure(stack, error)) from error
    finally:
        for handle in hooks:
            handle.remove()
    kind = type(probe.model).__name__
    if not bool(torch.isfinite(first).any()):
        raise UserError(f"every output of {kind} is NaN or infinite on these inputs; give inputs on which it works")
    if first.shape != second.shape or not torch.equal(torch.nan_to_num(first), torch.nan_to_num(second)):
        raise UserError(
            f"{kind} is not deterministic: {_culprit(earlier, records, kind)} gives another result at the second "
            "call although torch's random state is the same; switch that randomness off"
        )
    return first


def _print(value: Any) -> float:
    """Compute a number that changes when any tensor in ``value`` does."""
    total = 0.0
    for k, t in enumerate(output_tensors(list(value) if isinstance(value, tuple) else value)):
        flat = torch.nan_to_num(t.detach().reshape(-1).double())
        weights = torch.linspace(1, 2, len(flat), dtype=torch.float64, device=flat.device)
        total += (k + 1) * float((flat * weights).sum())
    return total


def _culprit(first: list[tuple[str, float, float]], second: list[tuple[str, float, float]], kind: str) -> str:
    for a, b in zip(first, second):
        if a[0] != b[0]:
            break
        if a[1] != b[1]:  # already its input differs: the code that calls it is random
            parent = a[0].rpartition(".")[0]
            return f"the code of module {parent!r} before {a[0]!r}" if parent else f"the code of {kind} before {a[0]!r}"
        if a[2] != b[2]:
            return f"module {a[0]!r}" if a[0] else "its own forward"
    return "its own forward"


def _failure(stack: list[tuple[str, nn.Module, tuple[Any, ...]]], error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    reason = reason if len(reason) < 240 else reason[:237] + "..."
    if not stack:
        return f"the model does not run on these inputs: {type(error).__name__}: {reason}"
    name, module, args = stack[-1]
    shapes = ", ".join(_shape(a) for a in args) or "no positional argument"
    own = ", ".join(f"{n} {tuple(p.shape)}" for n, p in module.named_parameters(recurse=False))
    where = f"layer {name!r} ({type(module).__name__})" if name else f"{type(module).__name__}.forward"
    return f"{where} fails on input {shapes}{f' with its own {own}' if own else ''}: {type(error).__name__}: {reason}"


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
