"""Copy a user's model for the probe: without wrappers, with state that can be put back before every run."""

import contextlib
import copy
import ctypes
import gc
import itertools
import random
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.geometry import all_finite

#: what torch keeps in a module's dict for itself
_OWN = frozenset(["_parameters", "_buffers", "_modules", "training"])
#: what a run may change without assigning it
_GENERATORS = (torch.Generator, np.random.Generator, np.random.RandomState, random.Random)
_CHANGING = (*_GENERATORS, Tensor, list, dict, set)


#: wrappers that hold the model as ``module`` and compute what it computes
_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, torch.optim.swa_utils.AveragedModel)


def unwrap(model: nn.Module) -> nn.Module:
    """Give the module inside ``torch.compile``, ``DataParallel``, ``DistributedDataParallel`` and their like."""
    while True:
        if isinstance(inner := getattr(model, "_orig_mod", None), nn.Module):
            model = inner
        elif isinstance(model, _WRAPPERS):
            wrapped = model.module
            assert isinstance(wrapped, nn.Module)
            model = wrapped
        else:
            return model


def unsharded(model: nn.Module) -> nn.Module:
    """Give a copy of a model wrapped in ``FullyShardedDataParallel``, with whole parameters and without the wrappers.

    Any other model is given back as it is. Every process of the group must come here, since the weights are gathered.
    """
    if "torch.distributed.fsdp" not in sys.modules or not any(map(_sharded, model.modules())):
        return model
    from torch.distributed.fsdp import FullyShardedDataParallel

    memo: dict[int, Any] = {}
    with FullyShardedDataParallel.summon_full_params(model, writeback=False), torch.no_grad():
        for module in reversed(list(model.modules())):  # those within come first
            if _sharded(module):
                memo[id(module)] = copy.deepcopy(module._fsdp_wrapped_module, memo)
        result: nn.Module = copy.deepcopy(unwrap(model), memo)
    return result


def _sharded(module: nn.Module) -> bool:
    return type(module).__name__ == "FullyShardedDataParallel"


def freed() -> None:
    """Hand the memory of what is no longer in use back to the system, before the next copy of a large model is made.

    glibc keeps freed blocks of up to 32 MiB, which are most of a model; elsewhere nothing happens.
    """
    gc.collect()
    trimmed()


def trimmed() -> None:
    """Hand freed blocks back to the system."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def whole(p: Tensor) -> Tensor:
    """Give the values of a parameter; one that is sharded over processes (a DTensor) is gathered."""
    gathered: Tensor = p.full_tensor() if hasattr(p, "full_tensor") else p
    return gathered.detach()


def deep_copy(model: nn.Module) -> nn.Module:
    """Copy a model, also one that holds results of earlier computations (the weight of an old-style weight norm)."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for value in vars(module).values():
            if isinstance(value, Tensor) and not (value.is_leaf and value.layout is torch.strided):
                memo[id(value)] = value.detach().clone()
            if isinstance(value, torch.Generator):
                memo[id(value)] = torch.Generator(value.device)
                memo[id(value)].set_state(value.get_state())
        memo |= {id(b): b.detach().clone() for b in module.buffers(recurse=False) if b.layout is not torch.strided}
    for p in model.parameters():
        if hasattr(p, "full_tensor"):
            memo[id(p)] = nn.Parameter(whole(p).clone(), requires_grad=p.requires_grad)
    try:
        with torch.no_grad(), _without_sharding(model):  # a scripted module is copied by operations
            copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise UserError(f"the model cannot be copied: {type(error).__name__}: {error}") from error
    return _plain(copied)


def _plain(model: nn.Module) -> nn.Module:
    """Take compiled and synchronised parts out of a copy: they compute the same as the parts they stand for."""
    for module in model.modules():
        for name, child in list(module.named_children()):
            if (inner := unwrap(child)) is not child:
                setattr(module, name, inner)
        if getattr(module, "_compiled_call_impl", None) is not None:
            module._compiled_call_impl = None
        if isinstance(module, nn.SyncBatchNorm):
            module.__class__ = _BatchNorm  # type: ignore[assignment]
    return model


@contextlib.contextmanager
def _without_sharding(model: nn.Module) -> Iterator[None]:
    """Let modules under ``fully_shard`` and ``parallelize_module`` be what they were, while the context lasts.

    Those have classes and hooks of their own, which know nothing to do with whole tensors.
    """
    before: list[tuple[nn.Module, type[nn.Module], dict[str, Any]]] = []
    for module in model.modules():
        kind = type(module)
        plain = {
            k: _own_hooks(v) if k.endswith("_hooks") and isinstance(v, dict) else v for k, v in vars(module).items()
        }
        sharded = any(base.__name__ == "FSDPModule" for base in kind.__mro__)
        if sharded or any(len(v) != len(module.__dict__[k]) for k, v in plain.items() if k.endswith("_hooks")):
            before.append((module, kind, module.__dict__))
            module.__dict__ = {k: v for k, v in plain.items() if not k.startswith("__composable_api")}
        if sharded:
            module.__class__ = next(base for base in kind.__mro__ if not base.__name__.startswith("FSDP"))
    try:
        yield
    finally:
        for module, kind, own in before:
            module.__class__ = kind
            module.__dict__ = own


def _own_hooks(hooks: Any) -> Any:
    def theirs(hook: Any) -> bool:
        where = f"{getattr(hook, '__module__', '')}{hook!r}".lower()
        return "fsdp" in where or "torch.distributed.tensor" in where

    return type(hooks)((k, h) for k, h in hooks.items() if not theirs(h))


class _BatchNorm(nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None:
        """Take inputs of every dimension, as the synchronised batch norm does."""


def cast(model: nn.Module, dtype: torch.dtype) -> None:
    """Convert a model's floating tensors to ``dtype`` and complex ones to the complex type of that precision."""
    if not any(t.is_complex() for t in (*model.parameters(), *model.buffers())):
        model.to(dtype)
        return
    complex_type = torch.complex128 if dtype is torch.float64 else torch.complex64

    def convert(t: Tensor) -> Tensor:
        return t.to(dtype) if t.is_floating_point() else t.to(complex_type) if t.is_complex() else t

    model._apply(convert)  # type: ignore[no-untyped-call]


class KeptState:
    """Hold what a model keeps besides its parameters: buffers, attributes, generators; put it back before a run."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.hold()

    def hold(self) -> None:
        """Take the present state for the one to be put back."""
        self.buffers = [(m, {k: None if b is None else b.detach().clone() for k, b in m._buffers.items()})
                        for m in self.model.modules()]  # fmt: skip
        self.attributes: list[tuple[nn.Module, dict[str, Any], list[str]]] = []
        for module in self.model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue
            kept = {k: _kept(v) for k, v in vars(module).items() if k not in _OWN and not k.endswith("_hooks")}
            changing = [k for k, v in kept.items() if isinstance(v, _CHANGING) and not isinstance(v, nn.Parameter)]
            self.attributes.append((module, kept, changing))
        own = (kept[name] for _, kept, changing in self.attributes for name in changing)
        self.draws = any(isinstance(value, _GENERATORS) for value in own)  # from generators of its own

    def restore(self, seed: int) -> None:
        """Put the state back; generators that a module owns start from ``seed``."""
        shared: dict[int, Tensor] = {}
        for module, buffers in self.buffers:
            for name, b in buffers.items():
                if b is not None and id(b) not in shared:
                    shared[id(b)] = b.clone()
                new = None if b is None else shared[id(b)]
                if isinstance(module, torch.jit.ScriptModule):
                    if new is not None:
                        module.get_buffer(name).copy_(new)
                else:
                    module._buffers[name] = new
        for module, kept, changing in self.attributes:
            own = vars(module)
            for name in [k for k in own if k not in kept and k not in _OWN and not k.endswith("_hooks")]:
                del own[name]
            own.update(kept)
            own.update({name: _fresh(kept[name], seed) for name in changing})


def _kept(value: Any) -> Any:
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        return value.detach().clone() if value.is_leaf else value
    return copy.copy(value) if isinstance(value, (list, dict, set)) else value


def _fresh(value: Any, seed: int) -> Any:
    """Give a value to start a run with: a copy, or a generator that starts from ``seed``."""
    if isinstance(value, torch.Generator):
        value.manual_seed(seed)
        return value
    if isinstance(value, np.random.Generator):
        return np.random.default_rng(seed)
    if isinstance(value, np.random.RandomState):
        return np.random.RandomState(seed)
    if isinstance(value, random.Random):
        return value if isinstance(value, random.SystemRandom) else random.Random(seed)
    if isinstance(value, Tensor):
        return value.clone() if value.is_leaf else value
    return copy.copy(value)


def refuse_unreadable(model: nn.Module) -> None:
    """Raise UserError for parameters without finite floating values: not initialised, meta, quantised, NaN."""
    own = dict(model.named_parameters())
    for name, module in model.named_modules():
        kind = type(module)
        packed = getattr(module, "_packed_params", None)
        if packed is not None or "quantized" in kind.__module__.split(".") or "bitsandbytes" in kind.__module__:
            where = repr(name) if name else "the model"
            raise UserError(
                f"{where} ({kind.__name__}) is quantised: its weights are whole numbers, which no factor can scale; "
                "give the model before quantising it"
            )
    if not own:
        raise UserError(f"{type(model).__name__} has no parameters, so there is nothing that could have a scale")
    for name, p in own.items():
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise UserError(f"parameter {name!r} is not initialised yet; run the model once before")
        if p.layout is not torch.strided:
            layout = str(p.layout).removeprefix("torch.")
            raise UserError(
                f"parameter {name!r} is stored as {layout}, of which the search cannot move every entry; give the "
                "model with a dense weight, times a mask where entries are to stay zero"
            )
        if p.is_meta:
            raise UserError(
                f"parameter {name!r} is on the meta device and has no values; make the model on a real device, "
                "or model.to_empty(device='cpu') and initialise it"
            )
        if p.dtype in (torch.int8, torch.uint8) or p.is_quantized:
            raise UserError(
                f"parameter {name!r} is of {str(p.dtype).removeprefix('torch.')}: quantised weights have no factor; "
                "give the model before quantising it"
            )
        if not all_finite(p):
            raise UserError(f"parameter {name!r} holds NaN or infinite values; load weights that are finite")
    _refuse_views(model, own)
    for name, b in model.named_buffers():
        if b.is_meta:
            raise UserError(f"buffer {name!r} is on the meta device and has no values; make the model on a real device")


def _refuse_views(model: nn.Module, own: Mapping[str, Tensor]) -> None:
    """Raise UserError for parameters on one memory, or a tensor kept as a view of one: a copy would not follow."""
    with contextlib.suppress(RuntimeError, NotImplementedError):  # some parameters have no storage to ask for
        dense = {name: p for name, p in own.items() if p.numel() and not hasattr(p, "full_tensor")}
        begun = sorted((p.data_ptr(), _memory(p), name) for name, p in dense.items())
        for (start, size, one), (after, _, other) in itertools.pairwise(begun):
            if after < start + size:
                raise UserError(
                    f"parameters {one!r} and {other!r} are two on one memory, so that no factor is on one alone; "
                    "tie them as one parameter (b.weight = a.weight, not b.weight.data = a.weight.data)"
                )
        stores = {p.untyped_storage().data_ptr(): name for name, p in own.items() if p.numel()}
        for where, module in model.named_modules():
            for key, value in vars(module).items():
                if not isinstance(value, Tensor) or isinstance(value, nn.Parameter) or not value.numel():
                    continue
                if any(getattr(hook, "name", None) == key for hook in module._forward_pre_hooks.values()):
                    continue  # made anew before each forward (spectral_norm, weight_norm)
                name = stores.get(value.untyped_storage().data_ptr())
                if name is not None:
                    raise UserError(
                        f"{'.'.join(filter(None, (where, key)))} is a view of parameter {name!r} that was made before "
                        "the forward, which a copy of the model does not follow; make the view in the forward"
                    )


def _memory(p: Tensor) -> int:
    """Count the bytes from the first entry of a tensor to its last."""
    return (1 + sum((n - 1) * step for n, step in zip(p.shape, p.stride()))) * p.element_size()


def view_real(t: Tensor) -> Tensor:
    """Give a tensor as real numbers: of a complex one real and imaginary parts in a last dimension."""
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def call_arguments(inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give ``inputs`` as (args, kwargs): a tensor, a sequence of positional arguments, or a mapping of named ones."""
    if isinstance(inputs, Mapping):
        return (), {str(k): v for k, v in inputs.items()}
    if isinstance(inputs, Tensor):
        return (inputs,), {}
    if isinstance(inputs, (tuple, list)):
        return tuple(inputs), {}
    raise UserError(f"inputs is {type(inputs).__name__}; give a tensor, a tuple or a dict of named arguments")
