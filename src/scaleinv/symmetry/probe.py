"""Run a private copy of the user's model again and again: same randomness, same buffers, chosen precision."""

import contextlib
import copy
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.symmetry.mode import Factors

#: eps of the probe: far below any variance, and BatchNorm refuses 0
TINY = 1e-30
#: outputs that are caches of inner states, not results
_CACHES = frozenset({"past_key_values", "mems", "cache_params"})
_SEED = 20260


def call_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give ``inputs`` as (args, kwargs): a tensor, a sequence of positional arguments, or a mapping of named ones."""
    if isinstance(inputs, Mapping):
        return (), {str(k): v for k, v in inputs.items()}
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise UserError(f"inputs is {type(inputs).__name__}; give a tensor, a tuple or a dict of named arguments")


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor in ``value`` (nested tuples, lists, dicts)."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {k: map_tensors(v, change) for k, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map_tensors(v, change) for v in value)
    return value


def output_tensors(value: Any) -> list[Tensor]:
    """List the floating tensors of a model's result in order: of tuples, lists, dicts, dataclasses (ModelOutput)."""
    if isinstance(value, Tensor):
        if value.is_complex():
            return [torch.view_as_real(value)]
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        return [t for k, v in value.items() if k not in _CACHES for t in output_tensors(v)]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in output_tensors(v)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [t for f in dataclasses.fields(value) for t in output_tensors(getattr(value, f.name))]
    return []


def deep_copy(model: nn.Module) -> nn.Module:
    """Copy a model, also one that holds results of earlier computations (the weight of an old-style weight norm)."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise UserError(f"the model cannot be copied: {type(error).__name__}: {error}") from error


class Probe:
    """Evaluate a model's outputs as one vector, in ``dtype``, train mode, the same function at every call.

    The copy holds the user's weights until :meth:`perturb` moves them to a generic place. Modules named ``Dropout`` and
    dropout calls are switched off; other randomness is frozen by the same seed before every call.
    """

    def __init__(
        self, model: nn.Module, inputs: Any, *, dtype: torch.dtype | None = torch.float64, eps: float | None = TINY
    ) -> None:
        own = dict(model.named_parameters())
        if not own:
            raise UserError(f"{type(model).__name__} has no parameters, so there is nothing that could have a scale")
        for name, p in own.items():
            if isinstance(p, nn.parameter.UninitializedParameter):
                raise UserError(f"parameter {name!r} is not initialised yet; run the model once before")
            if not bool(torch.isfinite(p.detach()).all()):
                raise UserError(f"parameter {name!r} holds NaN or infinite values; load weights that are finite")
        if hasattr(model, "_orig_mod") or any(isinstance(m, torch.jit.ScriptModule) for m in model.modules()):
            raise UserError("the model is compiled, so its layers cannot be followed; give the module itself")
        self.model = deep_copy(model)
        if any(p.device.type == "mps" for p in own.values()):
            self.model.cpu()  # has no double precision
        self.dtype = dtype
        if dtype is not None:
            self.model.to(dtype)
        self.model.train()
        for module in self.model.modules():
            if "dropout" in type(module).__name__.lower() and not list(module.children()):
                module.eval()
        self.eps_attributes = [
            (module, key, float(value))
            for module in self.model.modules()
            for key, value in vars(module).items()
            if re.search("eps", key, re.IGNORECASE) and type(value) is float and 0 < value < 0.1
        ]
        self.literals = True  # take small added numbers for eps
        self.replaced: set[float] = set()
        self.set_eps(eps)
        floating = {name: p for name, p in self.model.named_parameters() if p.is_floating_point()}
        for p in floating.values():
            p.requires_grad_(False)
            p.grad = None
        self.names, self.tensors = list(floating), list(floating.values())
        self.original = [own[name].detach() for name in self.names]  # the user's weights
        device = self.tensors[0].device

        def move(t: Tensor) -> Tensor:
            t = t.detach().to(device)
            return t.to(dtype) if t.is_floating_point() and dtype is not None else t.clone()

        self.args, self.kwargs = map_tensors(call_arguments(inputs), move)
        self._buffers = {name: b.detach().clone() for name, b in self.model.named_buffers()}
        self.order = [0] * len(self.names)

    def set_eps(self, eps: float | None) -> None:
        """Use ``eps`` in every module and normalization call; None restores the model's own."""
        self.eps = eps
        for module, key, own in self.eps_attributes:
            setattr(module, key, own if eps is None else eps)

    def run(self, factors: list[Tensor] | None = None) -> Any:
        """Run the model and return its result, whatever it is."""
        with torch.no_grad():
            for name, buffer in self.model.named_buffers():
                buffer.copy_(self._buffers[name])
        mode = Factors(self.tensors, factors=factors, dtype=self.dtype, eps=self.eps, literals=self.literals)
        with reproducible(self.tensors[0].device), precision(self.dtype), mode:
            result = self.model(*self.args, **self.kwargs)
        self.order = mode.order
        self.replaced |= mode.replaced
        return result

    def outputs(self, factors: list[Tensor] | None = None) -> Tensor:
        """Compute all floating outputs as one vector (M,)."""
        tensors = output_tensors(self.run(factors))
        if not tensors:
            kind = type(self.model).__name__
            raise UserError(f"{kind} returns no floating-point tensor; wrap it in a module that returns one")
        dtype = self.dtype or tensors[0].dtype
        return torch.cat([t.reshape(-1).to(dtype) for t in tensors])

    def value(self) -> Tensor:
        """Compute the outputs (M,) without a graph."""
        with torch.no_grad():
            return self.outputs()

    @contextlib.contextmanager
    def restored(self, which: Iterable[int]) -> Iterator[None]:
        """Give tensors (by index) back the values they have now when the context ends."""
        saved = {i: self.tensors[i].detach().clone() for i in which}
        try:
            yield
        finally:
            with torch.no_grad():
                for i, old in saved.items():
                    self.tensors[i].copy_(old)

    @contextlib.contextmanager
    def scaled(self, factor: Mapping[int, float]) -> Iterator[None]:
        """Multiply tensors (by index) by numbers while the context lasts."""
        with self.restored(factor):
            with torch.no_grad():
                for i, c in factor.items():
                    self.tensors[i].mul_(c)
            yield

    @contextlib.contextmanager
    def differentiable(self, which: Sequence[int] | None = None) -> Iterator[list[nn.Parameter]]:
        """Let parameters require gradients while the context lasts, frozen ones too."""
        chosen = [self.tensors[i] for i in (range(len(self.tensors)) if which is None else which)]
        for p in chosen:
            p.requires_grad_(True)
        try:
            yield chosen
        finally:
            for p in chosen:
                p.requires_grad_(False)

    def perturb(self, generator: torch.Generator, amount: float = 0.2) -> None:
        """Put the weights near the user's, at a generic place: noise of 20 % of each tensor's rms.

        Where a tensor is zero or tiny (residual gains start at 0 or 1e-6), what is behind it would be hidden: noise of
        0.1 for vectors, 0.3/sqrt(fan in) for matrices.
        """
        with torch.no_grad():
            for p, start in zip(self.tensors, self.original):
                rms = float(start.square().mean(dtype=torch.float64).sqrt()) if start.numel() else 0.0
                inputs = p.numel() // p.shape[0] if p.dim() > 0 and p.numel() else 1
                normal = 0.1 if inputs == 1 else 0.3 / math.sqrt(inputs)
                size = amount * rms if rms > 0.02 * normal else normal
                noise = torch.randn(p.shape, generator=generator, dtype=torch.float32)  # the same in every precision
                p.copy_(start)
                p.add_(noise.to(p), alpha=size)


@contextlib.contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Draw the same random numbers at every use and leave torch's generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.backends.cudnn.flags(enabled=False):
        torch.manual_seed(_SEED)
        yield


@contextlib.contextmanager
def precision(dtype: torch.dtype | None) -> Iterator[None]:
    """Make ``dtype`` the default type of new tensors while the context lasts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
