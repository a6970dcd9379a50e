"""Run a private copy of the user's model again and again: same randomness, same buffers, chosen precision."""

import contextlib
import math
import random
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import checkpoint

from scaleinv.errors import UserError
from scaleinv.symmetry.copies import (
    KeptState,
    call_arguments,
    cast,
    deep_copy,
    refuse_unreadable,
    unwrap,
    view_real,
    whole,
)
from scaleinv.symmetry.mode import Factors
from scaleinv.symmetry.outputs import Outputs, chosen
from scaleinv.symmetry.sites import EpsSites, Site

#: eps of the probe: far below any variance, and BatchNorm refuses 0
TINY = 1e-30
#: noise on larger tensors repeats itself after so many entries (a prime number)
_TILE = 100_003
#: entries whose norm is taken at a time
_PIECE = 2**20
_SEED = 20260
#: mark on what a model's own code raises
_OF_FORWARD = "_raised_by_the_forward"


def refusal(error: Exception) -> str:
    """Say in a line what the model's forward raised; empty for an error of another kind."""
    if isinstance(error, UserError) or not getattr(error, _OF_FORWARD, False):
        return ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}".removesuffix(": ")


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Change every tensor in ``value`` (nested tuples, lists, dicts)."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {k: map_tensors(v, change) for k, v in value.items()}
    if type(value) in (tuple, list):
        return type(value)(map_tensors(v, change) for v in value)
    return value


def _fresh(t: Tensor) -> Tensor:
    """Copy an input; one that the user made for derivatives along it stays so."""
    return t.detach().clone().requires_grad_(t.requires_grad)


def every_tensor(value: Any) -> list[Tensor]:
    """List all tensors in ``value``, whatever their type, in order."""
    found: list[Tensor] = []

    def note(t: Tensor) -> Tensor:
        found.append(t)
        return t

    map_tensors(value, note)
    return found


class Viewpoint(NamedTuple):
    """Where a model is looked at: which random numbers and inputs it gets, and how its weights are moved."""

    seed: int = 0  # of the weights' move
    draw: int = 0  # of the model's own randomness
    shuffle: int = 0  # which permutation of the inputs' entries; 0: as given
    fresh: bool = False  # weights drawn anew, as large as the user's
    quiet: bool = False  # with small vectors, so that biases decide nothing
    longer: int = 0  # the dimension in which the inputs are twice as long; 0: as given
    drawn: bool = False  # inputs of real numbers that are the same everywhere are drawn anew


class Probe:
    """Evaluate a model's outputs as one vector, in ``dtype``, train mode, the same function at every call.

    The copy holds the user's weights until :meth:`perturb` moves them to a generic place. Modules named ``Dropout`` and
    dropout calls are switched off; other randomness is frozen by the same seed before every call. ``sites``: small
    constants in the code to be replaced by ``eps`` as well (:mod:`scaleinv.symmetry.sites`).

    outputs: which of the model's results count; see :func:`scaleinv.symmetry.outputs.chosen`.  checked: that the
    parameters are finite numbers is known already.
    """

    def __init__(
        self,
        model: nn.Module,
        inputs: Any,
        *,
        dtype: torch.dtype | None = torch.float64,
        eps: float | None = TINY,
        outputs: Outputs = None,
        checked: bool = False,
    ) -> None:
        if not checked:
            refuse_unreadable(model)
        outer = {id(p): name for name, p in model.named_parameters()}
        model = unwrap(model)
        inner = dict(model.named_parameters())
        own = {outer[id(p)]: whole(p) for p in inner.values()}
        self.model = deep_copy(model)
        if any(p.device.type == "mps" for p in own.values()):
            self.model.cpu()  # has no double precision
        self.dtype, self.chosen = dtype, outputs
        if dtype is not None:
            cast(self.model, dtype)
        self.model.train()
        for module in self.model.modules():
            called_so = "dropout" in type(module).__name__.lower()
            if called_so and not list(module.children()) and not list(module.parameters()):
                module.eval()
        self.sites: frozenset[Any] = frozenset()
        self.set_eps(eps)
        copied = list(self.model.parameters())
        named = [(n, p) for n, p in zip(own, copied) if p.is_floating_point() or p.is_complex()]
        for p in copied:
            p.requires_grad_(False)
            p.grad = None
        self.names, self.tensors = [n for n, _ in named], [p for _, p in named]
        if not self.names:
            raise UserError(f"{type(model).__name__} has no floating parameters, so there is nothing to scale")
        self.original = [own[name] for name in self.names]  # the user's weights
        # a function made in __init__ (a tied head as a lambda) holds these, not the copy's
        self.stand_in = [(p, q) for p, q in zip(inner.values(), copied) if p is not q]
        self.device = self.tensors[0].device

        def move(t: Tensor) -> Tensor:
            wanted, t = t.requires_grad, t.detach().to(self.device)
            if dtype is not None and t.is_complex():
                return t.to(torch.complex128 if dtype is torch.float64 else torch.complex64)
            return (t.to(dtype) if t.is_floating_point() and dtype is not None else t.clone()).requires_grad_(wanted)

        self.given = map_tensors(call_arguments(inputs), move)
        self.args, self.kwargs = self.given
        self.state = KeptState(self.model)
        self.order = [0] * len(self.names)
        self.few: list[str] = []
        self.shown: tuple[str, ...] = ()  # names of the outputs that count
        self.hidden: tuple[str, ...] = ()  # names of those that do not
        self.shapes: list[torch.Size] = []  # of the outputs that count
        self.place = Viewpoint()
        self.needs_graph = False  # the forward takes gradients of its own
        self.rewritten: tuple[int, ...] = ()  # tensors that the forward writes
        self.drew = False  # the last run drew random numbers
        self.keep_sign: frozenset[int] = frozenset()  # tensors that must not change their sign
        self._rms: list[float] = []  # of the user's weights

    def set_eps(self, eps: float | None) -> None:
        """Use ``eps`` in every normalization call, and at the active sites; None restores the model's own."""
        self.eps = eps

    def run(self, factors: list[Tensor] | None = None) -> Any:
        """Run the model and return its result, whatever it is."""
        seed = _SEED + self.place.draw
        self.state.restore(seed)
        args, kwargs = map_tensors((self.args, self.kwargs), _fresh)  # a forward may use its inputs up
        mode = Factors(self.tensors, factors=factors, dtype=self.dtype, eps=self.eps, stand_in=self.stand_in)
        watch = EpsSites(self.sites, self.eps) if self.sites and self.eps is not None else contextlib.nullcontext()
        kept = self.restored(self.rewritten) if self.rewritten else contextlib.nullcontext()
        with kept, reproducible(self.device, seed) as drew, precision(self.dtype), mode, watch:
            try:
                result = self.model(*args, **kwargs)
            except Exception as error:
                setattr(error, _OF_FORWARD, True)
                raise
            self.drew = drew() or self.state.draws
        self.order = mode.order
        self.few = mode.few
        return result

    def outputs(self, factors: list[Tensor] | None = None) -> Tensor:
        """Compute all floating outputs that count as one vector (M,)."""
        tensors, self.shown, self.hidden = chosen(self.run(factors), self.chosen)
        if not tensors:
            kind = type(self.model).__name__
            raise UserError(f"{kind} returns no floating-point tensor; wrap it in a module that returns one")
        self.shapes = [t.shape for t in tensors]
        dtype = self.dtype or (torch.float64 if tensors[0].dtype is torch.float64 else torch.float32)
        return torch.cat([t.reshape(-1).to(dtype) for t in tensors])

    def value(self) -> Tensor:
        """Compute the outputs (M,) without a graph."""
        if self.needs_graph:
            with torch.enable_grad():
                return self.outputs().detach()
        with torch.no_grad():
            return self.outputs()

    def scout(self) -> dict[Any, Site]:
        """Run once and list the small constants that end in a divisor, by site."""
        watch = EpsSites(self.sites, self.eps)
        with self.differentiable(), watch:
            self.outputs()
        return watch.found

    def touched(self) -> set[int]:
        """List the tensors that the last run used in a call."""
        return {i for i, call in enumerate(self.order) if call}

    def goto(self, place: Viewpoint) -> None:
        """Go to a place: the weights moved, the inputs permuted, the model's randomness by another seed."""
        self.place = place
        given = self.given if not place.shuffle else map_tensors(self.given, permuted(place.shuffle))
        given = given if not place.drawn else map_tensors(given, _drawn)
        self.args, self.kwargs = given if not place.longer else enlarged(given, place.longer, 2)
        self.perturb(torch.Generator().manual_seed(place.seed), fresh=place.fresh, quiet=place.quiet)

    @contextlib.contextmanager
    def on(self, given: Any) -> Iterator[None]:
        """Run on other inputs, given as (args, kwargs), while the context lasts."""
        before = self.args, self.kwargs
        self.args, self.kwargs = given
        try:
            yield
        finally:
            self.args, self.kwargs = before

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

    def perturb(
        self, generator: torch.Generator, amount: float = 0.2, *, fresh: bool = False, quiet: bool = False
    ) -> None:
        """Put the weights near the user's, at a generic place: noise of 20 % of each tensor's rms.

        Where a tensor is zero or tiny (residual gains start at 0 or 1e-6), what is behind it would be hidden: noise of
        0.1 for vectors, 0.3/sqrt(fan in) for matrices. Tensors of ``keep_sign`` (a variance) are multiplied by
        exp(noise) instead. ``fresh``: forget the user's weights, keep their size; ``quiet``: not that of vectors.
        """
        with torch.no_grad():
            if not self._rms:
                self._rms = [_rms(start) for start in self.original]
            for i, (p, start) in enumerate(zip(self.tensors, self.original)):
                rms = self._rms[i]
                inputs = p.numel() // p.shape[0] if p.dim() > 0 and p.numel() else 1
                normal = 0.1 if inputs == 1 else 0.3 / math.sqrt(inputs)
                size = amount * rms if rms > 0.02 * normal else normal
                p.copy_(start)
                if p.numel() > _TILE and i not in self.keep_sign and not fresh and not p.is_complex():
                    _add_tiles(p, size, generator)
                    continue
                shape = view_real(p).shape
                # the same in every precision
                noise = torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")
                if p.is_complex():
                    noise = torch.view_as_complex(noise)
                if i in self.keep_sign:
                    p.mul_((amount * noise).to(p).exp())
                elif fresh:
                    p.copy_(noise).mul_(0.1 if quiet and p.dim() < 2 else max(rms, normal))
                else:
                    p.add_(noise.to(p), alpha=size)


def _rms(t: Tensor) -> float:
    """Compute the root mean square of a tensor's entries, without a copy of it."""
    flat = view_real(t).reshape(-1)
    total = sum(float(torch.linalg.vector_norm(part, dtype=torch.float64)) ** 2 for part in torch.split(flat, _PIECE))
    return math.sqrt(total / max(len(flat), 1))


def _add_tiles(p: Tensor, size: float, generator: torch.Generator) -> None:
    """Add noise to a large tensor: one tile of it again and again, which no row is as long as."""
    noise = (torch.randn(_TILE, generator=generator, dtype=torch.float32, device="cpu") * size).to(p)
    for part in torch.split(p.view(-1), _TILE):
        part.add_(noise[: len(part)])


def enlarged(value: Any, dim: int, times: int) -> Any:
    """Make every tensor that is as long in ``dim`` as the first one longer: permuted copies of itself are joined."""
    sizes: list[int] = []
    generator = torch.Generator().manual_seed(5)

    def note(t: Tensor) -> Tensor:
        if t.dim() > dim:
            sizes.append(t.shape[dim])
        return t

    def grow(t: Tensor) -> Tensor:
        if t.dim() <= dim or t.shape[dim] != sizes[0]:
            return t
        parts = [t]
        for _ in range(times - 1):
            order = torch.randperm(t.numel(), generator=generator, device="cpu")
            parts.append(t if t.dtype is torch.bool else t.reshape(-1)[order.to(t.device)].reshape(t.shape))
        return torch.cat(parts, dim)

    map_tensors(value, note)
    return map_tensors(value, grow) if sizes else value


def permuted(seed: int) -> Callable[[Tensor], Tensor]:
    """Make a function that permutes the entries of every tensor; truth values stay where they are."""

    def permute(t: Tensor) -> Tensor:
        if t.dtype is torch.bool or t.numel() < 2:
            return t
        order = torch.randperm(t.numel(), generator=torch.Generator().manual_seed(seed), device="cpu")
        return t.reshape(-1)[order.to(t.device)].reshape(t.shape)

    return permute


def constant(t: Tensor) -> bool:
    """Tell whether a tensor of real numbers holds one number again and again."""
    many = t.is_floating_point() and not t.is_nested and t.layout is torch.strided and t.numel() > 1
    return many and bool((t == t.reshape(-1)[0]).all())


def _drawn(t: Tensor) -> Tensor:
    return torch.randn(t.shape, generator=torch.Generator().manual_seed(23), device="cpu").to(t) if constant(t) else t


@contextlib.contextmanager
def reproducible(device: torch.device, seed: int = _SEED) -> Iterator[Callable[[], bool]]:
    """Draw the same random numbers at every use and leave the generators of torch, numpy and Python as they were.

    Gives a function that tells whether any was drawn.
    Checkpointed parts run without being checkpointed, compiled ones without being compiled: the same numbers.
    """
    devices = [device] if device.type == "cuda" else []
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002 (what models draw from)
    with contextlib.ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=devices))
        stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        stack.enter_context(_no_checkpoints())
        if "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance"):  # else nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        random.seed(seed)
        before = _generators(devices)
        try:
            yield lambda: _generators(devices) != before
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def _generators(devices: Sequence[torch.device]) -> tuple[Any, ...]:
    """Give the states of all generators that a run may draw from, in a form that can be compared."""
    own: Any = np.random.get_state(legacy=False)  # noqa: NPY002
    of_kind = [v.tobytes() if isinstance(v, np.ndarray) else v for v in own.pop("state").values()]  # MT19937, PCG64 ...
    states = [torch.get_rng_state(), *(torch.cuda.get_rng_state(device) for device in devices)]
    return (*of_kind, *own.values(), random.getstate(), *(state.numpy().tobytes() for state in states))


class _Direct:
    """Stand in for the autograd function of reentrant checkpoints: call what is to be called."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


def _once(*args: Any, **kwargs: Any) -> Iterator[None]:
    """Stand in for the generator around a checkpointed call: do nothing before and after it."""
    yield


@contextlib.contextmanager
def _no_checkpoints() -> Iterator[None]:
    """Let ``torch.utils.checkpoint`` call functions directly while the context lasts."""
    names = {"CheckpointFunction": _Direct, "_checkpoint_without_reentrant_generator": _once}
    before = {name: getattr(checkpoint, name) for name in names if hasattr(checkpoint, name)}
    for name in before:
        setattr(checkpoint, name, names[name])
    try:
        yield
    finally:
        for name, own in before.items():
            setattr(checkpoint, name, own)


@contextlib.contextmanager
def precision(dtype: torch.dtype | None) -> Iterator[None]:
    """Make ``dtype`` the default type of new tensors while the context lasts."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
