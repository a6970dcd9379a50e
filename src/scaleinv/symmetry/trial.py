"""Run a user's model for the first time: what goes wrong is said in one line, what is unusual about it is found out."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.symmetry.copies import call_arguments
from scaleinv.symmetry.outputs import Outputs, output_tensors
from scaleinv.symmetry.probe import TINY, Probe, Viewpoint, enlarged, every_tensor, map_tensors, permuted

#: the random draws that a model with randomness of its own is looked at under, at least
DRAWS_OF_RANDOM = 6
_BATCH_TIMES = 4


@dataclass(frozen=True)
class FirstRuns:
    """What the first runs tell: the model and inputs to probe, and how."""

    model: nn.Module
    inputs: Any
    outputs: Outputs
    needs_graph: bool = False  # its forward takes gradients
    rewritten: tuple[int, ...] = ()  # tensors that every forward writes
    random: bool = False  # its outputs depend on a random draw
    few: str = ""  # a norm over two values that no larger batch mends
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # of the tensors, as the user's model calls them
    own: torch.dtype | None = None  # a precision in which it runs, None: as it is

    def probe(self, dtype: torch.dtype | None = torch.float64, eps: float | None = TINY) -> Probe:
        """Make a probe of the model as it was found to be."""
        probe = Probe(self.model, self.inputs, dtype=dtype, eps=eps, outputs=self.outputs, checked=True)
        probe.needs_graph, probe.rewritten, probe.names = self.needs_graph, self.rewritten, list(self.names)
        return probe

    def own_probe(self) -> Probe:
        """Make a probe in the model's own precision, with its own eps."""
        return self.probe(self.own, None)


def prepare(model: nn.Module, inputs: Any, outputs: Outputs = None) -> FirstRuns:
    """Run the model in its own precision and say how it can be probed.

    Raises UserError if it fails, has no finite output, or differs from run to run.
    """
    probe = Probe(model, inputs, dtype=None, eps=None, outputs=outputs)
    notes: list[str] = []
    probe, inputs = _first_run(probe, model, inputs, outputs)
    probe, inputs = _generic(probe, model, inputs, outputs, notes)
    names = tuple(probe.names)
    written, once, held = _written(probe)
    if once:
        model = probe.model
        probe.state.hold()
        probe.original = [p.detach().clone() for p in probe.tensors]
        notes.append(f"the first batch sets {_some(probe, once)}: the answer holds for the weights after it")
    if written:
        notes.append(
            f"the forward writes {_some(probe, written)} itself: the answer holds for the function of the weights as "
            f"stored{'; their norm is held by the forward' if held else ''}"
        )
    probe.rewritten = tuple(written)
    trial(probe)
    few = probe.few[0] if probe.few else ""
    if few:
        for larger, how in _larger(inputs):
            with contextlib.suppress(Exception):
                other = Probe(model, larger, dtype=None, eps=None, outputs=outputs, checked=True)
                other.needs_graph, other.rewritten = probe.needs_graph, probe.rewritten
                other.value()
                if not other.few:
                    notes.append(f"{few} {_hides(few)}: answered for {how}")
                    probe, inputs, few = other, larger, ""
                    break
    return FirstRuns(
        model, inputs, outputs, probe.needs_graph, tuple(written), _random(probe), few, tuple(notes), names, probe.dtype
    )


def _first_run(probe: Probe, model: nn.Module, inputs: Any, outputs: Outputs) -> tuple[Probe, Any]:
    """Find a way to run the model: as it is, with gradients on, with the inputs in its precision."""
    with _traced(probe) as trace:
        try:
            probe.value()
            return probe, inputs
        except UserError:
            raise
        except Exception as error:
            failure, cause = _failure(list(trace.stack), error), error
        _restore(probe)
        with contextlib.suppress(Exception):
            probe.needs_graph = True
            probe.value()
            return probe, inputs
    own = {p.dtype for p in probe.tensors if p.is_floating_point()}
    for dtype in sorted(own, key=str):
        changed = map_tensors(inputs, partial(_in_precision, dtype))
        for graph in (False, True):
            with contextlib.suppress(Exception):
                other = Probe(model, changed, dtype=None, eps=None, outputs=outputs)
                other.needs_graph = graph
                other.value()
                return other, changed
    if len(own) > 1 or own & {torch.float16, torch.bfloat16}:  # parts in several precisions, joined by autocast
        with contextlib.suppress(Exception):
            other = Probe(model, inputs, dtype=torch.float32, eps=None, outputs=outputs)
            other.value()
            return other, inputs
    raise UserError(failure) from cause


def _generic(probe: Probe, model: nn.Module, inputs: Any, outputs: Outputs, notes: list[str]) -> tuple[Probe, Any]:
    """Put other numbers in place of torch.zeros, torch.ones or one sample many times, which hide what a weight does."""
    main = _main(inputs)
    if main is None or main.numel() < 2:
        return probe, inputs
    one = bool((main == main.reshape(-1)[0]).all())
    if not one and not (main.shape[0] > 1 and bool((main == main[:1]).all())):
        return probe, inputs
    generator = torch.Generator().manual_seed(17)
    if not one:
        new = permuted(17)(main)
        said = "all samples of the inputs are equal: answered for their entries permuted"
    elif main.is_floating_point():
        new = torch.randn(main.shape, generator=generator, device="cpu").to(main)
        said = f"the inputs are {float(main.reshape(-1)[0]):g} everywhere: answered for normal numbers"
    else:
        high = max(int(main.reshape(-1)[0]), 0) + 2
        new = torch.randint(high, main.shape, generator=generator, device="cpu").to(main)
        said = f"the inputs are {int(main.reshape(-1)[0])} everywhere: answered for whole numbers below {high}"
    with contextlib.suppress(Exception):  # these inputs are not for this model
        changed = map_tensors(inputs, lambda t: new if t is main else t)
        other = Probe(model, changed, dtype=probe.dtype, eps=None, outputs=outputs, checked=True)
        other.needs_graph = probe.needs_graph
        if bool(torch.isfinite(other.value()).all()):
            notes.append(said)
            return other, changed
    return probe, inputs


def _main(inputs: Any) -> Tensor | None:
    """Find the first of the largest tensors of the inputs: of real numbers, or else of whole ones."""
    tensors = [
        t for t in every_tensor(call_arguments(inputs)) if t.layout is torch.strided and t.dim() and not t.is_nested
    ]
    real = [t for t in tensors if t.is_floating_point()]
    whole = [t for t in tensors if not t.is_complex() and t.dtype is not torch.bool]
    return max(real or whole, key=Tensor.numel, default=None)


def _in_precision(dtype: torch.dtype, t: Tensor) -> Tensor:
    return t.to(dtype) if t.is_floating_point() else t


def _some(probe: Probe, which: list[int]) -> str:
    return ", ".join(probe.names[i] for i in which[:4]) + (" ..." if len(which) > 4 else "")


def _restore(probe: Probe) -> None:
    with torch.no_grad():
        for p, own in zip(probe.tensors, probe.original):
            p.copy_(own)


def _written(probe: Probe) -> tuple[list[int], list[int], bool]:
    """List the tensors that every forward writes, and those that the first one alone writes.

    And whether what it writes does not depend on their norm.
    """
    changed = _changed(probe, probe.original)
    if not changed:
        return [], [], False
    after = [p.detach().clone() for p in probe.tensors]
    state = probe.state
    buffers = [{k: None if b is None else b.detach().clone() for k, b in m._buffers.items()} for m in _modules(probe)]
    with torch.no_grad():
        for i in changed:
            probe.tensors[i].mul_(2)
    doubled = [p.detach().clone() for p in probe.tensors]
    first = state.buffers, state.attributes
    state.hold()
    probe.value()
    again = _changed(probe, doubled)
    once = [i for i in changed if i not in again]
    held = all(torch.allclose(probe.tensors[i], after[i], rtol=1e-2) for i in again)
    state.buffers, state.attributes = first
    with torch.no_grad():
        for i, p in enumerate(probe.tensors):
            p.copy_(after[i] if i in once else probe.original[i])
    if once:
        for module, own in zip(_modules(probe), buffers):
            module._buffers.update(own)
    return again, once, held


def _modules(probe: Probe) -> list[nn.Module]:
    return [m for m in probe.model.modules() if not isinstance(m, torch.jit.ScriptModule)]


def _changed(probe: Probe, before: list[Tensor]) -> list[int]:
    return [i for i, (p, old) in enumerate(zip(probe.tensors, before)) if not torch.equal(p, old.to(p))]


def _random(probe: Probe) -> bool:
    """Tell whether another random draw changes the outputs."""
    with _own_weights(probe):
        first = probe.value()
        if not probe.drew:
            return False
        for draw in (1, 2, 3):
            probe.place = Viewpoint(draw=draw)
            other = probe.value()
            if other.shape != first.shape or not torch.equal(torch.nan_to_num(first), torch.nan_to_num(other)):
                return True
    return False


@contextlib.contextmanager
def _own_weights(probe: Probe) -> Iterator[None]:
    before = probe.place
    try:
        yield
    finally:
        probe.place = before


def _hides(few: str) -> str:
    one = few.startswith(("softmax", "attention"))
    return (
        "is 1 whatever the weights"
        if one
        else "saw two values per channel, which it makes +1 and -1 whatever the weights"
    )


def _larger(inputs: Any) -> Iterator[tuple[Any, str]]:
    """Make the batch larger, or what is behind it longer; give each and what was done."""
    yield enlarged(inputs, 0, _BATCH_TIMES), f"a batch {_BATCH_TIMES} times as large"
    first = next((t for t in every_tensor(call_arguments(inputs)) if t.dim()), None)
    for dim in range(1, 0 if first is None else first.dim()):
        yield enlarged(inputs, dim, _BATCH_TIMES), f"inputs {_BATCH_TIMES} times as long in dimension {dim}"


@dataclass
class _Trace:
    """Where the run is, and what each module took and gave."""

    stack: list[tuple[str, nn.Module, tuple[Any, ...]]]
    records: list[tuple[str, float, float]]


@contextlib.contextmanager
def _traced(probe: Probe) -> Iterator[_Trace]:
    trace = _Trace([], [])
    hooks: list[Any] = []

    def enter(name: str, module: nn.Module, args: tuple[Any, ...]) -> None:
        trace.stack.append((name, module, args))

    def leave(name: str, module: nn.Module, args: tuple[Any, ...], result: Any) -> None:
        trace.stack.pop()
        trace.records.append((name, _print(args), _print(result)))

    for name, module in probe.model.named_modules():
        with contextlib.suppress(RuntimeError):  # scripted modules take no hooks
            hooks.append(module.register_forward_pre_hook(partial(enter, name)))
            hooks.append(module.register_forward_hook(partial(leave, name)))
    try:
        yield trace
    finally:
        for handle in hooks:
            handle.remove()


def trial(probe: Probe) -> Tensor:
    """Compute the model's outputs (M,); UserError if it fails, has no finite output, or differs from run to run."""
    with _traced(probe) as trace:
        try:
            first = probe.value()
            earlier, trace.records[:] = list(trace.records), []
            second = probe.value()
        except UserError:
            raise
        except Exception as error:
            raise UserError(_failure(trace.stack, error)) from error
        records = list(trace.records)
    kind = type(probe.model).__name__
    if not bool(torch.isfinite(first).any()):
        raise UserError(f"every output of {kind} is NaN or infinite on these inputs; give inputs on which it works")
    if first.shape != second.shape or not torch.equal(torch.nan_to_num(first), torch.nan_to_num(second)):
        raise UserError(
            f"{kind} is not deterministic: {_culprit(earlier, records, kind)} gives another result at the second "
            "call although torch's random state is the same; switch that randomness off"
        )
    return first


def one_line(action: Callable[[], Any], what: str) -> Any:
    """Do ``action``; what it raises becomes a UserError of one line that begins with ``what``."""
    try:
        return action()
    except UserError:
        raise
    except (RuntimeError, TypeError, ValueError, NotImplementedError, AttributeError, IndexError, KeyError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{what}: {type(error).__name__}: {reason[:240]}") from error


def _print(value: Any) -> float:
    """Compute a number that changes when any tensor in ``value`` does; 0 inside of vmap, where none can be read."""
    total = 0.0
    for k, t in enumerate(output_tensors(list(value) if isinstance(value, tuple) else value)):
        if torch._C._functorch.is_functorch_wrapped_tensor(t):
            return 0.0
        if t.is_nested:
            continue
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
    if isinstance(module, nn.Embedding) and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
        form = f"int:{','.join(map(str, args[0].shape))}:{module.num_embeddings}"
        return (
            f"{where} takes whole numbers below {module.num_embeddings}, and got {args[0].dtype} of shape {shapes}; "
            f"give integers, to scaleinv doctor by --input {form}"
        )
    return f"{where} fails on input {shapes}{f' with its own {own}' if own else ''}: {type(error).__name__}: {reason}"


def _shape(value: Any) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
