"""Check the doctor's answer on some seventy architectures by means of its own: no autograd, none of its code.

    python -m benchmarks.doctor [NAME ...] [--part page|timm|transformers] [--json FILE]

At another place of the weights, in float64: every claim by scaling, without the eps of what calls itself a norm, and
where another eps is in the way by its law, c^-1 or c^-2; completeness by central differences of the outputs in the
logarithm of each tensor's scale: their null space must have as many dimensions as there are claims. Exit status 1 if
a verdict of "clear" is wrong. The table has a row an architecture; benchmarks/doctor_page.py makes
docs/results/doctor.md of the file.
"""

from __future__ import annotations

import argparse
import copy
import json
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from benchmarks.architectures import ARCHITECTURES, Architecture
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from scaleinv.errors import UserError
from scaleinv.symmetry import Symmetries, find_symmetries
from scaleinv.symmetry.result import Sliced

#: factors at which a claim is tried, and the change that is nothing
_FACTORS = (1.0, 1e1, 1e2, 1e3, 1e4)
_NOTHING = 1e-9
#: step of the central differences, and the singular value below which a direction is null
_STEP = 1e-5
_NULL = 1e-6
#: places of the weights at most
_PLACES = 6


@dataclass
class Checked:
    """One architecture: what the doctor says and what the check sees."""

    name: str
    library: str
    tensors: int = 0
    verdict: str = ""
    headline: str = ""
    claims: int = 0
    wrong: list[str] = field(default_factory=list)  # claims that fail
    dimensions: int = 0  # of the doctor's null space
    measured: int = -1  # of the differences' null space
    kept: float = float("nan")  # smallest singular value kept, relative to the largest
    dropped: float = float("nan")  # largest dropped
    seconds: float = 0.0
    error: str = ""
    answer: dict[str, Any] = field(default_factory=dict)

    @property
    def resolved(self) -> bool:
        """Whether the differences show a gap, and not fewer dimensions than there are claims that hold by scaling.

        Claims are independent, so there are at least as many: a difference across a kink is as large as what was kept.
        """
        return not self.dropped > 0.1 * self.kept and not (self.measured < self.dimensions and not self.wrong)

    @property
    def right(self) -> bool:
        """A clear verdict that the check does not contradict; another verdict is no wrong one."""
        if not self.resolved and not self.wrong:
            return True
        return self.verdict in ("undecided", "refused") or (not self.wrong and self.measured == self.dimensions)


class _InDouble(TorchFunctionMode):
    """Whatever asks for float32 gets float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") == "float":
            return args[0].double() if args[0].is_floating_point() else args[0].to(torch.float64)
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        return func(*args, **{k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()})


class Twin:
    """A copy of the model in float64 whose weights are set before every run; no dropout of any kind."""

    def __init__(self, model: nn.Module, inputs: Any) -> None:
        self.model = copy.deepcopy(model).double().train()
        if hasattr(model, "set_experts_implementation"):
            self.model.set_experts_implementation("eager")  # grouped products know no double precision
        for module in self.model.modules():
            for key, value in list(vars(module).items()):
                if type(value) is float and "drop" in key.lower():
                    setattr(module, key, 0.0)
                elif type(module).__name__.lower().startswith("drop") and key == "p":
                    module.p = 0.0
        generator = torch.Generator().manual_seed(77)
        self.weights = {
            name: _moved(p.detach(), generator) for name, p in self.model.named_parameters() if p.is_floating_point()
        }
        self.buffers = {name: b.detach().clone() for name, b in self.model.named_buffers()}
        self.inputs = _in_double((inputs,) if isinstance(inputs, Tensor) else inputs)

    def tiny_eps(self) -> None:
        """Take the eps out of what calls itself a norm."""
        for module in self.model.modules():
            if "norm" in type(module).__name__.lower():
                for key, value in list(vars(module).items()):
                    if type(value) is float and re.search("eps", key):
                        setattr(module, key, 1e-30)

    def outputs(self, factors: Mapping[str, Any]) -> Tensor:
        """Run with some weights multiplied; the outputs that a loss sees, as one vector."""
        own = dict(self.model.named_parameters())
        previous = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad(), torch.random.fork_rng(), _InDouble():
                torch.manual_seed(0)
                for name, w in self.weights.items():
                    own[name].copy_(w * factors[name] if name in factors else w)
                for name, b in self.model.named_buffers():
                    b.copy_(self.buffers[name])
                x = self.inputs
                result = (
                    self.model(**x)
                    if isinstance(x, dict)
                    else self.model(*x)
                    if isinstance(x, tuple)
                    else self.model(x)
                )
        finally:
            torch.set_default_dtype(previous)
        return torch.cat([t.reshape(-1) for t in _results(result)])


def _moved(w: Tensor, generator: torch.Generator) -> Tensor:
    rms = float(w.square().mean().sqrt()) if w.numel() else 0.0
    return w + torch.randn(w.shape, generator=generator, dtype=torch.float64) * max(0.15 * rms, 0.03)


def _in_double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if isinstance(value, Mapping):
        return {k: _in_double(v) for k, v in value.items()}
    return tuple(_in_double(v) for v in value)


def _results(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value] if value.is_floating_point() else []
    if isinstance(value, Mapping):
        if isinstance(value.get("logits"), Tensor):
            return [value["logits"]]
        return [t for k, v in value.items() if k not in ("past_key_values", "cache_params") for t in _results(v)]
    if isinstance(value, (tuple, list)):
        return [t for v in value for t in _results(v)]
    return []


Scaling = Callable[[float], dict[str, Any]]


def claims(found: Symmetries, twin: Twin) -> Iterator[tuple[str, Scaling, Scaling]]:
    """Give (name, scaling by c, the same with twice the factor, or one of its own for every slice)."""

    def rescaled(exponents: Mapping[str, int], more: float) -> Scaling:
        return lambda c: {name: (more * c) ** n for name, n in exponents.items()}

    def sliced(name: str, dim: int, spans: Sequence[tuple[int, int]] | None, more: float) -> Scaling:
        w = twin.weights[name]
        shape = [n if d == dim else 1 for d, n in enumerate(w.shape)]
        draw = torch.rand(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        inside = torch.zeros(w.shape[dim], dtype=torch.bool)
        for a, b in spans or [(0, w.shape[dim])]:
            inside[a:b] = True

        def factor(c: float) -> dict[str, Any]:
            own = 1 + (more - 1) * (draw if spans is None else 1.0)
            return {name: torch.where(inside.view(shape), c * own, torch.ones(1, dtype=torch.float64))}

        return factor

    def slices(trade: Sliced, more: float) -> Scaling:
        def factors(c: float) -> dict[str, Any]:
            result: dict[str, Any] = {}
            for piece, exponent in trade.exponents:
                w = twin.weights[piece.name]
                factor = torch.ones(w.shape, dtype=torch.float64)
                for a, b in piece.ranges or [(0, w.shape[piece.dim or 0])]:
                    factor.narrow(piece.dim or 0, a, b - a).mul_((more * c) ** exponent)
                result[piece.name] = result.get(piece.name, 1.0) * factor
            return result

        return factors

    for tensors in [(name,) for name in found.single] + list(found.joint):
        exponents = dict.fromkeys(tensors, 1)
        yield " + ".join(tensors), rescaled(exponents, 1), rescaled(exponents, 2)
    for pair in (*found.weighted, *found.rescaling):
        yield ", ".join(f"{name}^{n:+d}" for name, n in pair.items()), rescaled(pair, 1), rescaled(pair, 2)
    for name in found.row:
        dim = found.row_dim.get(name, 0)
        yield f"{name} by slices", sliced(name, dim, None, 1), sliced(name, dim, None, 2)
    for part in (*found.partial, *found.blocks):
        spans = part.ranges
        yield f"{part.name} in part", sliced(part.name, part.dim, spans, 1), sliced(part.name, part.dim, spans, 2)
    for trade in found.sliced:
        if not trade.dead:
            yield f"slices {trade}", slices(trade, 1), slices(trade, 2)


def holds(twin: Twin, one: Scaling, two: Scaling) -> bool:
    """Whether the outputs stay when the factor doubles."""
    return _change(twin, one(1.0), two(1.0)) <= _NOTHING


def holds_up_to_eps(twin: Twin, one: Scaling, two: Scaling) -> bool:
    """Whether what the outputs change when the factor doubles falls as c^-1 or c^-2, until nothing is left."""
    changes: list[float] = []
    for c in _FACTORS:
        changes.append(_change(twin, one(c), two(c)))
        if changes[-1] <= _NOTHING:
            return True
        if changes[0] > 0.1 or (len(changes) > 1 and not 6 < changes[-2] / changes[-1] < 150):
            return False
    return True


def _change(twin: Twin, one: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    a, b = twin.outputs(one), twin.outputs(two)
    return float((a - b).abs().max()) / max(float(a.abs().max()), 1e-300)


def _together(twin: Twin, every: Sequence[tuple[str, Scaling, Scaling]]) -> bool:
    """Whether the outputs stay when every claim's factor doubles or halves at once."""
    draw = torch.rand(len(every), generator=torch.Generator().manual_seed(4)).tolist()
    moved: dict[str, Any] = {}
    for chance, (_, one, two) in zip(draw, every):
        ups, ones = two(1.0), one(1.0)
        for name in ups:
            ratio = ups[name] / ones[name]
            moved[name] = moved.get(name, 1.0) * (ratio if chance < 0.5 else 1 / ratio)
    return _change(twin, {}, moved) <= _NOTHING


def null_space(twin: Twin, found: Symmetries, step: float = _STEP) -> tuple[int, float, float]:
    """Count the null directions of d outputs / d log-scale by central differences: (dimension, kept, dropped)."""
    start = dict.fromkeys(twin.weights, 1.0)
    for tensors in [(name,) for name in found.single] + list(found.joint):
        start |= dict.fromkeys(tensors, 1e4)  # an eps written in the code is nothing there
    places: list[Tensor] = []
    scale, before = 0.0, -1
    while True:
        columns = []
        for name in found.shapes:
            up, down = (twin.outputs(start | {name: start[name] * (1 + s * step)}) for s in (1, -1))
            columns.append((up - down) / (2 * step))
        places.append(torch.stack(columns, 1))
        scale = max(scale, float(up.abs().max()))
        dimension, kept, dropped = _nullity(torch.cat(places), scale)
        # few features in front of the head give few rows a place: go on until a place takes no direction away
        if dimension == before or len(places) >= _PLACES:
            return dimension, kept, dropped
        before = dimension
        generator = torch.Generator().manual_seed(100 + len(places))
        twin.weights = {name: _moved(w, generator) for name, w in twin.weights.items()}


def _nullity(jacobian: Tensor, scale: float) -> tuple[int, float, float]:
    size = torch.linalg.vector_norm(jacobian, dim=0)
    # what is below the rounding of the differences is a zero column: scale-invariant alone, or dead
    live = size > 1e-8 * scale * len(jacobian) ** 0.5
    if not bool(live.any()):
        return len(size), float("nan"), float("nan")
    singular = torch.linalg.svdvals(jacobian[:, live] / size[live])
    singular = torch.cat([singular, singular.new_zeros(int(live.sum()) - len(singular))]) / singular[0]
    null = singular < _NULL
    kept, dropped = singular[~null], singular[null]
    dimension = int((~live).sum()) + int(null.sum())
    return dimension, float(kept.min()), float(dropped.max()) if len(dropped) else float("nan")


def check(architecture: Architecture, seed: int = 0) -> Checked:
    """Ask the doctor about an architecture and check what it says."""
    result = Checked(architecture.name, architecture.library)
    start = time.perf_counter()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model, inputs = architecture.build()
    try:
        found = find_symmetries(model, inputs, defect=False)
    except UserError as error:
        result.verdict, result.error = "refused", str(error)
        return result
    result.tensors, result.verdict, result.headline = len(found.shapes), found.verdict, found.headline()
    result.answer = {key: value for key, value in found.to_dict().items() if key not in ("evidence", "defect")}
    twin = Twin(model, inputs)
    every = list(claims(found, twin))
    result.claims = len(every)
    # without the eps of what calls itself a norm: all at once, and one by one where that fails
    twin.tiny_eps()
    failed = [] if _together(twin, every) else [claim for claim in every if not holds(twin, claim[1], claim[2])]
    own = Twin(model, inputs) if failed else twin  # an eps written in the code: by its law
    result.wrong = [name for name, one, two in failed if not holds_up_to_eps(own, one, two)]
    if found.dead:
        result.claims += 1
        draw = torch.Generator().manual_seed(9)
        moved = {n: torch.randn(twin.weights[n].shape, generator=draw, dtype=torch.float64) for n in found.dead}
        still, away = twin.outputs({}), twin.outputs(moved)
        if float((still - away).abs().max()) > _NOTHING * float(still.abs().max()):
            result.wrong.append(f"dead: {', '.join(found.dead)}")
    unused = [why for why in found.unreached.values() if "does not use" in why]
    sets = (found.single, found.joint, found.weighted, found.rescaling, found.dead, unused)
    result.dimensions = sum(map(len, sets))
    for step in (_STEP, 10 * _STEP):  # the larger one sees weaker tensors, and is felt by more kinks
        result.measured, result.kept, result.dropped = null_space(twin, found, step)
        if result.resolved:
            break
    result.seconds = time.perf_counter() - start
    return result


def table(checked: Sequence[Checked]) -> str:
    """Write a row an architecture."""
    lines = [
        "| architecture | from | tensors | verdict | claims | wrong | dims | by differences | kept | dropped | s |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for c in checked:
        cells = (
            c.name, c.library, c.tensors, c.verdict, c.claims, len(c.wrong), c.dimensions, c.measured,
            f"{c.kept:.0e}", f"{c.dropped:.0e}", f"{c.seconds:.0f}",
        )  # fmt: skip
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _part(architecture: Architecture) -> str:
    return "page" if architecture.page else architecture.library


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="architectures; all of them if none is named")
    parser.add_argument("--json", type=Path, help="store what was found")
    parser.add_argument(
        "--part", choices=["page", "timm", "transformers"], help="a part of them: those of the page, ..."
    )
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")  # those of the libraries
    torch.set_num_threads(1)
    checked = []
    for architecture in sorted(ARCHITECTURES, key=lambda a: not a.page):
        if (options.names and architecture.name not in options.names) or (
            options.part and options.part != _part(architecture)
        ):
            continue
        try:
            c = check(architecture)
        except Exception as error:  # the others are to be seen all the same
            c = Checked(architecture.name, architecture.library, verdict="failed", wrong=["no answer"])
            c.error = f"{type(error).__name__}: {error}"
        checked.append(c)
        if options.json:
            options.json.write_text(json.dumps([asdict(one) for one in checked], indent=1))
        print(table([c]).splitlines()[-1], flush=True)
        reason = c.error or ("" if c.verdict == "clear" else c.headline)
        for line in [*(f"    wrong: {name}" for name in c.wrong), *([f"    {reason}"] if reason else [])]:
            print(line, flush=True)
    bad = [c for c in checked if not c.right]
    print(f"\n{len(checked)} architectures, {sum(c.verdict == 'clear' for c in checked)} clear, {len(bad)} wrong")
    print(table(checked))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
