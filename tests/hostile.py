# ruff: noqa: E501  (a table)
"""Small models of training code that feign a symmetry, or hide one, from a look at one place: each with its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from tests.cases import Case, normal, tokens
from tests.kinds import Fn, X, built, lin
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.nn.utils import parametrizations, prune


def bounded(bound: Callable[[Tensor], Tensor], times: float = 1.0) -> nn.Module:
    """Two matrices and what bounds the numbers between them."""
    model = Fn(lambda s, x: s.o(bound(s.a(x))), a=lin(6, 8), o=nn.Linear(8, 3))
    with torch.no_grad():
        model.a.weight.mul_(times)
    return model


def kept_below(limit: float) -> nn.Module:
    """A weight that is scaled down where it is longer than a limit."""
    return Fn(
        lambda s, x: s.o(torch.tanh(functional.linear(x, s.w / s.w.norm().clamp(min=limit)))),
        w=nn.Parameter(torch.randn(8, 6)), o=nn.Linear(8, 3),
    )  # fmt: skip


def normalised_when_long() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        w = s.w / s.w.norm() if float(s.w.detach().norm()) > 1 else s.w
        return s.o(torch.tanh(x @ w.t()))

    return Fn(forward, w=nn.Parameter(torch.randn(8, 6)), o=nn.Linear(8, 3))


def almost_normalised() -> nn.Module:
    """A share of 3e-9 goes around the norm: nothing at the present size, much for a large weight."""
    return Fn(lambda s, x: s.o(functional.layer_norm(s.w(x), (8,)) + 3e-9 * s.w(x)), w=lin(6, 8), o=nn.Linear(8, 3))


def attention(by_hand: bool) -> nn.Module:
    def forward(s: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        q, k, v = s.q(x), s.k(x), s.v(x)
        if by_hand:
            logits = q @ k.transpose(1, 2) / 3
            if mask is not None:
                logits = logits.masked_fill(~mask[:, None], float("-inf"))
            h = torch.softmax(logits, -1) @ v
        else:
            h = functional.scaled_dot_product_attention(q, k, v)
        return s.head(torch.tanh(s.o(h).mean(1)))

    return Fn(forward, q=lin(6, 8), k=lin(6, 8), v=lin(6, 8), o=lin(8, 8), head=nn.Linear(8, 3))


_ATTENTION: dict[str, Any] = {
    "rescaling": ({"q.weight": 1, "k.weight": -1}, {"v.weight": 1, "o.weight": -1}),
    "fixed": ("head.weight", "head.bias"),
}


def recurrent(kind: type[nn.RNNBase]) -> nn.Module:
    return Fn(lambda s, x: s.o(s.r(x)[0][:, -1]), r=kind(6, 5, batch_first=True), o=nn.Linear(5, 3))


_RECURRENT = {"fixed": ("r.weight_ih_l0", "r.weight_hh_l0", "r.bias_ih_l0", "r.bias_hh_l0", "o.weight", "o.bias")}


def tied_by_a_closure() -> nn.Module:
    """The head is a function made in __init__, which holds this very model."""
    model = Fn(lambda s, i: s.head(functional.layer_norm(s.e(i), (8,))), e=nn.Embedding(20, 8))
    model.head = lambda h: functional.linear(h, model.e.weight)
    return model


def layer_in_a_closure() -> nn.Module:
    model = Fn(lambda s, x: s.o(s.f(x)), w=lin(6, 8), o=nn.Linear(8, 3))
    model.f = lambda x: functional.layer_norm(model.w(x), (8,))
    return model


def gain_in_a_hook() -> nn.Module:
    model = Fn(
        lambda s, x: s.o(torch.relu(s.n(s.w(x)))),
        w=lin(6, 8),
        n=nn.LayerNorm(8, elementwise_affine=False),
        o=nn.Linear(8, 3),
    )
    model.gain = nn.Parameter(torch.ones(1))
    model.n.register_forward_hook(lambda module, args, out: out * model.gain)
    return model


class VariationalDropout(nn.Module):
    """A linear layer whose weights are drawn anew in training, each with a width of its own (Molchanov et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))
        self.log_sigma = nn.Parameter(torch.full((outputs, inputs), -2.0))

    def forward(self, x: Tensor) -> Tensor:
        mean = functional.linear(x, self.weight)
        if not self.training:
            return mean
        return mean + functional.linear(x.square(), self.log_sigma.exp()).sqrt() * torch.randn_like(mean)


def pruned() -> nn.Module:
    model = Fn(lambda s, x: s.o(functional.layer_norm(s.w(x), (8,))), w=lin(6, 8), o=nn.Linear(8, 3))
    prune.l1_unstructured(model.w, "weight", amount=0.4)
    return model


class Reverse(torch.autograd.Function):
    """Turns the gradient round (domain-adversarial training)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        return -g


def forces(create_graph: bool, *, energy: bool = False) -> nn.Module:
    """The gradient of an energy by the positions; the energy's features are normalised."""

    def forward(s: Any, x: Tensor) -> Any:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            e = s.b(torch.tanh(functional.layer_norm(s.a(x), (8,)))).sum(1)
            f = -torch.autograd.grad(e.sum(), x, create_graph=create_graph)[0]
        return {"energy": e, "forces": f} if energy else f

    return Fn(forward, a=lin(3, 8), b=nn.Linear(8, 1))


def in_functional_call() -> nn.Module:
    return Fn(
        lambda s, x: s.o(torch.tanh(functional_call(s.net, {"weight": s.w / s.w.norm(dim=1, keepdim=True)}, (x,)))),
        net=lin(6, 8), w=nn.Parameter(torch.randn(8, 6)), o=nn.Linear(8, 3),
    )  # fmt: skip


def quantised_code() -> nn.Module:
    """The nearest row of a codebook, straight through to the encoder (VQ-VAE)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        z = s.enc(x)
        code = s.book[torch.cdist(z, s.book).argmin(1)]
        return s.o(torch.tanh(z + (code - z).detach()))

    return Fn(forward, enc=lin(6, 4), book=nn.Parameter(torch.randn(7, 4)), o=nn.Linear(4, 3))


_PAIR: dict[str, Any] = {"rescaling": ({"a.weight": 1, "o.weight": -1},), "fixed": ("o.bias",)}
_W: dict[str, Any] = {"single": ("w",), "fixed": ("o.weight", "o.bias")}
_LAYER: dict[str, Any] = {"single": ("w.weight",), "fixed": ("o.weight", "o.bias")}

HOSTILE = [
    # near the present weights only
    Case("ReLU6 below six", built(lambda: bounded(functional.relu6), X), "linear below six, not above", verdict="undecided", **_PAIR),
    Case("a clamp that is not reached", built(lambda: bounded(lambda h: h.clamp(-50, 50)), X), "the same on both sides", verdict="undecided", **_PAIR),
    Case("ReLU6 where it is reached", built(lambda: bounded(functional.relu6, 20.0), X), "some numbers are cut at six", fixed=("a.weight", "o.weight", "o.bias")),
    Case("GELU of large numbers", built(lambda: bounded(functional.gelu, 1e5), X), "a ReLU for large numbers only", verdict="undecided", **_PAIR),
    Case("a norm kept below a limit", built(lambda: kept_below(0.5), X), "free as long as it is longer", verdict="undecided", **_W),
    Case("a norm below its limit", built(lambda: kept_below(1e3), X), "the limit does nothing here", fixed=("w", "o.weight", "o.bias")),
    Case("normalised when it is long", built(normalised_when_long, X), "a branch by the norm", verdict="undecided", **_W),
    Case("nearly all through the norm", built(almost_normalised, X), "3e-9 of it goes around", verdict="undecided", **_LAYER),
    Case("a table whose largest norm is not reached", built(lambda: Fn(lambda s, i: s.o(functional.layer_norm(s.e(i).mean(1), (8,))), e=nn.Embedding(20, 8, max_norm=100.0), o=nn.Linear(8, 3)), tokens(20, 4, 9)),
         "rows longer than 100 are cut, and then they count by their directions", verdict="undecided", single=("e.weight",), fixed=("o.weight", "o.bias")),
    # inputs that hide
    Case("attention to one token", built(lambda: attention(False), normal(4, 1, 6)), "softmax of one number is 1: longer inputs are made", **_ATTENTION),
    Case("attention to one token, by hand", built(lambda: attention(True), normal(4, 1, 6)), "the same by a softmax", **_ATTENTION),
    Case("attention with one token left", built(lambda: attention(True), normal(4, 3, 6), torch.tensor([[True, False, False]] * 4)), "the mask leaves one", **_ATTENTION),
    *(Case(f"one step of a {kind.__name__}", built(lambda kind=kind: recurrent(kind), normal(4, 1, 6)), "the first step starts from zeros: longer inputs are made", **_RECURRENT) for kind in (nn.RNN, nn.LSTM, nn.GRU)),
    Case("group norm of one pixel", built(lambda: Fn(lambda s, x: s.o(torch.relu(s.n(s.w(x))).mean((2, 3))), w=nn.Conv2d(3, 8, 3, bias=False), n=nn.GroupNorm(4, 8), o=nn.Linear(8, 3)), normal(4, 3, 3, 3)),
         "two values a group: larger maps are made", single=("w.weight",), rescaling=({"n.weight": 1, "n.bias": 1, "o.weight": -1},), fixed=("o.bias",)),
    # what the copy is made of
    Case("a head tied by a closure", built(tied_by_a_closure, tokens(20, 4, 9)), "e as a table is free, as a head it is not", fixed=("e.weight",)),
    Case("a layer in a closure", built(layer_in_a_closure, X), "the function holds the model it was made in", **_LAYER),
    Case("a gain in a hook", built(gain_in_a_hook, X), "so does the hook", single=("w.weight",), rescaling=({"gain": 1, "o.weight": -1},), fixed=("o.bias",)),
    Case("variational dropout", built(lambda: Fn(lambda s, x: s.o(torch.tanh(s.w(x))), w=VariationalDropout(6, 8), o=nn.Linear(8, 3)), X),
         "a layer with weights is no dropout, whatever its name", fixed=("w.weight", "w.log_sigma", "o.weight", "o.bias")),
    Case("pruned", built(pruned, X), "weight = weight_orig * mask, made before each forward", single=("w.weight_orig",), fixed=("o.weight", "o.bias")),
    Case("spectral norm", built(lambda: Fn(lambda s, x: s.o(torch.tanh(s.w(x))), w=parametrizations.spectral_norm(lin(6, 8)), o=nn.Linear(8, 3)), X),
         "divided by an estimate of its largest singular value", single=("w.parametrizations.weight.original",), fixed=("o.weight", "o.bias")),
    Case("in a functional call", built(in_functional_call, X), "the layer's own weight is not used", single=("w",), row=("w",), unreached=("net.weight",), fixed=("o.weight", "o.bias")),
    # gradient and function
    Case("a turned gradient", built(lambda: Fn(lambda s, x: (lambda h: torch.cat([s.c(h), s.d(Reverse.apply(h))], 1))(torch.relu(s.w(x))), w=lin(6, 8), c=lin(8, 2), d=lin(8, 2)), X),
         "w up, c and d down keeps the outputs, which the gradient does not show", verdict="undecided", rescaling=({"w.weight": 1, "c.weight": -1, "d.weight": 1},)),
    Case("a code straight through", built(quantised_code, X), "the encoder counts by its choices, its gradient is the decoder's", verdict="undecided", unreached=("book",), fixed=("enc.weight", "o.weight", "o.bias")),
    Case("forces of a normalised energy", built(lambda: forces(True), normal(9, 3)), "the last bias shifts the energy alone", single=("a.weight",), dead=("b.bias",), fixed=("b.weight",)),
    Case("forces without a graph", built(lambda: forces(False), normal(9, 3)), "no gradient reaches the weights", unreached=("a.weight", "b.weight"), dead=("b.bias",)),
    Case("energy and forces", built(lambda: forces(True, energy=True), normal(9, 3)), "b is a scale of both", single=("a.weight",), fixed=("b.weight", "b.bias")),
    # forms of calls
    Case("grouped_mm, 3-D by 3-D", built(lambda: Fn(lambda s, x: functional.layer_norm(functional.grouped_mm(x, s.w), (16,)), w=nn.Parameter(torch.randn(2, 16, 16))), normal(2, 8, 16)),
         "each expert by itself", single=("w",), row=("w",)),
    Case("grouped_mm, 2-D by 2-D", built(lambda: Fn(lambda s, x: functional.layer_norm(functional.grouped_mm(s.w, x, offs=torch.tensor([16, 32], dtype=torch.int32)), (16,)), w=nn.Parameter(torch.randn(8, 32))), normal(32, 16)),
         "each row of each group by itself", single=("w",), row=("w",)),
    Case("a nearly empty part of a sum", built(lambda: Fn(lambda s, x: s.o(functional.layer_norm(s.a(x) + s.b(x) + 1e-5 * s.c(x), (8,))), a=lin(6, 8), b=lin(6, 8), c=lin(6, 8), o=nn.Linear(8, 3)), X),
         "c is one of the set, however small its part", joint=(("a.weight", "b.weight", "c.weight"),), fixed=("o.weight", "o.bias")),
]  # fmt: skip
