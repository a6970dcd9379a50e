"""Find the small constants that act as the eps of a normalization, wherever they are written, and set them.

Below autograd every operation of a model passes one point (``TorchDispatchMode``), whether it was written in Python, as
a method, scripted, traced or exported. A small number that is added to a tensor, or bounds it from below, can be an eps
if what comes out becomes a divisor; a margin, a temperature or a small shift does not. A constant is known by its
**site**: the line of code and the number.
"""

import re
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

#: the largest and the smallest number taken for an eps
LARGEST_EPS = 0.1
_SMALLEST_EPS = 1e-25
#: entries of a constant tensor at most
_MANY = 4096


class Site(NamedTuple):
    """A small constant in the code of a model."""

    value: float
    file: str
    line: int
    outside: bool  # added outside a root: its effect falls as 1/c, not 1/c^2
    norm: bool  # the eps argument of a normalization that is called below Python

    def __str__(self) -> str:
        where = f" at {self.file.rpartition('/')[2]}:{self.line}" if self.line else ""
        return f"{self.value:g}{where}"


#: code made by torch.fx has a new number in every copy
_NUMBERED = re.compile(r"(?<=^<eval_with_key>)\.\d+$")
#: what a site is known by
Key = tuple[float, str, int]
_ADDS = frozenset(["add", "add_", "clamp", "clamp_", "clamp_min", "clamp_min_", "maximum", "fmax"])
_BOUNDS = frozenset(["clamp", "clamp_", "clamp_min", "clamp_min_", "maximum", "fmax"])
#: what a divisor may go through on its way to the division
_PASS = frozenset([
    "abs", "view", "_unsafe_view", "reshape", "unsqueeze", "squeeze", "expand", "_to_copy", "to", "alias", "clone",
    "permute", "transpose", "t", "select", "slice", "unbind", "split", "split_with_sizes", "mul", "mul_", "repeat",
    "lift_fresh", "detach", "detach_", "contiguous", "neg", "cat", "stack", "index", "index_select", "gather",
    "broadcast_to", "view_as", "expand_as", "squeeze_", "unsqueeze_", "convert_element_type",
])  # fmt: skip
_POWERS = frozenset(["pow", "pow_", "float_power"])
_ROOTS = frozenset(["sqrt", "sqrt_"])
#: operations with an eps of their own, and the place of it
_NORMS = {
    "native_layer_norm": 4, "native_batch_norm": 7, "_native_batch_norm_legit": 7, "native_group_norm": 7,
    "_native_batch_norm_legit_functional": 7, "_native_batch_norm_legit_no_training": 6, "batch_norm_with_update": 6,
    "cudnn_batch_norm": 7, "miopen_batch_norm": 7, "_fused_rms_norm": 3,
}  # fmt: skip


class EpsSites(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Watch for small constants while a model runs, and replace those at ``active`` sites by ``eps``.

    found: every site whose constant ended in a divisor, filled while the model runs.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # what is run here is not compiled, and loading dynamo takes seconds

    def __init__(self, active: frozenset[Key], eps: float | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.active, self.eps = active, eps
        self.found: dict[Key, Site] = {}
        self._tags: Any = WeakTensorKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func._schema.name.partition("::")[2]
        if name in _NORMS:
            return func(*self._without_eps(args, _NORMS[name]), **kwargs)
        if name in _ADDS:
            return self._added(func, name, args, kwargs)
        self._divided(name, args)
        result = func(*args, **kwargs)
        if name in _POWERS and len(args) > 1 and not isinstance(args[1], Tensor) and 0 < args[1] < 1:
            name = "sqrt"
        if len(self._tags) and (name in _PASS or name in _ROOTS):
            self._carry(name, args, result)
        return result

    def _without_eps(self, args: tuple[Any, ...], at: int) -> tuple[Any, ...]:
        if len(args) <= at or not isinstance(args[at], float) or args[at] <= _SMALLEST_EPS:
            return args
        file, line = _caller()
        key = (args[at], file, line)
        self.found[key] = Site(args[at], file, line, False, True)
        if key in self.active and self.eps is not None:
            return (*args[:at], self.eps, *args[at + 1 :])
        return args

    def _added(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        values = [*args[:2], *(kwargs[k] for k in ("other", "min") if k in kwargs)]
        tensors = [v for v in values if isinstance(v, Tensor)]
        small = [(v, x) for v in values if (x := _constant(v)) is not None]
        if len(small) == 2:  # a length as small as an eps, in a run without gradients
            here = _caller()
            known = [(v, x) for v, x in small if (x, *here) in self.active]
            small = known or [(v, x) for v, x in small if not isinstance(v, Tensor)]
        factor = float(kwargs.get("alpha", 1))  # of the second argument
        if len(small) != 1 or len(values) != 2 or not tensors or (factor != 1 and small[0][0] is not args[0]):
            result = func(*args, **kwargs)
            if tensors and name in ("add", "add_") and len(self._tags):
                self._carry(name, args, result)
            return result
        constant, value = small[0]
        file, line = _caller()
        key = (value, file, line)
        if key in self.active and self.eps is not None:
            new = self.eps if not isinstance(constant, Tensor) else torch.full_like(constant, self.eps)
            args = tuple(new if a is constant else a for a in args)
            kwargs = {k: new if v is constant else v for k, v in kwargs.items()}
        result = func(*args, **kwargs)
        self._tags[result] = {(key, name in _BOUNDS): False, **self._tags.get(tensors[0], {})}
        return result

    def _carry(self, name: str, args: tuple[Any, ...], result: Any) -> None:
        tags: dict[Any, bool] = {}
        for a in args:
            for t in a if isinstance(a, (list, tuple)) else (a,):
                if isinstance(t, Tensor):
                    tags |= self._tags.get(t, {})
        if not tags:
            return
        if name in _ROOTS:
            tags = dict.fromkeys(tags, True)
        for t in result if isinstance(result, (list, tuple)) else (result,):
            if isinstance(t, Tensor):
                self._tags[t] = {**self._tags.get(t, {}), **tags}

    def _divided(self, name: str, args: tuple[Any, ...]) -> None:
        if name in ("div", "div_") and len(args) > 1 and isinstance(args[1], Tensor):
            self._note(args[1], rooted=False)
        elif name in ("reciprocal", "reciprocal_"):
            self._note(args[0], rooted=False)
        elif name in ("rsqrt", "rsqrt_"):
            self._note(args[0], rooted=True)
        elif name in _POWERS and len(args) > 1 and isinstance(args[0], Tensor):
            power = args[1]
            if not isinstance(power, Tensor) and power < 0:
                self._note(args[0], rooted=power > -1)

    def _note(self, divisor: Tensor, *, rooted: bool) -> None:
        for (key, bound), root in self._tags.get(divisor, {}).items():
            outside = not (root or rooted) and not bound
            before = self.found.get(key)
            value, file, line = key
            self.found[key] = Site(value, file, line, outside or (before is not None and before.outside), False)


def _constant(value: Any) -> float | None:
    """Read a small constant: a number, or a tensor of one value, however often, that no parameter acts on."""
    if isinstance(value, float):
        number = value
    elif isinstance(value, Tensor) and 0 < value.numel() <= _MANY and value.is_floating_point():
        if value.requires_grad or value.grad_fn is not None or torch._C._functorch.is_functorch_wrapped_tensor(value):
            return None
        number = float(value.reshape(-1)[0])
        if not _SMALLEST_EPS < number <= LARGEST_EPS or (value.numel() > 1 and not bool((value == number).all())):
            return None
    else:
        return None
    return number if _SMALLEST_EPS < number <= LARGEST_EPS else None


def _caller() -> tuple[str, int]:
    """Find the line of the model's code that is running: the first outside torch and this package."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/torch/" not in file and "\\torch\\" not in file and "/scaleinv/symmetry/" not in file:
            return _NUMBERED.sub("", file), frame.f_lineno
        frame = frame.f_back
    return "", 0
