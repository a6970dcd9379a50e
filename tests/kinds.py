# ruff: noqa: E501  (a table)
"""Features of real training code that hide a symmetry or feign one, each kind by several small models, by hand.

Every case gives the whole answer, as in :mod:`tests.cases`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tests.cases import Case, normal, tokens
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


class Fn(nn.Module):
    """A model whose forward is a function of itself and the inputs."""

    def __init__(self, forward: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.call = forward
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.call(self, *inputs)


def lin(inputs: int, outputs: int) -> nn.Linear:
    return nn.Linear(inputs, outputs, bias=False)


def built(make: Callable[[], nn.Module], *inputs: Tensor) -> Callable[[], tuple[nn.Module, Any]]:
    def build() -> tuple[nn.Module, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return make(), inputs

    return build


X = normal(9, 6)


# -- random depth: what one draw leaves out is not dead ----------------------------------------------------------------


def layerdrop(skip: Callable[[Any, int], bool]) -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        for k, b in enumerate(s.b):
            if s.training and skip(s, k):
                continue
            h = h + torch.relu(b(functional.layer_norm(h, (8,))))
        return s.o(functional.layer_norm(h, (8,)))

    return Fn(forward, i=lin(6, 8), b=nn.ModuleList(lin(8, 8) for _ in range(6)), o=nn.Linear(8, 3))


def drop_path() -> nn.Module:
    """Whole samples skip a branch, as timm's DropPath has it."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        for b in s.b:
            keep = h.new_empty(len(h), 1).bernoulli_(0.2) / 0.2
            h = h + keep * torch.relu(b(functional.layer_norm(h, (8,))))
        return s.o(functional.layer_norm(h, (8,)))

    return Fn(forward, i=lin(6, 8), b=nn.ModuleList(lin(8, 8) for _ in range(4)), o=nn.Linear(8, 3))


def own_generator() -> nn.Module:
    model = layerdrop(lambda s, k: bool(torch.rand((), generator=s.dice) < 0.5))
    model.dice = torch.Generator().manual_seed(3)
    return model


def gated_by_data() -> nn.Module:
    """A block that runs only where the data say so."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        if float((s.gate(x)).mean()) > 0:
            h = h + torch.relu(s.b(functional.layer_norm(h, (8,))))
        return s.o(functional.layer_norm(h, (8,)))

    return Fn(forward, i=lin(6, 8), gate=lin(6, 1), b=lin(8, 8), o=nn.Linear(8, 3))


def early_exit() -> nn.Module:
    """Blocks run until a gate is content."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        for b in s.b:
            h = h + torch.relu(b(functional.layer_norm(h, (8,))))
            if float(s.g(functional.layer_norm(h, (8,))).mean()) > -2:
                break
        return s.o(functional.layer_norm(h, (8,)))

    return Fn(forward, i=lin(6, 8), g=lin(8, 1), b=nn.ModuleList(lin(8, 8) for _ in range(3)), o=nn.Linear(8, 3))


STREAM = ("i.weight", *(f"b.{k}.weight" for k in range(6)))


# -- eps: where it stands, how it is written ---------------------------------------------------------------------------


def normed(norm: Callable[[Any, Tensor], Tensor], **parts: Any) -> nn.Module:
    return Fn(lambda s, x: s.o(norm(s, s.w(x))), w=lin(6, 16), o=nn.Linear(16, 3), **parts)


def std_norm(eps: Any) -> Callable[[Any, Tensor], Tensor]:
    return lambda s, h: (h - h.mean(-1, keepdim=True)) / (h.std(-1, keepdim=True) + eps)


def rms(h: Tensor, eps: Any = 1e-5) -> Tensor:
    return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + eps)


class EpsBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w, self.o = lin(6, 16), nn.Linear(16, 3)
        self.register_buffer("tiny", torch.tensor([1e-4]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.w(x)
        return self.o(h / (h.norm(dim=-1, keepdim=True) + self.tiny))


def weight_standardised(outside: bool) -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        w = s.conv.weight - s.conv.weight.mean((1, 2, 3), keepdim=True)
        if outside:
            w = w / (w.view(len(w), -1).std(1).view(-1, 1, 1, 1) + 1e-5)
        else:
            w = w * torch.rsqrt(torch.var(w, (1, 2, 3), keepdim=True) + 1e-5)
        return s.head(torch.relu(s.norm(functional.conv2d(x, w))).mean((2, 3)))

    return Fn(forward, conv=nn.Conv2d(3, 8, 3, bias=False), norm=nn.GroupNorm(2, 8), head=nn.Linear(8, 3))


_STANDARDISED: dict[str, Any] = {
    "single": ("conv.weight",), "row": ("conv.weight",), "rescaling": ({"norm.weight": 1, "norm.bias": 1, "head.weight": -1},),
    "fixed": ("head.bias",),
}  # fmt: skip


def with_eps(value: float, **parts: Any) -> Callable[..., nn.Module]:
    def make(forward: Callable[..., Any]) -> nn.Module:
        model = Fn(forward, **parts)
        model.eps = value
        return model

    return make


def latent_attention() -> nn.Module:
    """Keys of which one part is normalised and one is not, from one matrix (DeepSeek's latent attention)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        q, k = s.q(rms(s.i(x))), s.kv(rms(s.i(x)))
        logits = (q * torch.cat([s.b(rms(k[:, :8])), k[:, 8:]], -1)).sum(-1, keepdim=True)
        return s.o(torch.tanh(logits))

    return Fn(forward, i=lin(6, 8), q=lin(8, 12), kv=lin(8, 12), b=lin(8, 8), o=nn.Linear(1, 3))


# -- inputs that hide --------------------------------------------------------------------------------------------------


def embedded(**options: Any) -> nn.Module:
    return Fn(
        lambda s, ids: s.o(torch.tanh(functional.layer_norm(s.e(ids).mean(1), (8,)))),
        e=nn.Embedding(20, 8, **options), o=nn.Linear(8, 3),
    )  # fmt: skip


def experts(loop: bool) -> nn.Module:
    """Four experts that write into one stream; each token goes to the one that a router prefers."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        y = functional.layer_norm(h, (8,))
        gates = torch.softmax(s.r(y), -1)
        best = gates.argmax(-1)
        out = torch.zeros_like(h)
        for k, expert in enumerate(s.x):
            chosen = (best == k).nonzero().flatten()
            if loop and not len(chosen):
                continue
            if loop:
                out = out.index_add(0, chosen, expert(y[chosen]) * gates[chosen, k, None])
            else:
                out = out + expert(y) * (gates[:, k] * (best == k)).unsqueeze(1)
        return s.o(functional.layer_norm(h + out, (8,)))

    model = Fn(forward, i=lin(6, 8), r=nn.Linear(8, 4), x=nn.ModuleList(lin(8, 8) for _ in range(4)), o=nn.Linear(8, 3))
    nn.init.zeros_(model.r.weight)
    with torch.no_grad():
        model.r.bias.copy_(torch.tensor([4.0, 0.0, 0.0, 0.0]))
    return model


def masked_pool() -> nn.Module:
    """Two modalities; the second is masked away in this batch."""
    return Fn(
        lambda s, x, y, mask: s.o(functional.layer_norm(s.a(x) + s.b(y) * mask, (8,))),
        a=lin(6, 8),
        b=lin(6, 8),
        o=nn.Linear(8, 3),
    )


# -- parts that no gradient reaches ------------------------------------------------------------------------------------


def frozen_backbone(how: str) -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        if how == "no_grad":
            with torch.no_grad():
                h = s.bb(x)
        elif how == "detach":
            h = s.bb(x).detach()
        else:
            with torch.inference_mode():
                h = s.bb(x)
            h = h.clone()
        return s.o(torch.relu(s.n(s.fc(h))))

    return Fn(forward, bb=nn.Linear(6, 12), fc=lin(12, 16), n=nn.BatchNorm1d(16), o=nn.Linear(16, 3))


_BACKBONE: dict[str, Any] = {
    "single": ("fc.weight",), "row": ("fc.weight",), "unreached": ("bb.weight", "bb.bias"),
    "rescaling": ({"n.weight": 1, "n.bias": 1, "o.weight": -1},), "fixed": ("o.bias",),
}  # fmt: skip


def argmax_router() -> nn.Module:
    """Each token goes to the expert with the largest score, unweighted; the batch norm behind mixes the experts."""

    def forward(s: Any, x: Tensor) -> Tensor:
        best = s.r(x).argmax(-1)
        h = torch.stack([e(x) for e in s.e], 1)[torch.arange(len(x)), best]
        return s.o(functional.batch_norm(h, None, None, training=True))

    model = Fn(forward, r=nn.Linear(6, 3), e=nn.ModuleList(lin(6, 8) for _ in range(3)), o=nn.Linear(8, 3))
    with torch.no_grad():
        model.r.bias.mul_(0)
    return model


# -- gradient and function disagree ------------------------------------------------------------------------------------


def straight_through(quantise: Callable[[Tensor], Tensor]) -> nn.Module:
    return Fn(
        lambda s, x: s.o(functional.linear(x, s.w + (quantise(s.w) - s.w).detach())),
        w=nn.Parameter(torch.randn(8, 6)), o=nn.Linear(8, 3),
    )  # fmt: skip


def batch_renorm() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.w(x)
        mean, std = h.mean(0), h.std(0)
        r, d = (std / s.sigma).detach(), ((mean - s.mu) / s.sigma).detach()
        return s.o(torch.tanh((h - mean) / std * r + d))

    model = Fn(forward, w=lin(6, 8), o=nn.Linear(8, 3))
    model.register_buffer("mu", torch.zeros(8))
    model.register_buffer("sigma", torch.ones(8))
    return model


def detached_norm() -> nn.Module:
    return Fn(
        lambda s, x: s.o((lambda h: h / h.norm(dim=-1, keepdim=True).detach())(s.w(x))), w=lin(6, 8), o=nn.Linear(8, 3)
    )


# -- weights that need care --------------------------------------------------------------------------------------------


class ActNorm(nn.Module):
    """Sets its shift and scale from the first batch (Glow)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.loc, self.scale = nn.Parameter(torch.zeros(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("ready", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if not self.ready:
            with torch.no_grad():
                self.loc.copy_(-x.mean(0))
                self.scale.copy_(1 / x.std(0))
                self.ready.fill_(1)
        return torch.log(self.scale.abs()).sum() + self.scale * (x + self.loc)


class ForcedWeight(nn.Module):
    """A layer of EDM2: in training it puts its own weight back on the sphere, row by row."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs))

    @staticmethod
    def unit(w: Tensor) -> Tensor:
        norm = torch.linalg.vector_norm(w, dim=1, keepdim=True, dtype=torch.float32)
        return w / torch.add(1e-4, norm, alpha=math.sqrt(norm.numel() / w.numel())).to(w.dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            with torch.no_grad():
                self.weight.copy_(self.unit(self.weight))
        return functional.linear(x, self.unit(self.weight) / math.sqrt(self.weight[0].numel()))


# -- what used to fail -------------------------------------------------------------------------------------------------


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        ctx.save_for_backward(x, w)
        return x @ w.t()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, w = ctx.saved_tensors
        return g @ w, g.t() @ x


def forces(net: nn.Module) -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_(True)
        return -torch.autograd.grad(s.net(x).sum(), x, create_graph=True)[0]

    return Fn(forward, net=net)


def checkpointed(reentrant: bool) -> nn.Module:
    return Fn(
        lambda s, x: s.o(checkpoint(lambda x: torch.relu(s.n(s.a(x))), x, use_reentrant=reentrant)),
        a=lin(6, 12), n=nn.LayerNorm(12), o=nn.Linear(12, 3),
    )  # fmt: skip


_CHECKPOINTED: dict[str, Any] = {
    "single": ("a.weight",), "rescaling": ({"n.weight": 1, "n.bias": 1, "o.weight": -1},), "fixed": ("o.bias",),
}  # fmt: skip


def constant(value: Any) -> nn.Module:
    model = Fn(
        lambda s, x: s.o(functional.layer_norm(torch.as_tensor(s.adj) @ s.w(x), (8,))), w=lin(6, 8), o=nn.Linear(8, 3)
    )
    model.adj = value
    return model


GLOBAL = torch.rand(9, 9, generator=torch.Generator().manual_seed(2))


def fourier() -> nn.Module:
    return Fn(
        lambda s, x: s.o(functional.layer_norm(torch.fft.irfft(torch.fft.rfft(x) * s.w, n=16), (16,))),
        w=nn.Parameter(torch.randn(9, dtype=torch.cfloat)), o=nn.Linear(16, 3),
    )  # fmt: skip


def complex_matrix() -> nn.Module:
    return Fn(lambda s, x: s.o((lambda z: torch.cat([z.real, z.imag], -1) / z.norm(dim=-1, keepdim=True))(x.to(torch.cfloat) @ s.w)),
              w=nn.Parameter(torch.randn(6, 8, dtype=torch.cfloat)), o=nn.Linear(16, 3))  # fmt: skip


def expanded_buffer() -> nn.Module:
    model = Fn(
        lambda s, x: s.o(torch.tanh(functional.layer_norm(s.w(x), (8,)) + s.pos)), w=lin(6, 8), o=nn.Linear(8, 2)
    )
    model.register_buffer("pos", torch.randn(1, 8).expand(9, 8))
    return model


def reassigned_buffer() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        h = functional.layer_norm(s.w(x), (8,))
        s.cache = h.detach().clone()
        return s.o(h)

    model = Fn(forward, w=lin(6, 8), o=nn.Linear(8, 2))
    model.register_buffer("cache", torch.zeros(0, 8))
    return model


def counting() -> nn.Module:
    """A warm-up that counts its own calls in a Python number, and keeps a list of losses."""

    def forward(s: Any, x: Tensor) -> Tensor:
        s.step += 1
        s.losses.append(float(s.step))
        return s.o(functional.layer_norm(s.w(x), (8,)) * min(1.0, s.step / 10) * len(s.losses))

    model = Fn(forward, w=lin(6, 8), o=nn.Linear(8, 2))
    model.step, model.losses = 0, []
    return model


def _one(
    name: str, make: Callable[[], nn.Module], reason: str, *inputs: Tensor, free: str = "w.weight", row: bool = False
) -> Case:
    """A case of one weight w in front of a norm over features and a head o."""
    return Case(
        name,
        built(make, *(inputs or (X,))),
        reason,
        single=(free,),
        row=(free,) if row else (),
        fixed=("o.weight", "o.bias"),
    )


_SINGLE = {"single": ("w.weight",), "fixed": ("o.weight", "o.bias")}

KINDS = [
    # random depth
    Case("layerdrop by torch", built(lambda: layerdrop(lambda s, k: bool(torch.rand(()) < 0.5)), X),
         "every block writes into the stream in some draw", joint=(STREAM,), fixed=("o.weight", "o.bias")),
    Case("layerdrop by numpy", built(lambda: layerdrop(lambda s, k: np.random.rand() < 0.5), X),  # noqa: NPY002
         "fairseq draws from numpy", joint=(STREAM,), fixed=("o.weight", "o.bias")),
    Case("layerdrop by Python", built(lambda: layerdrop(lambda s, k: random.random() < 0.7), X),
         "and others from Python's generator", joint=(STREAM,), fixed=("o.weight", "o.bias")),
    Case("layerdrop by a generator of its own", built(own_generator, X), "a torch.Generator that the module keeps",
         joint=(STREAM,), fixed=("o.weight", "o.bias")),
    Case("drop path", built(drop_path, normal(3, 6)), "a branch may be dropped for every sample of a batch",
         joint=(("i.weight", *(f"b.{k}.weight" for k in range(4))),), fixed=("o.weight", "o.bias")),
    Case("an early exit", built(early_exit, X), "which blocks run is decided by the data, and these data leave at once", verdict="undecided",
         joint=(("i.weight", "b.0.weight"),), unreached=("g.weight", "b.1.weight", "b.2.weight"), fixed=("o.weight", "o.bias")),
    Case("a block that runs where the data say so", built(gated_by_data, X), "the gate opens at some weights and inputs, so all is seen",
         joint=(("i.weight", "b.weight"),), unreached=("gate.weight",), fixed=("o.weight", "o.bias")),
    # eps
    Case("weight standardisation", built(lambda: weight_standardised(True), normal(6, 3, 8, 8)), "eps outside of the root, per filter", **_STANDARDISED),
    Case("weight standardisation, eps inside", built(lambda: weight_standardised(False), normal(6, 3, 8, 8)), "eps inside of the root", **_STANDARDISED),
    _one("std + eps", lambda: normed(std_norm(1e-5)), "eps outside of the root: the defect falls as 1/c"),
    _one("std + 1e-2", lambda: normed(std_norm(1e-2)), "a large one"),
    _one("norm + eps", lambda: normed(lambda s, h: h / (h.norm(dim=-1, keepdim=True) + 1e-8)), "l2 normalisation"),
    _one("np.float64 eps", lambda: normed(lambda s, h: rms(h, np.float64(1e-5))), "not a Python float"),
    _one("tensor eps", lambda: normed(lambda s, h: rms(h, torch.tensor(1e-5))), "a tensor without dimensions"),
    _one("buffer eps", EpsBuffer, "a buffer with one entry"),
    _one("eps for each sample", lambda: normed(lambda s, h: h / (h.norm(dim=-1, keepdim=True) + torch.full((9, 1), 1e-5))), "a tensor of one value"),
    _one("eps first", lambda: normed(lambda s, h: h * torch.rsqrt(torch.add(1e-5, h.pow(2).mean(-1, keepdim=True)))), "eps is the first argument"),
    _one("eps from the left", lambda: normed(lambda s, h: h / (1e-6 + h.square().sum(-1, keepdim=True)).pow(0.5)), "power instead of a root"),
    _one("eps by clamp", lambda: normed(lambda s, h: h / h.norm(dim=-1, keepdim=True).clamp(min=1e-4)), "a bound from below"),
    _one("eps by maximum", lambda: normed(lambda s, h: h / torch.maximum(h.norm(dim=-1, keepdim=True), torch.tensor(1e-4))), "the same by a tensor"),
    _one("eps in place", lambda: normed(lambda s, h: h.div(h.std(-1, keepdim=True).add_(1e-5))), "added in place"),
    Case("eps under what goes down", built(latent_attention, X), "q up, b down, and kv down, of which the normalised part feels eps as it shrinks",
         single=("i.weight",), partial=(("kv.weight", 0, ((0, 8),)),), rescaling=({"q.weight": 1, "kv.weight": -1, "b.weight": -1},), fixed=("o.weight", "o.bias")),
    Case("a batch of two under a batch norm by hand", built(lambda: Fn(lambda s, x: s.o((lambda h: (h - h.mean(0)) / torch.sqrt(h.var(0) + 1e-5))(s.w(x))), w=lin(6, 8), o=nn.Linear(8, 3)), normal(2, 6)),
         "nearly +1 and -1 whatever w is, and nobody sees a norm", verdict="undecided", fixed=("w.weight", "o.weight", "o.bias")),
    Case("a saturating denominator", built(lambda: Fn(lambda s, x: s.o((lambda h: h / (h.abs() + 0.05))(s.w(x))), w=lin(6, 8), o=nn.Linear(8, 3)), X),
         "entry by entry no norm: 0.05 sets the scale of w", fixed=("w.weight", "o.weight", "o.bias")),
    Case("one in a denominator", built(lambda: Fn(lambda s, x: s.o((lambda h: h / (h.norm(dim=-1, keepdim=True) + 1))(s.w(x))), w=lin(6, 8), o=nn.Linear(8, 3)), X),
         "1 is no eps", fixed=("w.weight", "o.weight", "o.bias")),
    Case("another small number", built(lambda: Fn(lambda s, x: s.o(torch.relu(s.a(rms(s.w(x), 1e-6))) + 1e-3), w=lin(6, 16), a=lin(16, 12), o=nn.Linear(12, 3)), X),
         "1e-3 is a shift behind a ReLU and holds a and o apart", single=("w.weight",), fixed=("a.weight", "o.weight", "o.bias")),
    Case("a small number in a log", built(lambda: Fn(lambda s, x: s.o(torch.log(torch.sigmoid(s.a(rms(s.w(x), 1e-6))) + 1e-4)), w=lin(6, 16), a=lin(16, 12), o=nn.Linear(12, 3)), X),
         "1e-4 is no divisor", single=("w.weight",), fixed=("a.weight", "o.weight", "o.bias")),
    Case("temperature named eps", built(lambda: with_eps(0.05, w=lin(6, 8), n=nn.BatchNorm1d(8), p=lin(8, 5))(
        lambda s, x: (lambda q: q / q.sum(1, keepdim=True))(torch.exp(s.p(functional.normalize(s.n(s.w(x)), dim=-1)) / s.eps))), normal(16, 6)),
         "a temperature", single=("w.weight",), row=("w.weight",), joint=(("n.weight", "n.bias"),), fixed=("p.weight",)),
    Case("margin named eps", built(lambda: with_eps(0.05, w=lin(6, 8), o=nn.Linear(8, 2))(
        lambda s, x: s.o(functional.layer_norm(torch.relu(s.w(functional.normalize(x, dim=-1)) - s.eps), (8,)))), normal(20, 6)),
         "the margin is a part of the function", fixed=("w.weight", "o.weight", "o.bias")),
    Case("label smoothing named eps", built(lambda: with_eps(0.1, w=lin(6, 8), o=nn.Linear(8, 2))(
        lambda s, x: s.o(functional.layer_norm(s.w(x), (8,))) * (1 - s.eps) + s.eps * s.w(x)[:, :2]), normal(20, 6)),
         "a share of the raw weight is in the output", fixed=("w.weight", "o.weight", "o.bias")),
    # inputs that hide
    _one("padding_idx", lambda: embedded(padding_idx=0), "the gradient of the padding row is masked, not the function", tokens(20, 4, 9), free="e.weight"),
    _one("padding row in use only", lambda: embedded(padding_idx=3), "every token is padding", torch.full((4, 9), 3), free="e.weight"),
    _one("sparse embedding", lambda: Fn(lambda s, i: s.o(functional.layer_norm(s.e(i), (8,))), e=nn.Embedding(20, 8, sparse=True), o=nn.Linear(8, 3)),
         "a sparse gradient; each row is normalised alone", tokens(20, 4, 9), free="e.weight", row=True),
    _one("scaled by counts", lambda: embedded(scale_grad_by_freq=True), "the gradient is divided by counts, not the function", tokens(3, 4, 9), free="e.weight"),
    Case("batch of two", built(lambda: nn.Sequential(lin(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3)), normal(2, 8)),
         "two values per channel are +1 and -1 whatever the weights: a larger batch is made", single=("0.weight",), row=("0.weight",),
         rescaling=({"1.weight": 1, "1.bias": 1, "3.weight": -1},), fixed=("3.bias",)),
    Case("maps of one pixel", built(lambda: nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8, 3)), normal(2, 3, 3, 3)),
         "the same for 1x1 maps", single=("0.weight",), row=("0.weight",), rescaling=({"1.weight": 1, "1.bias": 1, "4.weight": -1},), fixed=("4.bias",)),
    *(Case(f"unused experts, {'by a loop' if loop else 'masked'}", built(lambda loop=loop: experts(loop), X),
           "experts that no token was sent to write into the stream as the others do",
           joint=(("i.weight", *(f"x.{k}.weight" for k in range(4))),), fixed=("r.weight", "r.bias", "o.weight", "o.bias")) for loop in (True, False)),
    Case("a masked modality", built(masked_pool, X, X.flip(0), torch.zeros(9, 1)), "a mask of zeros hides b: other numbers are tried as well",
         joint=(("a.weight", "b.weight"),), fixed=("o.weight", "o.bias")),
    # no gradient
    *(Case(f"backbone under {how}", built(lambda how=how: frozen_backbone(how), normal(16, 6)), "not dead: the outputs depend on it", **_BACKBONE)
      for how in ("no_grad", "detach", "inference_mode")),
    Case("a part that is never called", built(lambda: Fn(lambda s, x: s.o(functional.layer_norm(s.w(x), (8,))), w=lin(6, 8), o=nn.Linear(8, 3), pooler=nn.Linear(8, 8)), X),
         "the forward does not use the pooler", single=("w.weight",), unreached=("pooler.weight", "pooler.bias"), fixed=("o.weight", "o.bias")),
    Case("a router by argmax", built(argmax_router, X), "the outputs depend on the router by its choices alone",
         joint=(tuple(f"e.{k}.weight" for k in range(3)),), unreached=("r.weight", "r.bias"), fixed=("o.weight", "o.bias")),
    # gradient and function disagree
    Case("sign, straight through", built(lambda: straight_through(torch.sign), X), "the function has no scale, its gradient has", verdict="undecided",
         fixed=("w", "o.weight", "o.bias")),
    Case("batch renormalisation", built(batch_renorm, X), "the gradient is that of a batch norm, the function is not", verdict="undecided",
         single=("w.weight",), fixed=("o.weight", "o.bias")),
    Case("a detached norm", built(detached_norm, X), "the function has no scale, its gradient has", verdict="undecided",
         rescaling=({"w.weight": 1, "o.weight": -1},), fixed=("o.bias",)),
    # weights that need care
    Case("a variance", built(lambda: Fn(lambda s, x: s.o(functional.layer_norm(s.w(x), (8,))) / s.var.sqrt(), w=lin(6, 8), o=nn.Linear(8, 3), var=nn.Parameter(torch.full((3,), 1e-3))), X),
         "var must stay positive; as c^2 it takes back what o does", single=("w.weight",), weighted=({"o.weight": 1, "o.bias": 1, "var": 2},)),
    Case("a precision in a log", built(lambda: Fn(lambda s, x: s.o(functional.layer_norm(s.w(x), (8,))) + torch.log(s.tau), w=lin(6, 8), o=nn.Linear(8, 3), tau=nn.Parameter(torch.full((3,), 0.01))), X),
         "tau must stay positive", single=("w.weight",), fixed=("o.weight", "o.bias", "tau")),
    Case("ActNorm before its first batch", built(lambda: Fn(lambda s, x: s.o(torch.tanh(s.n(s.w(x)))), w=lin(6, 8), n=ActNorm(8), o=nn.Linear(8, 3)), X),
         "after the first batch an affine map in front of tanh", fixed=("w.weight", "n.loc", "n.scale", "o.weight", "o.bias")),
    Case("weights put back by the forward", built(lambda: Fn(lambda s, x: s.o(torch.tanh(s.w(x))), w=ForcedWeight(6, 8), o=nn.Linear(8, 3)), X),
         "the function of the weights as stored is free by row", single=("w.weight",), row=("w.weight",), fixed=("o.weight", "o.bias")),
    Case("a table with a largest norm", built(lambda: Fn(lambda s, i: s.o(torch.tanh(s.e(i).sum(1))), e=nn.Embedding(20, 8, max_norm=0.5), o=nn.Linear(8, 3)), tokens(20, 4, 9)),
         "rows longer than max_norm are cut to it, up to an eps inside of torch: nearly free, and said so", verdict="undecided", fixed=("e.weight", "o.weight", "o.bias")),
    # exponents
    Case("a square and a line", built(lambda: Fn(lambda s, x: torch.tanh(s.n(s.w(x) + ((x @ s.v) ** 2).sum(1, keepdim=True))), v=nn.Parameter(torch.randn(6, 4)), w=lin(6, 1), n=nn.BatchNorm1d(1, affine=False)), normal(20, 6)),
         "w goes as v^2 in front of one norm", weighted=({"w.weight": 2, "v": 1},)),
    Case("a cube and a line", built(lambda: Fn(lambda s, x: functional.layer_norm(s.w(x) + s.v(x) ** 3, (5,)), w=lin(6, 5), v=lin(6, 5)), X),
         "w goes as v^3", weighted=({"w.weight": 3, "v.weight": 1},)),
    # columns
    Case("a decoder with unit columns", built(lambda: Fn(lambda s, x: torch.relu(s.enc(x)) @ functional.normalize(s.dec, dim=0).t(), enc=nn.Linear(6, 12), dec=nn.Parameter(torch.randn(6, 12))), normal(40, 6)),
         "free by column", single=("dec",), row=("dec",), row_dim={"dec": 1}, fixed=("enc.weight", "enc.bias")),
    Case("normalised along the middle", built(lambda: Fn(lambda s, x: torch.tanh(torch.einsum("ni,hio->nho", x, functional.normalize(s.w, dim=(1, 2)))).flatten(1), w=nn.Parameter(torch.randn(3, 6, 4))), X),
         "each head by itself", single=("w",), row=("w",), row_dim={"w": 0}),
    Case("unit fibres", built(lambda: Fn(lambda s, x: torch.tanh(torch.einsum("ni,iho->nho", x, s.w / s.w.norm(dim=(0, 1), keepdim=True))).flatten(1), w=nn.Parameter(torch.randn(6, 3, 4))), X),
         "free along the last dimension", single=("w",), row=("w",), row_dim={"w": 2}),
    # what used to fail
    *(Case(f"checkpoint, {'' if r else 'not '}reentrant", built(lambda r=r: checkpointed(r), X), "the same function", **_CHECKPOINTED) for r in (True, False)),
    _one("a tensor that no buffer holds", lambda: constant(GLOBAL.clone()), "float32 in a float64 model"),
    _one("a numpy constant", lambda: constant(GLOBAL.numpy()), "an array"),
    _one("a global constant", lambda: Fn(lambda s, x: s.o(functional.layer_norm(GLOBAL @ s.w(x), (8,))), w=lin(6, 8), o=nn.Linear(8, 3)), "nobody's tensor"),
    Case("grouped_mm", built(lambda: Fn(lambda s, x: functional.layer_norm(functional.grouped_mm(x, s.w, offs=torch.tensor([4, 8], dtype=torch.int32)), (16,)), w=nn.Parameter(torch.randn(2, 16, 16))), normal(8, 16)),
         "each expert by itself", single=("w",), row=("w",)),
    _one("complex weights", fourier, "a spectral filter", normal(5, 16), free="w"),
    _one("a complex matrix", complex_matrix, "normalised by its complex length", free="w"),
    Case("all under vmap", built(lambda: Fn(lambda s, x: torch.vmap(lambda a: functional.layer_norm(x @ a.t(), (12,)))(s.w), w=nn.Parameter(torch.randn(3, 12, 6))), X),
         "each of the ensemble by itself", single=("w",), row=("w",)),
    _one("an autograd.Function", lambda: Fn(lambda s, x: s.o(functional.layer_norm(Scaled.apply(x, s.w), (8,))), w=nn.Parameter(torch.randn(8, 6)), o=nn.Linear(8, 3)), "its call is not seen", free="w"),
    Case("forces", built(lambda: forces(nn.Sequential(nn.Linear(3, 16), nn.Softplus(), nn.Linear(16, 1))), normal(9, 3)), "the last bias shifts an energy",
         dead=("net.2.bias",), fixed=("net.0.weight", "net.0.bias", "net.2.weight")),
    Case("forces of a normalised net", built(lambda: forces(nn.Sequential(lin(3, 16), nn.LayerNorm(16, elementwise_affine=False), nn.Tanh(), lin(16, 1))), normal(9, 3)), "the gradient of an invariant function is one",
         single=("net.0.weight",), fixed=("net.3.weight",)),
    _one("an expanded buffer", expanded_buffer, "one row seen as many"),
    _one("a buffer that is assigned anew", reassigned_buffer, "another size after the first call"),
    _one("a counter", counting, "numbers and lists that every call changes"),
]  # fmt: skip
