"""From the words of a command line to a model and its inputs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError

_FORM = (
    "give PACKAGE.MODULE:FACTORY or FILE.py:FACTORY, FACTORY a function without arguments, a Module class or a Module"
)


def load_model(target: str) -> nn.Module:
    """The model that ``PACKAGE.MODULE:FACTORY`` (or ``FILE.py:FACTORY``) names; what it prints goes to stderr.

    Raises UserError where the module or factory is not found, needs arguments, fails, or gives no ``nn.Module``.
    """
    _look_here()
    where, colon, name = target.rpartition(":")
    if not colon or not where or not name:
        raise UserError(f"{target!r} does not name a model; {_FORM}")
    with contextlib.redirect_stdout(sys.stderr):
        found: Any = _module(where)
        for part in name.split("."):
            if not hasattr(found, part):
                names = (
                    [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
                    if hasattr(found, "__dict__")
                    else []
                )
                hint = f"; it has: {', '.join(sorted(names)[:12])}" if names else ""
                raise UserError(f"{where}{_elsewhere(where)} has no {part!r}{hint}")
            found = getattr(found, part)
        if not isinstance(found, nn.Module):
            found = _called(found, target)
    if not isinstance(found, nn.Module):
        raise UserError(f"{target} gives {type(found).__name__}, not a torch.nn.Module; {_FORM}")
    return found


def _look_here() -> None:
    """A user's own module is found in the current folder: last, so that no file there is taken for a library."""
    with contextlib.suppress(OSError):  # the folder is gone
        here = os.getcwd()
        if here not in sys.path:
            sys.path.append(here)


def _elsewhere(where: str) -> str:
    """Where a module was found, if one of the same name is here."""
    if not where.isidentifier() or not Path(f"{where}.py").is_file():
        return ""
    file = getattr(sys.modules.get(where), "__file__", None)
    if file is not None and Path(file).resolve() == Path(f"{where}.py").resolve():
        return ""
    return f" ({file or 'built into Python'}; for the file here write {where}.py:FACTORY)"


def _module(where: str) -> ModuleType:
    try:
        if where.endswith(".py"):
            path = Path(where)
            if not path.is_file():
                raise UserError(f"there is no file {where!r}; {_FORM}")
            # not by its stem alone: nobody who imports copy is to get the user's copy.py
            spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module
            spec.loader.exec_module(module)
            return module
        return importlib.import_module(where)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(error.name + ".")):
            raise UserError(f"there is no module {where!r} here or on the Python path; {_FORM}") from error
        raise UserError(
            f"{where} imports {error.name}, which is not installed; install it or remove the import"
        ) from error
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error


def _called(factory: Any, target: str) -> Any:
    if not callable(factory):
        raise UserError(f"{target} is {type(factory).__name__}, not a model or a function that makes one; {_FORM}")
    try:
        needed = [
            p.name
            for p in inspect.signature(factory).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = []
    if needed:
        raise UserError(
            f"{target} needs arguments ({', '.join(needed)}); name a function that calls it without arguments"
        )
    try:
        return factory()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{target}() fails: {type(error).__name__}: {error}") from error


def parse_inputs(texts: Sequence[str], seed: int = 0) -> tuple[Tensor, ...] | dict[str, Tensor]:
    """Random inputs from their descriptions, one tensor each.

    ``8,3,32,32``: standard normal numbers of that shape. ``int:2,16:50257``: whole numbers from 0 to 50256. With
    ``NAME=`` in front of every one the model gets them by name.

    >>> [t.shape for t in parse_inputs(["8,3", "int:2,16:100"])]
    [torch.Size([8, 3]), torch.Size([2, 16])]
    """
    if not texts:
        raise UserError("give at least one --input, for example --input 12,3,32,32 or --input int:2,16:50257")
    generator = torch.Generator().manual_seed(seed)
    named: dict[str, Tensor] = {}
    plain: list[Tensor] = []
    for text in texts:
        name, equals, rest = text.rpartition("=")
        tensor = _tensor(rest if equals else text, generator)
        if equals:
            named[name] = tensor
        else:
            plain.append(tensor)
    if named and plain:
        raise UserError("some inputs have a name and some have none; name all of them or none")
    return named if named else tuple(plain)


def _tensor(text: str, generator: torch.Generator) -> Tensor:
    parts = text.split(":")
    form = "write 8,3,32,32 for numbers, int:2,16:50257 for integers below 50257"
    whole = parts[0] == "int"
    if (whole and len(parts) != 3) or (not whole and len(parts) != 1):
        raise UserError(f"input {text!r} is not understood; {form}")
    try:
        shape = [int(n) for n in parts[1 if whole else 0].split(",")]
        high = int(parts[2]) if whole else 1
    except ValueError:
        raise UserError(f"input {text!r} is not understood; {form}") from None
    if any(n < 1 for n in shape) or high < 1:
        raise UserError(f"input {text!r} has a size that is not positive; {form}")
    if math.prod(shape) > 2**31:
        raise UserError(f"input {text!r} has {math.prod(shape)} numbers; a small batch is enough")
    if whole:
        return torch.randint(high, shape, generator=generator)
    return torch.randn(shape, generator=generator)
