"""What a model computes when every parameter tensor carries a factor, seen call by call.

One ``TorchFunctionMode`` does what needs no knowledge of the layers: it puts the factors in, notes the order in which
tensors are used, keeps the arithmetic in one precision (constants that no module owns too), takes the eps out of
normalization functions, and gives embeddings a gradient for every row.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from scaleinv.errors import UserError

_LOW = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_CASTS = ("float", "half", "bfloat16", "double")
_DROPOUT = frozenset(
    [f"{kind}{end}" for kind in ("", "alpha_", "feature_", "feature_alpha_") for end in ("dropout", "dropout_")]
    + ["dropout1d", "dropout2d", "dropout3d"]
)
#: normalization calls and the place of eps among their positional arguments; of Python functions, by its name
_EPS_AT = {
    "batch_norm": 7, "instance_norm": 7, "layer_norm": 4, "group_norm": 4, "rms_norm": 3, "pairwise_distance": 3,
    "cosine_similarity": 3,
}  # fmt: skip
_PYTHON_EPS = frozenset([*_EPS_AT, "normalize"])
#: those below Python that have an eps of their own where none is given
_DEFAULT_EPS = frozenset(["pairwise_distance", "cosine_similarity"])
#: what only asks a tensor about itself: methods, attributes
_QUESTIONS = frozenset([
    "size", "dim", "ndimension", "numel", "nelement", "stride", "is_floating_point", "is_complex", "is_contiguous",
    "element_size", "data_ptr", "get_device", "storage_offset", "__hash__", "__len__", "is_same_size",
    "untyped_storage", "has_names", "requires_grad_", "is_conj", "is_neg", "__repr__", "__format__", "register_hook",
    "detach_", "_is_view", "is_shared", "is_pinned",
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


#: embeddings and their further arguments
_EMBEDDINGS = {
    "embedding": ("padding_idx", "max_norm", "norm_type", "scale_grad_by_freq", "sparse"),
    "embedding_bag": (
        "offsets", "max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse", "per_sample_weights",
        "include_last_offset", "padding_idx",
    ),
}  # fmt: skip
_NORMS = frozenset(["batch_norm", "instance_norm", "group_norm"])
_WEIGHINGS = frozenset(["softmax", "log_softmax", "scaled_dot_product_attention"])
#: calls whose arguments keep their precision
_KEPT = frozenset(["set_", "__set__", "__setitem__", "numpy", "tolist", "item", "backward"])


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
    order: the number of the last call that used each tensor (0 = none), filled while the model runs.
    few: what was normalised over one or two values only, which gives +1 and -1, or 1, whatever the weights are.
    stand_in: pairs of tensors (another copy's parameter, the one to be used in its place).
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        factors: list[Tensor] | None,
        dtype: torch.dtype | None,
        eps: float | None,
        stand_in: Sequence[tuple[Tensor, Tensor]] = (),
    ) -> None:
        super().__init__()
        self.stand_in = {id(a): b for a, b in stand_in}
        self.place = {id(p): i for i, p in enumerate(parameters)}
        self.factors, self.dtype, self.eps = factors, dtype, eps
        self.few: list[str] = []
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
        args, kwargs = self._own(args), {k: self._own(v) for k, v in kwargs.items()}
        if self.dtype is not None:
            if name in _CASTS and args and isinstance(args[0], Tensor) and not args[0].is_complex():
                return args[0].to(self.dtype)
            args = tuple(self.dtype if a in _LOW else a for a in args) if any(map(_is_low, args)) else args
            kwargs = {k: self.dtype if _is_low(v) else v for k, v in kwargs.items()}
            if self.dtype is torch.float64 and any(map(_is_low_complex, (*args, *kwargs.values()))):
                args = tuple(torch.complex128 if _is_low_complex(a) else a for a in args)
                kwargs = {k: torch.complex128 if _is_low_complex(v) else v for k, v in kwargs.items()}
            if name not in _KEPT:
                at = 1 if name.endswith("_") and not name.endswith("__") else 0  # in place: the target stays what it is
                args = (*args[:at], *self._raised(args[at:]))
                kwargs = {k: self._raised(v) if k != "out" else v for k, v in kwargs.items()}
        if name in _EMBEDDINGS and inspect.isfunction(func):
            args, kwargs = _every_row(name, args, kwargs)
        if name in _NORMS:
            self._count_values(name, args, kwargs)
        elif name in _WEIGHINGS:
            self._count_entries(name, args, kwargs)
        if self.eps is not None:
            args, kwargs = self._without_eps(func, name, args, kwargs)
        if name in ("grouped_mm", "_grouped_mm") and self.dtype is torch.float64:
            func = grouped_mm
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
        if name not in _PYTHON_EPS:
            return args, kwargs
        if python:
            names = _eps_parameter(func)
            at = names.index("eps") if names else None
        given = at is not None and len(args) > at
        if "eps" in kwargs or (not given and at is not None and (python or name in _DEFAULT_EPS)):
            kwargs["eps"] = self.eps
        elif at is not None and given and isinstance(args[at], float):
            args = (*args[:at], self.eps, *args[at + 1 :])
        return args, kwargs

    def _own(self, value: Any) -> Any:
        """Put this copy's parameters where those of the model it was copied from stand."""
        if isinstance(value, Tensor):
            return self.stand_in.get(id(value), value)
        if type(value) in (list, tuple) and any(isinstance(v, (Tensor, list, tuple)) for v in value):
            return type(value)([self._own(v) for v in value])
        return value

    def _raised(self, value: Any) -> Any:
        """Bring floating tensors of another precision into this one; parameters are in it already."""
        if isinstance(value, Tensor):
            if id(value) in self.place or value.layout is not torch.strided:
                return value
            if value.dtype in _LOW and value.dtype is not self.dtype:
                return value.to(self.dtype)
            if self.dtype is torch.float64 and value.dtype is torch.complex64:
                return value.to(torch.complex128)
            return value
        if type(value) in (list, tuple):
            return type(value)([self._raised(v) for v in value])
        return value

    def _count_values(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a norm over two values: what comes out is +1 and -1, and no weight before it matters."""
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or x.dim() < 2:
            return
        if name == "group_norm":
            size = x[0].numel() // int(kwargs.get("num_groups", args[1] if len(args) > 1 else 1))
            if x.dim() > 2 and size <= 2:
                self.few.append(f"group norm over {x.shape[1]} channels")
            return
        batch = name == "batch_norm" and bool(kwargs.get("training", args[5] if len(args) > 5 else False))
        count = x.numel() // x.shape[1] if batch else x[0, 0].numel() if name == "instance_norm" else 0
        if count == 2:
            self.few.append(f"{name.replace('_', ' ')} over {x.shape[1]} channels")

    def _count_entries(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Note a softmax over one entry, which is 1 whatever the weights are: attention to one token."""
        if name == "scaled_dot_product_attention":
            key = kwargs.get("key", args[1] if len(args) > 1 else None)
            if isinstance(key, Tensor) and key.dim() > 1 and key.shape[-2] == 1:
                self.few.append("attention to one token")
            return
        x, dim = args[0] if args else kwargs.get("input"), kwargs.get("dim", args[1] if len(args) > 1 else None)
        if isinstance(x, Tensor) and isinstance(dim, int) and x.dim() and x.shape[dim] == 1 and id(x) not in self.place:
            self.few.append("softmax over one entry")

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
        if func is functional.embedding and kwargs.get("max_norm", args[3] if len(args) > 3 else None) is not None:
            return None  # the table is changed in place
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


def _every_row(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Let the gradient of an embedding be that of the function: dense, with the padding row, not scaled by counts."""
    options = dict(zip(_EMBEDDINGS[name], args[2:]))
    changed = options | kwargs
    for key, plain in (("sparse", False), ("scale_grad_by_freq", False)):
        if key in changed:
            changed[key] = plain
    if name == "embedding" and "padding_idx" in changed:
        changed["padding_idx"] = None
    return args[:2], changed


def grouped_mm(
    mat_a: Tensor, mat_b: Tensor, *, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Tensor:
    """Multiply group by group, as ``torch.nn.functional.grouped_mm`` does, in any precision.

    offs (G,): where each group ends, along the rows of ``mat_a`` (2-D by 3-D), the columns of ``mat_b`` (3-D by 2-D) or
    the dimension that is summed over (2-D by 2-D).
    """
    if mat_a.dim() == mat_b.dim() == 3:
        result = torch.bmm(mat_a, mat_b)
        return result if bias is None else result + bias.unsqueeze(1)
    if offs is None:
        raise UserError("grouped_mm is called without offs on matrices of two dimensions")
    ends = offs.tolist()
    spans = list(zip([0, *ends[:-1]], ends))
    if mat_a.dim() == 2 and mat_b.dim() == 3:
        parts = [mat_a[a:b] @ mat_b[g] for g, (a, b) in enumerate(spans)]
        if bias is not None:
            parts = [part + bias[g] for g, part in enumerate(parts)]
        rest = mat_a.shape[0] - ends[-1]  # rows behind the last group are not defined; zeros here
        return torch.cat([*parts, mat_a.new_zeros(rest, mat_b.shape[-1])])
    if mat_a.dim() == 3:
        return torch.cat([mat_a[g] @ mat_b[:, a:b] for g, (a, b) in enumerate(spans)], dim=1)
    return torch.stack([mat_a[:, a:b] @ mat_b[a:b] for a, b in spans])


def _is_low(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in _LOW


def _is_low_complex(value: Any) -> bool:
    return isinstance(value, torch.dtype) and value in (torch.complex64, torch.complex32)
