"""What a model computes when every parameter tensor carries a factor, seen call by call.

One ``TorchFunctionMode`` does four things that need no knowledge of the layers: it puts the factors in, notes the order
in which tensors are used, keeps the arithmetic in one precision, and takes the eps out of normalization functions.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_LOW = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_CASTS = ("float", "half", "bfloat16", "double")
_DROPOUT = frozenset(
    [f"{kind}{end}" for kind in ("", "alpha_", "feature_", "feature_alpha_") for end in ("dropout", "dropout_")]
    + ["dropout1d", "dropout2d", "dropout3d"]
)
#: builtin normalization calls and the place of eps among their positional arguments
_EPS_AT = {"batch_norm": 7, "instance_norm": 7, "layer_norm": 4, "group_norm": 4, "rms_norm": 3}
#: calls that may hold an eps written by hand, and the largest number taken for one
_ADDS = frozenset(["add", "add_", "__add__", "__radd__", "__iadd__", "clamp", "clamp_", "clamp_min", "clamp_min_"])
LARGEST_EPS = 1e-3
#: what only asks a tensor about itself: methods, attributes
_QUESTIONS = frozenset([
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_complex", "is_contiguous",
    "element_size", "data_ptr", "get_device", "storage_offset", "__hash__", "__len__", "is_same_size",
    "untyped_storage", "has_names", "requires_grad_",
])  # fmt: skip
_ASKED = frozenset([
    "shape", "dtype", "device", "ndim", "requires_grad", "is_leaf", "grad", "layout", "is_cuda", "is_sparse",
    "is_quantized", "is_meta", "is_mkldnn", "names", "is_nested", "is_cpu", "is_mps", "is_xla", "grad_fn", "itemsize",
    "nbytes", "_backward_hooks", "is_mtia", "is_xpu", "is_vulkan", "is_maia",
])  # fmt: skip
#: maps linear in one tensor: where it stands, and where the bias that is added afterwards stands (None = there is none)
_LINEAR: dict[Any, tuple[int, int | None, str, str]] = {
    functional.linear: (1, 2, "weight", "bias"),
    functional.embedding: (1, None, "weight", ""),
    torch.addmm: (2, 0, "mat2", "input"),
    **{getattr(torch, f"conv{kind}{d}d"): (1, 2, "weight", "bias") for kind in ("", "_transpose") for d in (1, 2, 3)},
    **dict.fromkeys(
        (torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.mm, Tensor.__matmul__), (1, None, "", "")
    ),
}


@cache
def _eps_parameter(function: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a Python function's parameters if ``eps`` is one of them."""
    try:
        names = tuple(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return ()
    return names if "eps" in names else ()


class Factors(TorchFunctionMode):
    """Run a model with parameter i multiplied by ``factors[i]`` and, optionally, in one precision and with another eps.

    factors: one 0-dim tensor per parameter, or None. A factor is applied to the result of a map that is linear in the
    tensor (convolution, linear, embedding, matmul) rather than to the tensor, which spares the weight's gradient; every
    other use sees the multiplied tensor itself, so no layer has to be known.
    literals: also take small numbers that are added to a tensor, or bound it from below, for an eps written by hand;
    ``replaced`` tells which. That is a guess, to be confirmed by scaling the weights.
    order: the number of the last call that used each tensor (0 = none), filled while the model runs.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        factors: list[Tensor] | None,
        dtype: torch.dtype | None,
        eps: float | None,
        literals: bool,
    ) -> None:
        super().__init__()
        self.place = {id(p): i for i, p in enumerate(parameters)}
        self.factors, self.dtype, self.eps, self.literals = factors, dtype, eps, literals
        self.replaced: set[float] = set()
        self.calls = 0
        self.order = [0] * len(self.place)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name in _QUESTIONS or (name == "__get__" and getattr(func.__self__, "__name__", "") in _ASKED):
            return func(*args, **kwargs)
        if name in _DROPOUT:
            return args[0] if args else kwargs["input"]
        if "dropout_p" in kwargs:
            kwargs["dropout_p"] = 0.0
        if self.dtype is not None:
            if name in _CASTS and args and isinstance(args[0], Tensor):
                return args[0].to(self.dtype)
            args = tuple(self.dtype if a in _LOW else a for a in args) if any(map(_is_low, args)) else args
            kwargs = {k: self.dtype if _is_low(v) else v for k, v in kwargs.items()}
        if self.eps is not None:
            args, kwargs = self._without_eps(func, name, args, kwargs)
            if self.literals and name in _ADDS:
                args = (*args[:1], *(self._literal(a) for a in args[1:]))
                kwargs = {k: self._literal(v) if k in ("other", "min") else v for k, v in kwargs.items()}
        self.calls += 1
        used = self._used(args) + self._used(kwargs.values())
        if not used:
            return func(*args, **kwargs)
        for i in used:
            self.order[i] = self.calls
        if self.factors is None:
            return func(*args, **kwargs)
        spared = self._linear(func, args, kwargs, used)
        return (
            spared
            if spared is not None
            else func(*self._multiplied(args), **{k: self._multiplied(v) for k, v in kwargs.items()})
        )

    def _without_eps(
        self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        at, python = _EPS_AT.get(name), inspect.isfunction(func)
        if python:
            names = _eps_parameter(func)
            at = names.index("eps") if names else None
        if "eps" in kwargs or (python and at is not None and len(args) <= at):
            kwargs["eps"] = self.eps
        elif at is not None and len(args) > at and isinstance(args[at], float):
            args = (*args[:at], self.eps, *args[at + 1 :])
        return args, kwargs

    def _literal(self, value: Any) -> Any:
        if type(value) is float and 1e-20 < value <= LARGEST_EPS:
            self.replaced.add(value)
            return self.eps
        return value

    def _used(self, values: Iterable[Any]) -> list[int]:
        found = []
        for value in values:
            if isinstance(value, Tensor):
                if id(value) in self.place:
                    found.append(self.place[id(value)])
            elif isinstance(value, (list, tuple)):
                found += self._used(value)
        return found

    def _multiplied(self, value: Any) -> Any:
        assert self.factors is not None
        if isinstance(value, Tensor):
            i = self.place.get(id(value))
            return value if i is None else value * self.factors[i]
        if isinstance(value, (list, tuple)):
            new = [self._multiplied(v) for v in value]
            return type(value)(new) if type(value) in (list, tuple) else value
        return value

    def _linear(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], used: list[int]) -> Tensor | None:
        """The call with its factors taken outside, or None where that is not plainly right."""
        assert self.factors is not None
        try:
            weight_at, bias_at, weight_name, bias_name = _LINEAR[func]
        except (KeyError, TypeError):  # another map, an unhashable callable
            return None
        if func is functional.embedding and (len(args) > 2 or set(kwargs) - {"weight"}):
            options = dict(zip(("padding_idx", "max_norm"), args[2:4])) | kwargs
            if options.get("padding_idx") is not None or options.get("max_norm") is not None:
                return None  # no gradient flows to that row; the table is changed in place
        if func is torch.addmm and (len(args) > 3 or set(kwargs) & {"beta", "alpha", "out"}):
            return None

        def given(at: int, name: str) -> Any:
            return args[at] if len(args) > at else kwargs.get(name)

        weight: Any = given(weight_at, weight_name)
        bias: Any = None if bias_at is None else given(bias_at, bias_name)
        i, j = self.place.get(id(weight)), None if bias is None else self.place.get(id(bias))
        if i is None or len(used) != 1 + (j is not None):
            return None
        shift: Any = bias if j is None else bias * self.factors[j]
        if func is torch.addmm:
            sum_: Tensor = torch.mm(given(1, "mat1"), weight) * self.factors[i] + shift
            return sum_
        values = list(args)
        if bias_at is not None and len(values) > bias_at:
            values[bias_at] = None
        elif bias is not None:
            kwargs[bias_name] = None
        result: Tensor = func(*values, **kwargs) * self.factors[i]
        if bias is not None:
            spatial = 0 if func is functional.linear else weight.dim() - 2
            result = result + shift.reshape(-1, *[1] * spatial)
        return result


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in _LOW
