"""Turn a standard model into one whose trained weights have no scale, and say what was changed."""

import math
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.symmetry.copies import deep_copy, unsharded
from scaleinv.symmetry.find import find_symmetries
from scaleinv.symmetry.outputs import Outputs
from scaleinv.symmetry.probe import Probe
from scaleinv.symmetry.progress import say, told
from scaleinv.symmetry.result import Symmetries

_INSERTED = "inserted_norm"
#: places tried for a norm: the tensor's own layer, its block, the stage
_CANDIDATES = 4


@dataclass(frozen=True)
class Conversion:
    """What :func:`make_scale_invariant` did, and what is left. ``str()`` of it is a report in words."""

    affine_removed: tuple[str, ...]  # norm modules that lost their weight and bias
    biases_removed: tuple[str, ...]  # dead biases
    head: str | None  # the last layer's weight, frozen
    head_norm: float | None  # its Frobenius norm now
    inserted: tuple[tuple[str, str], ...]  # (module, norm put behind it)
    kept: dict[str, str] = field(default_factory=dict)  # trained tensor that keeps a scale -> why
    found: Symmetries | None = None  # the doctor's answer about the result

    @property
    def complete(self) -> bool:
        """Whether every trained tensor is scale-invariant, alone or in a joint group."""
        return not self.kept and self.found is not None and self.found.verdict == "clear"

    def __str__(self) -> str:
        lines = [f"{'' if self.complete else 'not '}every trained tensor is scale-invariant"]
        if norms := self.affine_removed:
            lines.append(f"weight and bias removed from {len(norms)} norms: {', '.join(norms)}")
        if self.biases_removed:
            lines.append(f"dead biases removed: {', '.join(self.biases_removed)}")
        if self.head is not None:
            lines.append(f"last layer {self.head} frozen, rescaled to Frobenius norm {self.head_norm:g}")
        lines += [f"inserted {norm} behind {module!r}" for module, norm in self.inserted]
        lines += [f"{name} keeps a scale: {why}" for name, why in self.kept.items()]
        if self.kept and not self.inserted:
            lines.append("insert_norms=True looks for norms that take these scales away, and puts them in")
        return "\n".join(lines)


def make_scale_invariant(
    model: nn.Module,
    inputs: Any,
    head_norm: float | None = 10.0,
    *,
    insert_norms: bool = False,
    outputs: Outputs = None,
) -> nn.Module:
    """Copy ``model`` so that every trained tensor is scale-invariant, as the papers' ``si`` networks are.

    Norms lose their weight and bias; the last layer is frozen, its weight rescaled to Frobenius norm ``head_norm``
    (None: left as it is; its bias keeps its value); biases that are dead are removed. Names of the remaining weights do
    not change. The doctor checks the result; what it says and what was changed is in the copy's attribute
    ``conversion`` (:class:`Conversion`): where some tensors keep a scale, it names them and says why.
    ``insert_norms=True`` looks for norms that take these scales away and puts them in, as children ``inserted_norm`` of
    the modules whose outputs they normalise; that is a search for each of them. ``outputs``: which of the model's
    results count, as for :func:`find_symmetries`; the last layer is the one that is used last for these.

    Raises UserError for a head norm that is not a positive number and for models that cannot be probed. Source:
    Lobacheva et al. 2021 (affine-free batch norm, last layer fixed at norm 10).

    >>> import torch
    >>> from torch import nn
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    >>> print(make_scale_invariant(net, torch.randn(16, 4)).conversion)
    every trained tensor is scale-invariant
    weight and bias removed from 1 norms: 1
    dead biases removed: 0.bias
    last layer 3.weight frozen, rescaled to Frobenius norm 10
    """
    if head_norm is not None and not (math.isfinite(head_norm) and head_norm > 0):
        raise UserError(f"head norm {head_norm} is not a positive number; the papers use 10")
    with told():
        return _converted(model, inputs, head_norm, insert_norms, outputs)


def _converted(
    model: nn.Module, inputs: Any, head_norm: float | None, insert_norms: bool, outputs: Outputs
) -> nn.Module:
    result = deep_copy(unsharded(model))
    affine = _remove_affine(result)
    found = find_symmetries(result, inputs, defect=False, outputs=outputs)
    head = _freeze_head(result, inputs, head_norm, found)
    removed = _remove_dead(result, found)
    found = _now(found, result)
    kept = _kept(result, found)
    steps = _insert(result, inputs, kept, outputs) if kept and insert_norms else []
    if steps:
        found = find_symmetries(result, inputs, defect=False, outputs=outputs)
        removed += _remove_dead(result, found)
        found = _now(found, result)
        kept = _kept(result, found)
    value = None if head is None else float(torch.linalg.vector_norm(result.get_parameter(head).detach()))
    result.conversion = Conversion(  # type: ignore[assignment]
        tuple(affine), tuple(removed), head, value, tuple(steps), kept, found
    )
    return result


def _remove_affine(model: nn.Module) -> list[str]:
    """Set weight and bias of every norm to None. A norm is a module that says ``affine`` or ``elementwise_affine``,
    or that holds nothing but vectors called weight and bias and an eps."""
    changed = []
    for name, module in model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        if not own or not set(own) <= {"weight", "bias"}:
            continue
        says = [key for key in ("affine", "elementwise_affine") if getattr(module, key, None) is True]
        if says:
            for key in own:
                module.register_parameter(key, None)
            for key in says:
                setattr(module, key, False)
        elif all(p.dim() == 1 for p in own.values()) and any("eps" in key.lower() for key in vars(module)):
            # a norm of the user's own may multiply by weight without asking; a frozen one is no different to training
            for key, p in own.items():
                nn.init.constant_(p.requires_grad_(False), 1.0 if key == "weight" else 0.0)
        else:
            continue
        changed.append(name)
    return changed


def _now(found: Symmetries, model: nn.Module) -> Symmetries:
    """Bring an answer up to date after a head was frozen and rescaled and dead tensors were removed.

    Neither changes a symmetry: the head had a scale of its own, and nothing depended on the dead.
    """
    named = dict(model.named_parameters())
    there = [name for name in found.shapes if name in named]
    return replace(
        found,
        dead=tuple(name for name in found.dead if name in named),
        shapes={name: found.shapes[name] for name in there},
        norms={name: float(torch.linalg.vector_norm(named[name].detach().double())) for name in there},
        frozen=tuple(name for name in there if not named[name].requires_grad),
    )


def _freeze_head(model: nn.Module, inputs: Any, head_norm: float | None, found: Symmetries) -> str | None:
    """Freeze the layer whose matrix is used last; None where that matrix has no scale of its own."""
    probe = Probe(model, inputs)
    probe.value()
    gone = {*found.dead, *found.unreached}  # of outputs that do not count
    matrices = [i for i, p in enumerate(probe.tensors) if p.dim() > 1 and probe.names[i] not in gone]
    if not matrices:
        return None
    last = max(matrices, key=lambda i: (probe.order[i], i))
    name = probe.names[last]
    if name in found.single or any(name in tensors for tensors in found.joint):
        return None
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    weight = module.get_parameter(attribute)
    for p in module.parameters(recurse=False):
        p.requires_grad_(False)
    if head_norm is not None:
        with torch.no_grad():
            weight.mul_(head_norm / torch.linalg.vector_norm(weight))
    return name


def _remove_dead(model: nn.Module, found: Symmetries) -> list[str]:
    removed = []
    for name in found.dead:
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        if attribute == "bias" and isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)):
            module.register_parameter("bias", None)
            removed.append(name)
    return removed


def _kept(model: nn.Module, found: Symmetries) -> dict[str, str]:
    """Say of every trained tensor that is not scale-invariant why it is not."""
    free = set(found.single) | {n for tensors in found.joint for n in tensors if not set(tensors) & set(found.frozen)}
    reasons = {}
    for name, p in model.named_parameters():
        if not p.requires_grad or name in free or not p.is_floating_point():
            continue
        pairs = [pair for pair in found.rescaling if name in pair]
        if name in found.dead:
            reasons[name] = "dead: the output does not depend on it, and it cannot be removed"
        elif name in found.unreached:
            reasons[name] = found.unreached[name]
        elif pairs:
            others = [n for n in pairs[0] if n != name]
            shown = ", ".join(others[:4]) + f" and {len(others) - 4} more" * (len(others) > 4)
            reasons[name] = f"only together with {shown} does it change without effect; no norm stands between them"
        else:
            reasons[name] = "no norm removes its scale before a nonlinearity, a sum or the output uses it"
    return reasons


def _normalised(module: nn.Module, args: Any, output: Tensor) -> Tensor:
    """Pass the output through the norm that was put in; a forward hook."""
    result: Tensor = module.get_submodule(_INSERTED)(output)
    return result


def _completions(model: nn.Module, inputs: Any) -> list[tuple[str, tuple[int, ...]]]:
    """List (module, output shape) in the order in which modules finish; those that give one tensor only."""
    probe = Probe(model, inputs, dtype=None, eps=None)
    finished: list[tuple[str, tuple[int, ...]]] = []

    def note(name: str, module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.is_floating_point() and output.dim() >= 2:
            finished.append((name, tuple(output.shape)))

    hooks = [m.register_forward_hook(partial(note, n)) for n, m in probe.model.named_modules() if n]
    probe.value()
    for handle in hooks:
        handle.remove()
    return finished


def _norm_for(model: nn.Module, shape: tuple[int, ...]) -> nn.Module | None:
    """Make an affine-free norm over the channels of an output, batch norm where the model uses it."""
    batch = any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())
    if len(shape) == 4:
        return nn.BatchNorm2d(shape[1], affine=False) if batch else nn.GroupNorm(1, shape[1], affine=False)
    if len(shape) == 2:
        return nn.BatchNorm1d(shape[1], affine=False) if batch else nn.LayerNorm(shape[1], elementwise_affine=False)
    return nn.LayerNorm(shape[-1], elementwise_affine=False) if len(shape) == 3 else None


def _insert(model: nn.Module, inputs: Any, kept: dict[str, str], outputs: Outputs) -> list[tuple[str, str]]:
    """Put in one norm after another, each at a module output behind a kept tensor, where it frees most tensors."""
    done: list[tuple[str, str]] = []
    hopeless: set[str] = set()
    while True:
        left = [n for n in kept if n not in hopeless and model.get_parameter(n).dim() > 1]
        if not left or len(done) > 64:
            return done
        name = left[-1]  # the deepest one: a norm there also frees what adds up with it
        owner = name.rpartition(".")[0]
        finished = _completions(model, inputs)
        start = next((k for k, (module, _) in enumerate(finished) if module == owner), None)
        tried: list[tuple[int, str, nn.Module, dict[str, str]]] = []
        for module, shape in finished[start:] if start is not None else []:
            target = model.get_submodule(module)
            norm = _norm_for(model, shape)
            if norm is None or hasattr(target, _INSERTED) or any(not p.requires_grad for p in target.parameters()):
                continue
            p = next(model.parameters())
            target.add_module(_INSERTED, norm.to(p))
            handle = target.register_forward_hook(_normalised)
            try:
                say(f"{name}: a norm behind {module!r} on trial")
                after = _kept(model, find_symmetries(model, inputs, defect=False, outputs=outputs))
            except UserError:
                after = kept
            handle.remove()
            delattr(target, _INSERTED)
            if name not in after and not set(after) - set(kept):
                tried.append((len(after), module, norm, after))
            if not after or len(tried) >= _CANDIDATES:
                break
        if not tried:
            hopeless.add(name)
            continue
        _, module, norm, kept = min(tried, key=lambda t: t[0])  # the one that frees most, the earliest of equals
        target = model.get_submodule(module)
        target.add_module(_INSERTED, norm)
        target.register_forward_hook(_normalised)
        done.append((module, f"{type(norm).__name__}({_channels(norm)}) without affine parameters"))


def _channels(norm: nn.Module) -> str:
    (shape,) = getattr(norm, "normalized_shape", ("",))
    return str(getattr(norm, "num_features", getattr(norm, "num_channels", shape)))
