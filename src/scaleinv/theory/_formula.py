"""Make formulas: functions of named quantities that know their domain and their conditions.

Arguments are numbers, numpy arrays or torch tensors and are broadcast; the computation is numpy float64; the answer
is of the kind of the arguments (a float for numbers, a float64 tensor on the same device if any argument is a
tensor). NaN in, NaN out.

A value that no reading of the formula allows (a negative learning rate) raises :class:`~scaleinv.errors.UserError`. A
formula that holds under conditions only names them: outside, numbers raise :class:`OutsideConditions`; arrays have NaN
at those places, and ``formula.reasons(...)`` says in words why, place by place. There is never a silent number.
"""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeAlias

import numpy as np

from scaleinv.errors import UserError

P = ParamSpec("P")

#: a float, a numpy array or a torch tensor
Number: TypeAlias = Any


class OutsideConditions(UserError):
    """The formula does not hold at these values; the message names the condition."""


_POSITIVE: tuple[str, Callable[[Any], Any]] = ("positive", lambda v: v > 0)
# What every quantity may be, wherever it occurs. NaN passes: an unmeasured value is not a mistake.
_DOMAINS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    name: (words, allowed)
    for names, words, allowed in (
        ("lr elr elrs rho rho_sq rho0_sq alpha alphas low high k phi tolerance factor update", *_POSITIVE),
        ("wd eg ess esses steps sharpness noise temperature gradient_sq", "zero or positive", lambda v: v >= 0),
        ("momentum beta1 beta2", "in [0, 1)", lambda v: (v >= 0) & (v < 1)),
        ("delta", "in (0, 1)", lambda v: (v > 0) & (v < 1)),
        ("keep", "in (0, 1]", lambda v: (v > 0) & (v <= 1)),
        ("dimension", "at least 2", lambda v: v >= 2),
    )
    for name in names.split()
}


class Condition:
    """A condition under which a formula holds: callable on the quantities it needs, gives booleans."""

    def __init__(self, name: str, text: str, function: Callable[..., Any]) -> None:
        self.name, self.text, self.function = name, text, function
        self.parameters = tuple(inspect.signature(function).parameters)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        bound = inspect.signature(self.function).bind(*args, **kwargs).arguments
        values = {name: _numeric(value) for name, value in bound.items()}
        _check_domains(self.name, values)
        return _restore(self.function(**values), list(bound.values()), kind=bool)


class Formula(Generic[P]):
    """A function of the papers; the module's docstring says what it does outside its conditions."""

    def __init__(self, function: Callable[P, Any], requires: tuple[Condition, ...], positive: tuple[str, ...]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.requires = requires
        self.positive = positive
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        given, values = self._bind(args, kwargs)
        with np.errstate(all="ignore"):
            result = self.function(**values)  # type: ignore[call-arg]
            for condition in self.requires:
                fails = self._fails(condition, values)
                if np.any(fails):
                    if all(np.ndim(value) == 0 for value in values.values()):
                        raise OutsideConditions(self._reason(condition, values))
                    parts = [np.where(fails, np.nan, v) for v in (result if isinstance(result, tuple) else (result,))]
                    result = tuple(parts) if isinstance(result, tuple) else parts[0]
        return _restore(result, given)

    def reasons(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Say why there is no number: a string, or an array of them in the answer's shape; empty where it holds."""
        _, values = self._bind(args, kwargs)
        shape = np.broadcast_shapes(*(np.shape(value) for value in values.values()))
        words = np.full(shape, "", dtype=object)
        with np.errstate(all="ignore"):
            for condition in reversed(self.requires):
                fails = np.broadcast_to(self._fails(condition, values), shape)
                for place in np.ndindex(shape):
                    if fails[place]:
                        here = {name: np.broadcast_to(value, shape)[place] for name, value in values.items()}
                        words[place] = self._reason(condition, here)
        return words if shape else str(words[()])

    def _bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        values = {name: _numeric(value) for name, value in bound.arguments.items()}
        _check_domains(self.function.__name__, values, self.positive)
        return list(bound.arguments.values()), values

    def _fails(self, condition: Condition, values: dict[str, Any]) -> Any:
        needed = {name: values[name] for name in condition.parameters}
        unknown = functools.reduce(np.logical_or, [np.isnan(value) for value in needed.values()])
        return np.logical_and(np.logical_not(condition.function(**needed)), np.logical_not(unknown))

    def _reason(self, condition: Condition, values: dict[str, Any]) -> str:
        where = ", ".join(f"{name}={float(values[name]):.6g}" for name in condition.parameters)
        name = self.function.__name__
        return f"{name} is outside its conditions: {condition.name} ({condition.text}) fails at {where}"


def formula(*requires: Condition, positive: tuple[str, ...] = ()) -> Callable[[Callable[P, Any]], Formula[P]]:
    """Make a formula of a function; ``positive`` names quantities that may be zero elsewhere but not here."""
    return lambda function: Formula(function, requires, positive)


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _numeric(value: Any) -> Any:
    if _is_tensor(value):
        return value.detach().to("cpu").double().numpy()
    return np.asarray(value, dtype=np.float64)


def _restore(result: Any, given: list[Any], kind: type = float) -> Any:
    if isinstance(result, tuple):
        return tuple(_restore(part, given, kind) for part in result)
    tensor = next((value for value in given if _is_tensor(value)), None)
    if tensor is not None:
        torch = sys.modules["torch"]
        return torch.as_tensor(np.array(result), device=tensor.device)
    return kind(result) if np.ndim(result) == 0 else result


@np.errstate(all="ignore")
def _check_domains(where: str, values: dict[str, Any], positive: tuple[str, ...] = ()) -> None:
    ranges = {name: _POSITIVE if name in positive else _DOMAINS[name] for name in values if name in _DOMAINS}
    checked = [(name, values[name], *ranges[name]) for name in ranges]
    if "lr" in values and "wd" in values:
        checked.append(("lr * wd", values["lr"] * values["wd"], "below 1", lambda v: v < 1))
    for name, value, words, allowed in checked:
        wrong = np.ravel(value)[~np.ravel(allowed(value) | np.isnan(value))]
        if wrong.size:
            raise UserError(f"{where}: {name} is {float(wrong[0]):g}; it has to be {words}")
    if "low" in values and "high" in values and np.any(values["low"] > values["high"]):
        raise UserError(f"{where}: low is above high; low <= eg <= high bound the effective gradient norm")
