# ruff: noqa: E501  (a table)
"""Models written in other ways: sparse, expanded, mapped, complex, checkpointed, with constants of every kind.

Every case gives the whole answer, as in :mod:`tests.cases`; most have one weight in front of a norm, and a head.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tests.cases import Case, normal, tokens
from tests.kinds import Fn, X, _one, built, lin
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, stack_module_state
from torch.nn import functional
from torch.utils import checkpoint


def normed(h: Tensor) -> Tensor:
    return functional.layer_norm(h, (h.shape[-1],))


def linear(change: Callable[[Any, Tensor], Tensor], **kept: Any) -> Callable[[], nn.Module]:
    """A weight, what ``change`` makes of its normalised outputs, a head; ``kept``: attributes or buffers."""

    def make() -> nn.Module:
        model = Fn(lambda s, x: s.o(change(s, normed(s.w(x)))), w=lin(6, 8), o=nn.Linear(8, 3))
        for name, value in kept.items():
            made = value() if callable(value) else value
            model.register_buffer(name, made) if isinstance(made, Tensor) else setattr(model, name, made)
        return model

    return make


def bag(mode: str, sparse: bool = False) -> nn.Module:
    return Fn(lambda s, i: s.o(normed(s.w(i))), w=nn.EmbeddingBag(20, 8, mode=mode, sparse=sparse), o=nn.Linear(8, 3))


def graph(layout: str) -> nn.Module:
    """A graph convolution whose adjacency is stored sparse."""
    model = Fn(lambda s, x: s.o(normed(s.adj @ s.w(x) + s.w(x))), w=lin(6, 8), o=nn.Linear(8, 3))
    adjacency = (torch.rand(9, 9, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the layout calls itself new
        model.register_buffer("adj", adjacency.to_sparse_csr() if layout == "csr" else adjacency.to_sparse())
    return model


def running_expanded() -> nn.Module:
    """A running mean that begins as one number seen as many, and is assigned anew at every call."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.w(x)
        s.mean = 0.9 * s.mean + 0.1 * h.detach().mean(0)
        return s.o(normed(h))

    model = Fn(forward, w=lin(6, 8), o=nn.Linear(8, 3))
    model.register_buffer("mean", torch.zeros(1).expand(8))
    return model


def ensemble() -> nn.Module:
    """Three networks in one, their stacked parameters given to a template that holds none of them."""
    members = [nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3)) for _ in range(3)]
    stacked, _ = stack_module_state(members)
    names = {name: name.replace(".", "_") for name in stacked}

    def forward(s: Any, x: Tensor) -> Tensor:
        given = {name: s.get_parameter(own) for name, own in names.items()}
        return torch.vmap(lambda q: functional_call(members[0], q, (x,)))(given)

    return Fn(forward, **{own: nn.Parameter(stacked[name].detach().clone()) for name, own in names.items()})


def mapped_pairs() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        one = lambda a, b: functional.normalize(x @ a.T, dim=-1) @ b.T  # noqa: E731
        return torch.vmap(one, in_dims=(0, 0), out_dims=1)(s.w, s.o)

    return Fn(forward, w=nn.Parameter(torch.randn(4, 8, 6)), o=nn.Parameter(torch.randn(4, 3, 8)))


def slopes(how: str) -> nn.Module:
    """A force field: the derivative of a normalised network along its inputs, by ``torch.func``."""
    net = nn.Sequential(lin(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.Tanh(), lin(8, 1))

    def forward(s: Any, x: Tensor) -> Tensor:
        if how == "grad":
            return torch.vmap(grad(lambda a: s.net(a).sum()))(x)
        return torch.vmap(jacrev(lambda a: s.net(a).squeeze()))(x)

    return Fn(forward, net=net)


class Whole(torch.autograd.Function):
    """A whole network within one autograd function."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor, o: Tensor) -> Tensor:
        with torch.enable_grad():
            ctx.inner = [t.detach().requires_grad_() for t in (x, w, o)]
            ctx.result = normed(ctx.inner[0] @ ctx.inner[1].t()) @ ctx.inner[2].t()
        return ctx.result.detach()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        return torch.autograd.grad(ctx.result, ctx.inner, g)


class Product(torch.autograd.Function):
    """A product whose context is set up apart."""

    @staticmethod
    def forward(a: Tensor, b: Tensor) -> Tensor:
        return a @ b.t()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        a, b = ctx.saved_tensors
        return g @ b, g.t() @ a


def complex_convolution() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        z = s.w(x[:, None].to(torch.cfloat))
        return s.o(torch.tanh((z / z.abs().square().mean((1, 2), keepdim=True).sqrt()).real.flatten(1)))

    return Fn(forward, w=nn.Conv1d(1, 4, 3, bias=False, dtype=torch.cfloat), o=nn.Linear(16, 3))


def spectral_operator() -> nn.Module:
    """A layer of a Fourier neural operator."""

    def forward(s: Any, x: Tensor) -> Tensor:
        modes = torch.einsum("nki,iok->nko", torch.fft.rfft(s.i(x[..., None]), dim=1)[:, :3], s.w)
        return s.o(normed(torch.fft.irfft(modes, n=6, dim=1)))

    return Fn(forward, w=nn.Parameter(torch.randn(4, 4, 3, dtype=torch.cfloat)), i=nn.Linear(1, 4), o=nn.Linear(4, 2))


def in_segments() -> nn.Module:
    net = nn.Sequential(lin(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))
    return Fn(lambda s, x: checkpoint.checkpoint_sequential(s.n, 2, x, use_reentrant=False), n=net)


def selectively() -> nn.Module:
    """A checkpoint that keeps the products, given named arguments."""
    kept = functools.partial(checkpoint.create_selective_checkpoint_contexts, [torch.ops.aten.mm.default])

    def forward(s: Any, x: Tensor) -> Tensor:
        return s.o(checkpoint.checkpoint(lambda *, a: normed(s.w(a)), a=x, use_reentrant=False, context_fn=kept))

    return Fn(forward, w=lin(6, 8), o=nn.Linear(8, 3))


def rewritten(how: str) -> nn.Module:
    """The forward puts its weight back to length one, by ``.data`` row by row or in place as a whole."""

    def forward(s: Any, x: Tensor) -> Tensor:
        if how == "data":
            s.w.weight.data = functional.normalize(s.w.weight.data, dim=1)
            return s.o(torch.tanh(s.w(x)))
        with torch.no_grad():
            s.w.weight.div_(s.w.weight.norm())
        return s.o(torch.tanh(x @ (s.w.weight / s.w.weight.norm()).t()))

    return Fn(forward, w=lin(6, 8), o=nn.Linear(8, 3))


_IDS = tokens(20, 9, 5)
_MATRICES: dict[str, Any] = {"single": ("w",), "fixed": ("o",)}

PROGRAMS = [
    # sparse
    _one("a bag of sparse rows", lambda: bag("sum", sparse=True), "the gradient is stored sparse", _IDS),
    _one("a bag that takes the largest", lambda: bag("max"), "positive factors keep the largest", _IDS),
    _one("a sparse embedding call", lambda: Fn(lambda s, i: s.o(normed(functional.embedding(i, s.w, sparse=True).mean(1))), w=nn.Parameter(torch.randn(20, 8)), o=nn.Linear(8, 3)),
         "a call, not a module", _IDS, free="w"),
    _one("a sparse adjacency, COO", lambda: graph("coo"), "a buffer without strides"),
    _one("a sparse adjacency, CSR", lambda: graph("csr"), "a buffer without storage"),
    # expanded, reassigned
    _one("a buffer expanded over samples", linear(lambda s, h: h + s.m, m=lambda: torch.linspace(1, 2, 8).expand(9, 8)), "one row seen as many"),
    _one("a running mean that begins expanded", running_expanded, "assigned anew at every call"),
    Case("an expanded gain", built(lambda: Fn(lambda s, x: s.o(torch.tanh(normed(s.w(x)) * s.g.expand(8))), w=lin(6, 8), g=nn.Parameter(torch.ones(1)), o=nn.Linear(8, 3)), X),
         "one number for all channels", single=("w.weight",), fixed=("g", "o.weight", "o.bias")),
    # mapped
    _one("samples mapped one by one", lambda: Fn(lambda s, x: torch.vmap(lambda a: s.o(normed(s.w(a))))(x), w=lin(6, 8), o=nn.Linear(8, 3)), "vmap over the batch"),
    Case("pairs mapped together", built(mapped_pairs, X), "each first matrix of a pair by itself", row=("w",), row_dim={"w": 0}, **_MATRICES),
    Case("an ensemble of stacked networks", built(ensemble, X), "functional_call under vmap", joint=(("0_weight", "0_bias"),),
         rescaling=({"1_weight": 1, "1_bias": 1, "3_weight": -1},), fixed=("3_bias",)),
    *(Case(f"slopes by torch.func.{how}", built(lambda how=how: slopes(how), X), "the derivative of an invariant function is one", single=("net.0.weight",), fixed=("net.3.weight",))
      for how in ("grad", "jacrev")),
    # autograd functions
    Case("all within one autograd.Function", built(lambda: Fn(lambda s, x: Whole.apply(x, s.w, s.o), w=nn.Parameter(torch.randn(8, 6)), o=nn.Parameter(torch.randn(3, 8))), X),
         "no call is seen", **_MATRICES),
    Case("products by an autograd.Function", built(lambda: Fn(lambda s, x: Product.apply(normed(Product.apply(x, s.w)), s.o), w=nn.Parameter(torch.randn(8, 6)), o=nn.Parameter(torch.randn(3, 8))), X),
         "its context is set up apart", **_MATRICES),
    # complex
    _one("a complex convolution", complex_convolution, "normalised by its power"),
    Case("a Fourier neural operator", built(spectral_operator, X), "the modes before a norm; the lift with its bias", single=("w",), joint=(("i.weight", "i.bias"),), fixed=("o.weight", "o.bias")),
    # checkpoints
    Case("checkpoints in segments", built(in_segments, X), "checkpoint_sequential", single=("n.0.weight",), rescaling=({"n.1.weight": 1, "n.1.bias": 1, "n.3.weight": -1},), fixed=("n.3.bias",)),
    _one("a selective checkpoint", selectively, "named arguments, and products that are kept"),
    # constants outside of the buffers
    _one("constants of numpy", linear(lambda s, h: h * torch.from_numpy(s.c) * s.k, c=lambda: np.linspace(1, 2, 8, dtype=np.float32), k=np.float64(2.0)), "an array and a number"),
    _one("constants in lists and dicts", linear(lambda s, h: (h * s.c[0]) @ s.d["m"], c=[torch.linspace(1, 2, 8)], d={"m": torch.eye(8)}), "float32 where no module looks"),
    _one("a constant made at the first call", linear(lambda s, h: h + s.cache.setdefault("k", torch.arange(8.0)), cache=dict), "kept in a dict from then on"),
    # forwards that write their weights
    _one("weights put back by .data", lambda: rewritten("data"), "row by row", row=True),
    _one("weights put back in place", lambda: rewritten("place"), "as a whole"),
    # precision
    _one("half and single", lambda: Fn(lambda s, x: s.o(normed(s.w(x.half()).float())), w=lin(6, 8).half(), o=nn.Linear(8, 3)), "each part in its own precision"),
    _one("a mask of truth values", lambda: Fn(lambda s, x, m: s.o(normed(s.w(x)).masked_fill(~m, 0.0)), w=lin(6, 8), o=nn.Linear(8, 3)), "bool beside float", X, normal(9, 1) > 0),
]  # fmt: skip
