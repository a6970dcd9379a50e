# ruff: noqa: E501  (a table)
"""Small models written as public training code writes such things: each part with the answer that follows by hand.

Every case gives the whole answer, as in :mod:`tests.cases`.
"""

from __future__ import annotations

import functools
import math
import random
import warnings
from typing import Any, NamedTuple

import torch
from tests.cases import Case, normal, tokens
from tests.kinds import Fn, X, _one, built, lin
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import pack_padded_sequence


def normed(h: Tensor) -> Tensor:
    return functional.layer_norm(h, (h.shape[-1],))


def in_front(**parts: Any) -> dict[str, Any]:
    """A weight w in front of a norm and a head o, and more."""
    return {"w": lin(6, 8), "o": nn.Linear(8, 3), **parts}


# -- random depth ------------------------------------------------------------------------------------------------------


def stochastic_depth(progressive: bool) -> nn.Module:
    """Whole branches of a batch are multiplied by 0 or 1/p (torchvision), or skipped more and more as training goes on."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        if progressive:
            s.step += 1
        for k, b in enumerate(s.b):
            branch = torch.relu(b(normed(h)))
            if progressive:
                theta = 0.5 + 0.5 * math.exp(-s.step / 1000)
                if random.random() > 1 - (k + 1) / len(s.b) * (1 - theta) - 0.4:
                    continue
                h = h + branch
            else:
                noise = torch.empty((1, 1), dtype=h.dtype).bernoulli_(0.3).div_(0.3)
                h = h + branch * noise
        return s.o(normed(h))

    model = Fn(forward, i=lin(6, 8), b=nn.ModuleList(lin(8, 8) for _ in range(4)), o=nn.Linear(8, 3))
    model.step = 1000
    return model


def mixture_of_depths() -> nn.Module:
    """The tokens with the largest scores go through a block, the others around it."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.i(x)
        score = s.r(normed(h)).squeeze(-1)
        best = score.topk(2, dim=1).indices
        index = best[..., None].expand(-1, -1, h.shape[-1])
        chosen = h.gather(1, index)
        out = torch.relu(s.b(normed(chosen))) * torch.sigmoid(score.gather(1, best))[..., None]
        return s.o(normed(h.scatter_add(1, index, out)))

    return Fn(forward, i=lin(6, 8), r=nn.Linear(8, 1), b=lin(8, 8), o=nn.Linear(8, 3))


def teacher_forcing() -> nn.Module:
    """A decoder that is fed the truth or its own choice, by a coin."""

    def forward(s: Any, ids: Tensor) -> Tensor:
        h = torch.zeros(len(ids), 6, dtype=s.o.weight.dtype)
        given, out = ids[:, 0], []
        for t in range(1, ids.shape[1]):
            h = s.r(normed(s.e(given)), h)
            out.append(s.o(h))
            given = ids[:, t] if random.random() < 0.5 else out[-1].argmax(1)
        return torch.stack(out, 1)

    return Fn(forward, e=nn.Embedding(12, 5), r=nn.GRUCell(5, 6), o=nn.Linear(6, 12))


# -- eps ---------------------------------------------------------------------------------------------------------------


def prototypes() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        return functional.cosine_similarity(s.a(x)[:, None], s.p[None], dim=-1) * s.t.exp()

    return Fn(forward, a=lin(6, 8), p=nn.Parameter(torch.randn(4, 8)), t=nn.Parameter(torch.tensor(2.0)))


def distances() -> nn.Module:
    """Distances to prototypes, relative to their mean."""

    def forward(s: Any, x: Tensor) -> Tensor:
        d = functional.pairwise_distance(s.a(x)[:, None], s.p[None])
        return s.o(torch.tanh(d / d.mean(-1, keepdim=True)))

    return Fn(forward, a=lin(6, 8), p=nn.Parameter(torch.randn(4, 8)), o=nn.Linear(4, 3))


class ScaledStdConv(nn.Conv2d):
    """The convolution of NFNets."""

    def __init__(self) -> None:
        super().__init__(3, 8, 3, bias=False)
        self.gain = nn.Parameter(torch.ones(8, 1, 1, 1))
        self.eps = 1e-4

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        var = self.weight.var((1, 2, 3), keepdim=True)
        scale = torch.rsqrt(torch.max(var * self.weight[0].numel(), torch.tensor(self.eps).to(var))) * self.gain
        return functional.conv2d(x, self.weight * scale - mean * scale)


def fused_features() -> nn.Module:
    """The fast normalised fusion of EfficientDet: two inputs weighted by positive shares."""

    def forward(s: Any, x: Tensor) -> Tensor:
        share = torch.relu(s.f)
        share = share / (share.sum(dim=0) + s.epsilon)
        return s.o(functional.silu(share[0] * s.a(x) + share[1] * s.b(x)))

    model = Fn(forward, f=nn.Parameter(torch.ones(2)), a=nn.Linear(6, 8), b=nn.Linear(6, 8), o=nn.Linear(8, 3))
    model.epsilon = 1e-4
    return model


class GRN(nn.Module):
    """The global response normalisation of ConvNeXt V2."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma, self.beta = (nn.Parameter(torch.zeros(1, 1, 1, width)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        length = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        return self.gamma * (x * (length / (length.mean(dim=-1, keepdim=True) + 1e-6))) + self.beta + x


def modulated_convolution() -> nn.Module:
    """A layer of StyleGAN2: weights times a style, then divided by their length."""

    def forward(s: Any, x: Tensor, z: Tensor) -> Tensor:
        n, c = x.shape[:2]
        z = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        style = s.style(z)
        w = s.w[None] * style.reshape(n, 1, c, 1, 1)
        w = w * (w.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt().reshape(n, -1, 1, 1, 1)
        y = functional.conv2d(x.reshape(1, n * c, *x.shape[2:]), w.reshape(-1, *w.shape[2:]), padding=1, groups=n)
        y = y.reshape(n, -1, *y.shape[2:]) + s.noise * s.strength + s.bias.reshape(1, -1, 1, 1)
        return s.o(functional.leaky_relu(y, 0.2) * math.sqrt(2))

    model = Fn(
        forward, style=nn.Linear(5, 4), w=nn.Parameter(torch.randn(6, 4, 3, 3)), bias=nn.Parameter(torch.zeros(6)),
        strength=nn.Parameter(torch.zeros([])), o=nn.Conv2d(6, 3, 1),
    )  # fmt: skip
    nn.init.ones_(model.style.bias)
    model.register_buffer("noise", torch.randn(5, 5))
    return model


def arc_face() -> nn.Module:
    """An additive angular margin on the true class."""

    def forward(s: Any, x: Tensor, y: Tensor) -> Tensor:
        cosine = functional.linear(functional.normalize(s.w(x)), functional.normalize(s.c))
        theta = torch.acos(torch.clamp(cosine, -1.0 + 1e-7, 1.0 - 1e-7))
        hot = functional.one_hot(y, 4).to(cosine)
        return 16.0 * (hot * torch.cos(theta + 0.5) + (1 - hot) * cosine)

    return Fn(forward, w=lin(6, 8), c=nn.Parameter(torch.randn(4, 8)))


def pooled() -> nn.Module:
    """Generalised-mean pooling as image retrieval has it, and a norm."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = torch.relu(s.w(x)).clamp(min=1e-6)
        return s.o(normed(h.pow(s.p).mean((2, 3)).pow(1.0 / s.p)))

    return Fn(forward, w=nn.Conv2d(3, 8, 3, bias=False), p=nn.Parameter(torch.ones(1) * 3), o=nn.Linear(8, 3))


# -- norms that do not move, weights that no norm sees ----------------------------------------------------------------


def frozen_norm(how: str) -> nn.Module:
    """Statistics of an earlier data set: a shift and a scale, whatever the layer's name."""
    norm = nn.BatchNorm2d(8)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    if how == "eval":
        model = Fn(
            lambda s, x: s.o(torch.relu(s.n(s.w(x))).mean((2, 3))),
            w=nn.Conv2d(3, 8, 3, bias=False),
            n=norm,
            o=nn.Linear(8, 3),
        )
        model.train = lambda mode=True: (nn.Module.train(model, mode), model.n.eval(), model)[-1]  # type: ignore[method-assign]
        return model

    class FrozenBatchNorm2d(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.eps = 1e-5
            for name, value in (("weight", 1.0), ("bias", 0.5)):
                self.register_buffer(name, torch.full((8,), value))
            self.register_buffer("running_mean", norm.running_mean)
            self.register_buffer("running_var", norm.running_var)

        def forward(self, x: Tensor) -> Tensor:
            w, b, v, m = (t.reshape(1, -1, 1, 1) for t in (self.weight, self.bias, self.running_var, self.running_mean))
            scale = w * (v + self.eps).rsqrt()
            return x * scale + (b - m * scale)

    return Fn(
        lambda s, x: s.o(torch.relu(s.n(s.w(x))).mean((2, 3))),
        w=nn.Conv2d(3, 8, 3, bias=False),
        n=FrozenBatchNorm2d(),
        o=nn.Linear(8, 3),
    )


def same_layer_again() -> nn.Module:
    """One layer, three times, into a normalised stream (universal transformers)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = normed(s.i(x))
        for _ in range(3):
            h = normed(h + torch.relu(s.w(h)))
        return s.o(h)

    return Fn(forward, i=lin(6, 8), w=lin(8, 8), o=nn.Linear(8, 3))


def orthogonal_layer() -> nn.Module:
    return Fn(
        lambda s, x: s.o(torch.tanh(s.w(x))),
        w=parametrizations.orthogonal(lin(6, 6), orthogonal_map="cayley"),
        o=nn.Linear(6, 3),
    )


# -- inputs that hide --------------------------------------------------------------------------------------------------


def packed() -> nn.Module:
    def forward(s: Any, ids: Tensor, lengths: Tensor) -> Tensor:
        rows = pack_padded_sequence(normed(s.e(ids)), lengths, batch_first=True, enforce_sorted=False)
        return s.o(s.r(rows)[1][0][-1])

    return Fn(forward, e=nn.Embedding(12, 5, padding_idx=0), r=nn.LSTM(5, 6, batch_first=True), o=nn.Linear(6, 3))


def routed(experts: int = 4) -> nn.Module:
    """Two experts a token, stacked weights, at most two tokens an expert."""

    def forward(s: Any, x: Tensor) -> Tensor:
        gates = torch.softmax(s.r(x), -1)
        top, which = gates.topk(2, -1)
        hot = functional.one_hot(which, experts).to(x)
        place = (hot.reshape(-1, experts).cumsum(0) * hot.reshape(-1, experts)).reshape(hot.shape)
        hot = hot * (place <= 2)
        weight = torch.einsum("nk,nke->ne", top / top.sum(-1, keepdim=True), hot)
        hidden = torch.relu(torch.einsum("ni,eih->neh", x, s.up))
        return s.o(torch.tanh(torch.einsum("neh,eho,ne->no", hidden, s.down, weight)))

    return Fn(
        forward, r=nn.Linear(6, experts), up=nn.Parameter(torch.randn(experts, 6, 8)),
        down=nn.Parameter(torch.randn(experts, 8, 5)), o=nn.Linear(5, 3),
    )  # fmt: skip


def conditional_norm() -> nn.Module:
    """Gains and shifts by class (BigGAN); all samples are of one class."""
    return Fn(
        lambda s, x, y: s.o(torch.relu(s.g(y) * s.n(s.w(x)) + s.b(y))), w=lin(6, 8), n=nn.BatchNorm1d(8, affine=False),
        g=nn.Embedding(5, 8), b=nn.Embedding(5, 8), o=nn.Linear(8, 3),
    )  # fmt: skip


def batch_normed() -> nn.Module:
    return nn.Sequential(lin(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


_BATCH_NORMED: dict[str, Any] = {
    "single": ("0.weight",), "row": ("0.weight",), "rescaling": ({"1.weight": 1, "1.bias": 1, "3.weight": -1},), "fixed": ("3.bias",),
}  # fmt: skip


def cross_attention() -> nn.Module:
    """A stream that attends to a context."""

    def forward(s: Any, x: Tensor, context: Tensor) -> Tensor:
        h = torch.softmax(s.q(x) @ s.k(context).transpose(1, 2), -1) @ s.v(context)
        return s.o(normed(s.i(x) + s.p(h)))

    return Fn(forward, i=lin(6, 8), q=lin(6, 4), k=lin(5, 4), v=lin(5, 4), p=lin(4, 8), o=nn.Linear(8, 3))


def guarded(limit: float) -> nn.Module:
    """The forward stops the training where its numbers grow."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.w(x)
        if h.abs().max() > limit:
            raise FloatingPointError("activations explode")
        return s.o(normed(h))

    return Fn(forward, **in_front())


def whitened() -> nn.Module:
    """Features whose covariance is taken out, with an eps on its diagonal."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = s.w(x)
        h = h - h.mean(0)
        values, vectors = torch.linalg.eigh(h.T @ h / len(h) + 1e-5 * torch.eye(4))
        return s.o(torch.tanh(h @ (vectors @ torch.diag(values.rsqrt()) @ vectors.T)))

    return Fn(forward, w=lin(6, 4), o=nn.Linear(4, 3))


def orthogonalised() -> nn.Module:
    """A weight made orthogonal by the iteration of Muon, in half precision."""

    def forward(s: Any, x: Tensor) -> Tensor:
        y = s.w.bfloat16() / (s.w.norm() + 1e-7)
        for _ in range(5):
            a = y @ y.T
            y = 3.4445 * y + (-4.7750 * a + 2.0315 * a @ a) @ y
        return s.o(torch.tanh(x @ y.T.to(x.dtype)))

    return Fn(forward, w=nn.Parameter(torch.randn(6, 6)), o=nn.Linear(6, 3))


# -- gradient and function ---------------------------------------------------------------------------------------------


def bit_linear() -> nn.Module:
    """Weights of -1, 0 and 1 times their mean size, straight through (BitNet b1.58)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        scale = 1.0 / s.w.abs().mean().clamp(min=1e-5)
        quantised = (s.w * scale).round().clamp(-1, 1) / scale
        return s.o(torch.relu(functional.linear(x, s.w + (quantised - s.w).detach())).square())

    return Fn(forward, w=nn.Parameter(torch.randn(8, 6)), o=nn.Linear(8, 3))


def hard_choice() -> nn.Module:
    return Fn(
        lambda s, x: s.o(torch.tanh(functional.gumbel_softmax(s.w(x), hard=True) @ s.book)),
        w=nn.Linear(6, 5), book=nn.Parameter(torch.randn(5, 8)), o=nn.Linear(8, 3),
    )  # fmt: skip


def slowed_branch() -> nn.Module:
    """One of two branches gets a tenth of the gradient (LSQ's grad_scale)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        h = torch.relu(s.w(x))
        return torch.cat([s.c(h), s.d((h - 0.1 * h).detach() + 0.1 * h)], 1)

    return Fn(forward, w=lin(6, 8), c=lin(8, 2), d=lin(8, 2))


def detached_length() -> nn.Module:
    return Fn(
        lambda s, x: s.o(torch.tanh(functional.linear(x, s.w / s.w.norm().detach()))),
        w=nn.Parameter(torch.randn(8, 6)),
        o=nn.Linear(8, 3),
    )


def slow_teacher() -> nn.Module:
    """A student and a teacher without a gradient (BYOL)."""

    def forward(s: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            target = functional.normalize(s.t(x), dim=-1)
        return functional.normalize(s.o(torch.relu(normed(s.w(x)))), dim=-1), target

    return Fn(forward, w=lin(6, 8), o=lin(8, 4), t=nn.Linear(6, 4))


# -- slices, exponents -------------------------------------------------------------------------------------------------


def adapter() -> nn.Module:
    """A frozen matrix and a low-rank update whose second factor begins at zero (LoRA)."""

    class Lora(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 8)
            self.weight.requires_grad_(False)
            self.a, self.b = nn.Parameter(torch.randn(2, 6)), nn.Parameter(torch.zeros(8, 2))

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + (functional.dropout(x, 0.1, self.training) @ self.a.T @ self.b.T) * 4.0

    return Fn(lambda s, x: s.o(torch.tanh(s.w(x))), w=Lora(), o=nn.Linear(8, 3))


def cosine_attention() -> nn.Module:
    """Attention by cosines with a learned temperature (Swin V2)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        q, k, v = (m(x).unflatten(-1, (2, 4)).transpose(1, 2) for m in (s.q, s.k, s.v))
        logits = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        logits = logits * torch.clamp(s.logit_scale, max=math.log(100.0)).exp()
        h = (torch.softmax(logits, -1) @ v).transpose(1, 2).flatten(2)
        return s.head(torch.tanh(s.o(h)).mean(1))

    return Fn(
        forward, q=lin(6, 8), k=lin(6, 8), v=lin(6, 8), o=lin(8, 8), head=nn.Linear(8, 3),
        logit_scale=nn.Parameter(torch.log(10 * torch.ones((2, 1, 1)))),
    )  # fmt: skip


def two_towers() -> nn.Module:
    """Image and text, compared by cosines (SigLIP)."""

    def forward(s: Any, x: Tensor, ids: Tensor) -> dict[str, Tensor]:
        image, text = s.a(x), s.b(s.e(ids).mean(1))
        image, text = (t / t.norm(p=2, dim=-1, keepdim=True) for t in (image, text))
        logits = text @ image.t() * s.t.exp() + s.shift
        return {"logits_per_image": logits.t(), "logits_per_text": logits, "image_embeds": image}

    return Fn(
        forward, a=lin(6, 8), b=lin(5, 8), e=nn.Embedding(12, 5), t=nn.Parameter(torch.tensor(2.0)),
        shift=nn.Parameter(torch.tensor(-10.0)),
    )  # fmt: skip


def dynamic_tanh() -> nn.Module:
    return Fn(
        lambda s, x: s.o(s.gain * torch.tanh(s.alpha * s.w(x)) + s.shift), w=lin(6, 8), alpha=nn.Parameter(torch.ones(1) * 0.5),
        gain=nn.Parameter(torch.ones(8)), shift=nn.Parameter(torch.zeros(8)), o=nn.Linear(8, 3),
    )  # fmt: skip


def cholesky_factor() -> nn.Module:
    """Noise whose covariance is a parameter: it must stay positive definite."""
    return Fn(
        lambda s, x: s.o(normed(s.w(x))) @ torch.linalg.cholesky(s.cov).T, w=lin(6, 8), o=nn.Linear(8, 3),
        cov=nn.Parameter(0.1 * torch.eye(3) + 0.07),
    )  # fmt: skip


# -- forms of code -----------------------------------------------------------------------------------------------------


def inputs_in_place(what: str) -> nn.Module:
    """The forward changes what it is given."""

    def forward(s: Any, x: Any) -> Tensor:
        if what == "dict":
            return s.o(normed(s.w(x.pop("x"))))
        if what == "list":
            return s.o(normed(s.w(x.pop(0))))
        return s.o(normed(s.w(x.sub_(s.mean).div_(s.std))))

    model = Fn(forward, **in_front())
    model.register_buffer("mean", torch.full((6,), 0.4))
    model.register_buffer("std", torch.full((6,), 0.2))
    return model


@functools.lru_cache(maxsize=8)
def sinusoid(length: int) -> Tensor:
    angles = torch.arange(length)[:, None] / 10 ** torch.linspace(0, 2, 8)
    return torch.sin(angles)


def second_derivative() -> nn.Module:
    """A network of a differential equation: u and u_xx.

    The norm is written out: the third derivative of torch's own layer norm is wrong (the doctor says so).
    """

    def forward(s: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            h = s.a(x)
            h = (h - h.mean(-1, keepdim=True)) / torch.sqrt(h.var(-1, keepdim=True) + 1e-5)
            u = s.b(torch.tanh(h))
            (first,) = torch.autograd.grad(u.sum(), x, create_graph=True)
            (second,) = torch.autograd.grad(first[:, 0].sum(), x, create_graph=True)
        return u, second[:, :1]

    return Fn(forward, a=lin(3, 8), b=nn.Linear(8, 1))


def residual(s: Any, x: Tensor) -> Tensor:
    """A network and its slope along the inputs, which the caller made for derivatives."""
    u = s.b(torch.tanh(s.a(x)))
    return torch.cat([u, *torch.autograd.grad(u.sum(), x, create_graph=True)], 1)


def momentum_encoder() -> nn.Module:
    """The forward moves the key encoder towards the query encoder (MoCo)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        with torch.no_grad():
            for q, k in zip(s.q.parameters(), s.k.parameters()):
                k.data = k.data * 0.9 + q.data * 0.1
            key = functional.normalize(s.k(x), dim=1)
        return torch.einsum("nc,nc->n", functional.normalize(s.q(x), dim=1), key) / 0.07

    model = Fn(forward, q=lin(6, 8), k=lin(6, 8))
    model.k.requires_grad_(False)
    return model


def fixed_point() -> nn.Module:
    """A layer that is repeated until nothing changes (deep equilibrium)."""

    def forward(s: Any, x: Tensor) -> Tensor:
        z, u = torch.zeros(len(x), 8, dtype=s.o.weight.dtype), s.u(x)
        for _ in range(50):
            before, z = z, torch.tanh(normed(0.5 * s.w(z) + u))
            if float((z - before).norm()) < 1e-3:
                break
        return s.o(z)

    return Fn(forward, w=lin(8, 8), u=lin(6, 8), o=nn.Linear(8, 3))


def polar(s: Any, x: Tensor) -> Tensor:
    """Weights as lengths and angles, in single precision whatever the rest is in."""
    z = torch.polar(s.r.abs(), s.t).to(torch.cfloat)
    return s.o(normed((x.to(torch.cfloat) @ z).abs()))


def ragged() -> Tensor:
    """Two samples of unequal length."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interface calls itself new
        return torch.nested.nested_tensor([normal(3, 6), normal(5, 6)])


def in_autocast() -> nn.Module:
    def forward(s: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            h = s.w(x)
        return s.o(normed(h.float()))

    return Fn(forward, **in_front())


class Auxiliary(NamedTuple):
    logits: Tensor
    aux_logits: Tensor


_HEAD: dict[str, Any] = {"single": ("w.weight",), "fixed": ("o.weight", "o.bias")}
_STREAM: dict[str, Any] = {
    "joint": (("i.weight", *(f"b.{k}.weight" for k in range(4))),),
    "fixed": ("o.weight", "o.bias"),
}

PRACTICE = [
    # random depth
    Case("branches times a coin", built(lambda: stochastic_depth(False), X), "torchvision's stochastic depth by batch", **_STREAM),
    Case("progressive layer dropping", built(lambda: stochastic_depth(True), X), "by a counter and Python's generator", **_STREAM),
    Case("mixture of depths", built(mixture_of_depths, normal(4, 5, 6)), "the router chooses and weighs; the block writes into the stream", joint=(("i.weight", "b.weight"),), fixed=("r.weight", "r.bias", "o.weight", "o.bias")),
    Case("teacher forcing", built(teacher_forcing, tokens(12, 5, 5)), "each row of the table in front of a norm", single=("e.weight",), row=("e.weight",), fixed=(*(f"r.{n}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")), "o.weight", "o.bias")),
    # eps
    Case("cosines to prototypes", built(prototypes, X), "both sides of a cosine", single=("a.weight", "p"), row=("p",), row_dim={"p": 0}, fixed=("t",)),
    Case("relative distances", built(distances, X), "the distance grows as both do; torch adds an eps to the difference", joint=(("a.weight", "p"),), fixed=("o.weight", "o.bias")),
    Case("the convolution of NFNets", built(lambda: Fn(lambda s, x: s.o(torch.relu(s.w(x)).mean((2, 3))), w=ScaledStdConv(), o=nn.Linear(8, 3)), normal(6, 3, 6, 6)),
         "a gain per filter trades with the head", single=("w.weight",), row=("w.weight",), rescaling=({"w.gain": 1, "o.weight": -1},), fixed=("o.bias",)),
    Case("fast normalised fusion", built(fused_features, X), "shares of a sum, eps outside", single=("f",), fixed=("a.weight", "a.bias", "b.weight", "b.bias", "o.weight", "o.bias")),
    Case("global response normalisation", built(lambda: Fn(lambda s, x: s.o(s.n(torch.relu(s.w(x)))).mean((1, 2)), w=lin(3, 8), n=GRN(8), o=nn.Linear(8, 3)), normal(6, 4, 4, 3)),
         "x times a ratio: of the first degree, with the shift", rescaling=({"w.weight": 1, "n.beta": 1, "o.weight": -1},), fixed=("n.gamma", "o.bias")),
    Case("a modulated convolution", built(modulated_convolution, normal(3, 4, 5, 5), normal(3, 5)), "filters free, the style free with its bias", single=("w",), row=("w",), row_dim={"w": 0}, joint=(("style.weight", "style.bias"),), fixed=("bias", "strength", "o.weight", "o.bias")),
    Case("an angular margin", built(arc_face, X, tokens(4, 9)), "cosines alone count; the clamp is of the cosine", single=("w.weight", "c"), row=("c",), row_dim={"c": 0}),
    Case("generalised-mean pooling", built(pooled, normal(4, 3, 6, 6)), "of the first degree, in front of a norm, but for a bound of 1e-6 that no norm owns and that shows as w shrinks", verdict="undecided", single=("w.weight",), fixed=("p", "o.weight", "o.bias")),
    Case("a whitening", built(whitened, normal(20, 6)), "an eps on a diagonal cannot be taken out: nearly free, and said so", verdict="undecided", fixed=("w.weight", "o.weight", "o.bias")),
    Case("an orthogonalised weight", built(orthogonalised, X), "divided by its length first", single=("w",), fixed=("o.weight", "o.bias")),
    _one("a log behind a norm", lambda: Fn(lambda s, x: torch.log(torch.softmax(s.o((lambda h: h / (h.std(-1, keepdim=True) + 1e-5))(s.w(x))), -1) + 1e-9), **in_front()), "two constants, one of them in a norm"),
    # statistics that are held
    Case("a norm left in eval", built(lambda: frozen_norm("eval"), normal(4, 3, 6, 6)), "a train() of its own keeps it there: a fixed affine map", rescaling=({"n.weight": 1, "n.bias": 1, "o.weight": -1},), fixed=("w.weight", "o.bias")),
    Case("FrozenBatchNorm2d", built(lambda: frozen_norm("buffers"), normal(4, 3, 6, 6)), "all of it buffers", fixed=("w.weight", "o.weight", "o.bias")),
    Case("one layer three times", built(same_layer_again, X), "the stream has a size of its own", single=("i.weight",), fixed=("w.weight", "o.weight", "o.bias")),
    Case("an orthogonal layer", built(orthogonal_layer, X), "the Cayley map of a matrix has a scale", fixed=("w.parametrizations.weight.original", "o.weight", "o.bias")),
    Case("spectral norm by a hook", built(lambda: Fn(lambda s, x: s.o(torch.tanh(s.w(x))), w=nn.utils.spectral_norm(lin(6, 8)), o=nn.Linear(8, 3)), X), "torch.nn.utils.spectral_norm", single=("w.weight_orig",), fixed=("o.weight", "o.bias")),
    # inputs
    Case("packed sequences", built(packed, tokens(12, 4, 5), torch.tensor([5, 3, 2, 1])), "lengths on the side, a padding row", single=("e.weight",), row=("e.weight",),
         fixed=(*(f"r.{n}_l0" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")), "o.weight", "o.bias")),
    Case("two experts of four, with a capacity", built(routed, X), "up and down of an expert trade", rescaling=({"up": 1, "down": -1},), fixed=("r.weight", "r.bias", "o.weight", "o.bias")),
    Case("a norm by class", built(conditional_norm, X, torch.zeros(9, dtype=torch.long)), "all samples are of one class: the tables trade with the head", single=("w.weight",), row=("w.weight",), rescaling=({"g.weight": 1, "b.weight": 1, "o.weight": -1},), fixed=("o.bias",)),
    Case("inputs of zeros", built(batch_normed, torch.zeros(9, 6)), "torch.zeros says nothing about the first layer: other numbers are drawn", **_BATCH_NORMED),
    Case("inputs of ones", built(batch_normed, torch.ones(9, 6)), "equal samples have no variance", **_BATCH_NORMED),
    Case("tokens of one kind", built(lambda: Fn(lambda s, i: s.o(torch.relu(s.n(s.e(i).mean(1)))), e=nn.Embedding(12, 8), n=nn.BatchNorm1d(8), o=nn.Linear(8, 3)), torch.ones(9, 4, dtype=torch.long)),
         "torch.ones as tokens: one row, and no variance", single=("e.weight",), row=("e.weight",), row_dim={"e.weight": 1}, rescaling=({"n.weight": 1, "n.bias": 1, "o.weight": -1},), fixed=("o.bias",)),
    Case("a context of zeros", built(cross_attention, normal(2, 7, 6), torch.zeros(2, 3, 5)), "what reads it is not dead: other numbers are tried as well", joint=(("i.weight", "p.weight"),), rescaling=({"q.weight": 1, "k.weight": -1}, {"v.weight": 1, "p.weight": -1}), fixed=("o.weight", "o.bias")),
    Case("a limit of its own", built(lambda: guarded(1e3), X), "the forward refuses weights that are far larger: nothing is tested there", verdict="undecided", **_HEAD),
    # gradient and function
    Case("weights of three values", built(bit_linear, X), "the function trades w (of degree 2 behind the square) with o, its gradient does not", verdict="undecided", fixed=("w", "o.weight", "o.bias")),
    Case("a hard choice", built(hard_choice, X), "the function counts by its choice, its gradient is that of a soft one", verdict="undecided", fixed=("w.weight", "w.bias", "book", "o.weight", "o.bias")),
    Case("a branch with a tenth of the gradient", built(slowed_branch, X), "w up, c and d down keeps the outputs, which the gradient does not show", verdict="undecided", rescaling=({"w.weight": 10, "c.weight": -10, "d.weight": -1},)),
    Case("a detached length of weights", built(detached_length, X), "the function has no scale, its gradient has", verdict="undecided", fixed=("w", "o.weight", "o.bias")),
    Case("a teacher without a gradient", built(slow_teacher, X), "the student's answer stays clear", single=("w.weight", "o.weight"), unreached=("t.weight", "t.bias")),
    # slices, exponents
    Case("a low-rank update", built(adapter, X), "b begins at zero and hides a", rescaling=({"w.a": 1, "w.b": -1},), fixed=("w.weight", "w.bias", "o.weight", "o.bias")),
    Case("attention by cosines", built(cosine_attention, normal(4, 5, 6)), "q and k free, v against o", single=("q.weight", "k.weight"), rescaling=({"v.weight": 1, "o.weight": -1},), fixed=("logit_scale", "head.weight", "head.bias")),
    Case("two towers", built(two_towers, X, tokens(12, 9, 4)), "three outputs, of which the logits count", single=("a.weight", "b.weight", "e.weight"), fixed=("t", "shift")),
    Case("a squared rectifier and a line", built(lambda: Fn(lambda s, x: s.o(normed(torch.relu(s.w(x)).square() + s.v(x))), v=lin(6, 8), **in_front()), X), "v goes as w^2", weighted=({"w.weight": 1, "v.weight": 2},), fixed=("o.weight", "o.bias")),
    Case("dynamic tanh", built(dynamic_tanh, X), "two pairs around a tanh", rescaling=({"w.weight": 1, "alpha": -1}, {"gain": 1, "shift": 1, "o.weight": -1}), fixed=("o.bias",)),
    Case("a covariance", built(cholesky_factor, X), "its factor goes as its root, {o 1, cov -2}; the function reads a triangle, the gradient is a symmetric matrix's", verdict="undecided", single=("w.weight",), fixed=("o.weight", "o.bias", "cov")),
    # forms of code
    _one("an input changed in place", lambda: inputs_in_place("tensor"), "x.sub_(mean).div_(std)"),
    Case("an input popped from a dict", lambda: (built(lambda: inputs_in_place("dict"))()[0], ({"x": X},)), "a batch that is used up", **_HEAD),
    Case("an input popped from a list", lambda: (built(lambda: inputs_in_place("list"))()[0], ([X],)), "a batch that is used up", **_HEAD),
    _one("a table kept by lru_cache", lambda: Fn(lambda s, x: s.o(torch.tanh(normed(s.w(x)) + sinusoid(len(x)))), **in_front()), "made in the precision of the first call"),
    Case("a second derivative", built(second_derivative, normal(9, 3)), "the norm's derivatives are as free as it is", single=("a.weight",), fixed=("b.weight", "b.bias")),
    Case("a slope along the inputs", built(lambda: Fn(residual, a=nn.Linear(3, 8), b=nn.Linear(8, 1)), normal(9, 3).requires_grad_()), "the input requires a gradient", fixed=("a.weight", "a.bias", "b.weight", "b.bias")),
    Case("a momentum encoder", built(momentum_encoder, X), "the keys' weights are a mean of both: free together", joint=(("q.weight", "k.weight"),)),
    Case("a fixed point", built(fixed_point, X), "both go into one norm", joint=(("w.weight", "u.weight"),), fixed=("o.weight", "o.bias")),
    Case("a graph of torch.fx", built(lambda: torch.fx.symbolic_trace(nn.Sequential(lin(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))), X), "a GraphModule",
         single=("0.weight",), rescaling=({"1.weight": 1, "1.bias": 1, "3.weight": -1},), fixed=("3.bias",)),
    Case("a loss alone", built(lambda: Fn(lambda s, x, y: functional.cross_entropy(s.net(x), y), net=nn.Sequential(lin(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 3))), X, tokens(3, 9)),
         "one number, looked at in many places", single=("net.0.weight",), rescaling=({"net.1.weight": 1, "net.1.bias": 1, "net.3.weight": -1},), fixed=("net.3.bias",)),
    Case("lengths and angles", built(lambda: Fn(polar, r=nn.Parameter(torch.rand(6, 8) + 0.5), t=nn.Parameter(torch.rand(6, 8)), o=nn.Linear(8, 3)), X), "complex numbers of single precision", single=("r",), fixed=("t", "o.weight", "o.bias")),
    _one("samples of unequal length", lambda: Fn(lambda s, x: s.o(normed(s.w(torch.nested.to_padded_tensor(x, 0.0)))), **in_front()), "a nested tensor", ragged()),
    Case("a batch with names", lambda: (built(lambda: Fn(lambda s, b: s.o(normed(s.w(b.logits))), **in_front()))()[0], (Auxiliary(X, X),)), "a named tuple as the input", **_HEAD),
    _one("a part under autocast", in_autocast, "in half precision, whatever the rest is in"),
    Case("logits of two heads", built(lambda: Fn(lambda s, x: (lambda h: Auxiliary(s.o(h), s.c(h)))(normed(s.w(x))), c=nn.Linear(8, 2), **in_front()), X), "a tuple with names", single=("w.weight",), fixed=("o.weight", "o.bias", "c.weight", "c.bias")),
    Case("losses by name", built(lambda: Fn(lambda s, x: {"loss_classifier": s.o(normed(s.w(x))).square().mean(), "loss_box": s.c(normed(s.w(x))).abs().mean()}, c=nn.Linear(8, 2), **in_front()), X),
         "a dict of losses, as detection gives in training", single=("w.weight",), fixed=("o.weight", "o.bias", "c.weight", "c.bias")),
]  # fmt: skip
