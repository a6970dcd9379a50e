# ruff: noqa: E501  (a table)
"""Models with the symmetries they must have, derived by hand; each reason stands beside the case.

A case gives every group of the answer. ``build`` returns (model, inputs). Names are those of ``named_parameters()``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.lab.models import build_model

Names = tuple[str, ...]


@dataclass(frozen=True)
class Case:
    """Expected groups of a model; ``reason`` says why."""

    name: str
    build: Callable[[], tuple[nn.Module, Any]]
    reason: str
    single: Names = ()
    row: Names = ()
    joint: tuple[Names, ...] = ()
    rescaling: tuple[dict[str, int], ...] = ()
    dead: Names = ()
    fixed: Names = ()
    partial: tuple[tuple[str, int, tuple[tuple[int, int], ...]], ...] = ()
    names: Names = field(default=(), repr=False)
    weighted: tuple[dict[str, int], ...] = ()
    unreached: Names = ()
    row_dim: dict[str, int] | None = None
    verdict: str = "clear"


def _seeded(build: Callable[[], nn.Module], *inputs: Any) -> Callable[[], tuple[nn.Module, Any]]:
    def make() -> tuple[nn.Module, Any]:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            return build(), tuple(x() if callable(x) else x for x in inputs)

    return make


def _ours(name: str, variant: str, shape: tuple[int, ...]) -> Callable[[], tuple[nn.Module, Any]]:
    def make() -> tuple[nn.Module, Any]:
        generator = torch.Generator().manual_seed(0)
        model = build_model(name, classes=10, variant=variant, in_shape=shape, width=8, generator=generator)
        return model, torch.randn(12, *shape, generator=generator)

    return make


def normal(*shape: int) -> Tensor:
    """Standard normal numbers, always the same."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7))


def tokens(high: int, *shape: int) -> Tensor:
    """Whole numbers below ``high``, always the same."""
    return torch.randint(high, shape, generator=torch.Generator().manual_seed(7))


# -- networks --------------------------------------------------------------------------------------------------------


def bn_mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(),
        nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3),
    )  # fmt: skip


def ln_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3))


def gn_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.GroupNorm(4, 8, affine=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 3)
    )


def in_net() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.InstanceNorm2d(8, affine=True), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.InstanceNorm2d(4),
        nn.ReLU(), nn.Flatten(), nn.Linear(4 * 16, 3),
    )  # fmt: skip


class RMSNet(nn.Module):
    """RMS normalization written out, with its eps inside the arithmetic of a module attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.gain = nn.Parameter(torch.ones(8))
        self.last = nn.Linear(8, 3)
        self.variance_epsilon = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = h * torch.rsqrt(h.float().square().mean(-1, keepdim=True) + self.variance_epsilon).to(x.dtype)
        return self.last(functional.silu(h * self.gain))


class HiddenEps(nn.Module):
    """A batch norm written by hand: eps is a literal, no attribute and no argument holds it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        h = (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt()
        return self.last(functional.relu(h))


def weight_norm_net() -> nn.Module:
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(norm(nn.Linear(6, 8)), nn.ReLU(), norm(nn.Linear(8, 3)))


class PostBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, zero: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        if zero:
            nn.init.zeros_(self.bn2.weight)
        self.downsample = None
        if stride > 1:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        skip = x if self.downsample is None else self.downsample(x)
        return functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x))))) + skip)


class PostResNet(nn.Module):
    def __init__(self, zero: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(4)
        self.block1 = PostBlock(4, 4, 1, zero)
        self.block2 = PostBlock(4, 8, 2, zero)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.block2(self.block1(functional.relu(self.bn(self.conv(x))))).mean((2, 3)))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, bias: bool, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=bias) for _ in range(4))
        self.qk_norm = qk_norm

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        if self.qk_norm:
            q, k = (functional.rms_norm(t, (t.shape[-1],), eps=1e-6) for t in (q, k))
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.o(y.transpose(1, 2).flatten(2))


class PreNormBlock(nn.Module):
    def __init__(self, width: int, bias: bool, qk_norm: bool) -> None:
        super().__init__()
        self.ln1 = nn.LayerNorm(width, bias=bias)
        self.att = Attention(width, 2, bias, qk_norm)
        self.ln2 = nn.LayerNorm(width, bias=bias)
        self.up = nn.Linear(width, 2 * width, bias=bias)
        self.down = nn.Linear(2 * width, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.att(self.ln1(x))
        return x + self.down(functional.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    """A pre-norm transformer of two blocks with dropout; dict inputs, dict outputs."""

    def __init__(self, bias: bool = True, qk_norm: bool = False, tied: bool = False) -> None:
        super().__init__()
        self.tok = nn.Embedding(11, 8)
        self.pos = nn.Parameter(0.1 * torch.randn(6, 8))
        self.drop = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(PreNormBlock(8, bias, qk_norm) for _ in range(2))
        self.ln = nn.LayerNorm(8, bias=bias)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.tok.weight

    def forward(self, ids: Tensor, shift: Tensor | None = None) -> dict[str, Any]:
        x = self.drop(self.tok(ids) + self.pos)
        for block in self.blocks:
            x = block(x)
        return {"logits": self.head(self.ln(x)), "loss": None, "past_key_values": (x,)}


class FusedAttention(nn.Module):
    """A qkv in one matrix, q and k normalised head by head."""

    def __init__(self, second: bool = False) -> None:
        super().__init__()
        self.second = second
        if second:  # the layout of GPT-2's Conv1D: inputs first
            self.qkv = nn.Parameter(torch.randn(8, 24) / 3)
        else:
            self.qkv = nn.Parameter(torch.randn(24, 8) / 3)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x @ self.qkv if self.second else functional.linear(x, self.qkv)
        q, k, v = y.unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        q, k = functional.layer_norm(q, (4,)), functional.layer_norm(k, (4,))
        return self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class NGPT(nn.Module):
    """Hidden states and matrices are put on the unit sphere wherever they are used."""

    def __init__(self) -> None:
        super().__init__()
        self.tok = nn.Parameter(torch.randn(11, 8))
        self.up = nn.Parameter(torch.randn(16, 8))
        self.down = nn.Parameter(torch.randn(8, 16))
        self.alpha = nn.Parameter(torch.full((8,), 0.3))
        self.scale = nn.Parameter(torch.ones(16))
        self.head = nn.Parameter(torch.randn(11, 8))
        self.temperature = nn.Parameter(torch.ones(11))

    def forward(self, ids: Tensor) -> Tensor:
        unit = functional.normalize
        x = functional.embedding(ids, unit(self.tok, dim=-1))
        y = functional.linear(
            functional.silu(functional.linear(x, unit(self.up, dim=-1)) * self.scale), unit(self.down)
        )
        x = unit(x + self.alpha * (unit(y, dim=-1) - x), dim=-1)
        return functional.linear(x, unit(self.head, dim=-1)) * self.temperature


def separable() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6, affine=False), nn.ReLU6(),
        nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


class LSTMNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 6, bias=False)
        self.norm = nn.LayerNorm(6)
        self.lstm = nn.LSTM(6, 7, batch_first=True)
        self.last_norm = nn.LayerNorm(7, elementwise_affine=False)
        self.head = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.norm(self.first(x)))
        return self.head(self.last_norm(states))


def relu_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def no_symmetry() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


class ReZero(nn.Module):
    """A residual branch that starts at zero: nothing inside it acts until its gain moves."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8, bias=False)
        self.inner = nn.Linear(8, 8, bias=False)
        self.norm = nn.BatchNorm1d(8, affine=False)
        self.gain = nn.Parameter(torch.zeros(()))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.stem(x))
        return self.head(h + self.gain * self.norm(self.inner(h)))


class TwoInputs(nn.Module):
    """A tuple of outputs from a float and an integer input; one module used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.shared = nn.Linear(6, 6, bias=False)
        self.norm = nn.LayerNorm(6, elementwise_affine=False)
        self.head = nn.Linear(6, 2)
        self.side = nn.Linear(6, 2)

    def forward(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        h = self.norm(self.shared(x))
        h = self.norm(self.shared(h)) + functional.normalize(self.table(ids), dim=-1)
        return self.head(h), self.side(torch.sigmoid(h))


# -- the table -------------------------------------------------------------------------------------------------------

_CONVS = tuple(f"convs.{i}.weight" for i in range(4))
_LAYERS = tuple(f"layers.{i}.weight" for i in range(3))
_FIRST = tuple(f"stages.{s}.{b}.conv1.weight" for s in range(4) for b in range(2))
_STREAMS = tuple(
    (entry, f"stages.{s}.0.conv2.weight", f"stages.{s}.1.conv2.weight")
    for s, entry in enumerate(["stem.weight"] + [f"stages.{s}.0.shortcut.1.weight" for s in (1, 2, 3)])
)


def _affine(prefix: str) -> Names:
    return (f"{prefix}.weight", f"{prefix}.bias")


def _pair(prefix: str, reader: str) -> dict[str, int]:
    return {f"{prefix}.weight": 1, f"{prefix}.bias": 1, reader: -1}


def _block(i: int, *, qk_norm: bool = False) -> tuple[dict[str, int], ...]:
    b = f"blocks.{i}"
    read = {f"{b}.att.{x}.weight": -1 for x in ("v" if qk_norm else "qkv")}
    if qk_norm:  # no biases
        return (
            {f"{b}.ln1.weight": 1, **read},
            {f"{b}.att.v.weight": 1, f"{b}.att.o.weight": -1},
            {f"{b}.ln2.weight": 1, f"{b}.up.weight": -1},
        )
    return (
        {f"{b}.ln1.weight": 1, f"{b}.ln1.bias": 1, **read},
        {f"{b}.att.q.weight": 1, f"{b}.att.q.bias": 1, f"{b}.att.k.weight": -1},
        {f"{b}.att.v.weight": 1, f"{b}.att.v.bias": 1, f"{b}.att.o.weight": -1},
        _pair(f"{b}.ln2", f"{b}.up.weight"),
    )


def _stream(bias: bool) -> Names:
    ends = ("weight", "bias") if bias else ("weight",)
    inner = (f"blocks.{i}.{layer}.{end}" for i in range(2) for layer in ("att.o", "down") for end in ends)
    return ("tok.weight", "pos", *inner)


CASES = [
    Case("mlp si", _ours("mlp", "si", (1, 8, 8)), "batch norm follows every hidden layer; per channel, hence per row",
         single=_LAYERS, row=_LAYERS, fixed=("head.weight", "head.bias")),
    Case("mlp standard", _ours("mlp", "standard", (1, 8, 8)),
         "affine pairs pass the ReLU and the next norm removes them; the last pair meets the head",
         single=_LAYERS, row=_LAYERS, joint=(_affine("norms.0"), _affine("norms.1")),
         rescaling=(_pair("norms.2", "head.weight"),), fixed=("head.bias",)),
    Case("convnet si", _ours("convnet", "si", (3, 16, 16)), "as the MLP", single=_CONVS, row=_CONVS,
         fixed=("head.weight", "head.bias")),
    Case("convnet standard", _ours("convnet", "standard", (3, 16, 16)), "as the MLP; max-pool is homogeneous",
         single=_CONVS, row=_CONVS, joint=tuple(_affine(f"norms.{i}") for i in range(3)),
         rescaling=(_pair("norms.3", "head.weight"),), fixed=("head.bias",)),
    Case("resnet18 si", _ours("resnet18", "si", (3, 16, 16)),
         "first convs are followed by a norm; what adds up into one stream has one scale; norms read every stream",
         single=_FIRST, row=_FIRST, joint=_STREAMS, fixed=("head.weight",)),
    Case("resnet18 standard", _ours("resnet18", "standard", (3, 16, 16)),
         "as si; norm1 feeds conv1 -> norm2 only (joint), or also the shortcut's norm (joint still); norm2 feeds conv2, which "
         "writes into a stream (pair); the shortcut's norm feeds its 1x1 conv; its bias is a constant per channel of the stream, "
         "since a 1x1 conv has no border, and every reader of the stream is a batch norm (dead)",
         single=_FIRST, row=_FIRST,
         joint=(*_STREAMS, *(_affine(f"stages.{s}.{b}.norm1") for s in range(4) for b in range(2))),
         rescaling=(
             *(_pair(f"stages.{s}.{b}.norm2", f"stages.{s}.{b}.conv2.weight") for s in range(4) for b in range(2)),
             *({f"stages.{s}.0.shortcut.0.weight": 1, f"stages.{s}.0.shortcut.1.weight": -1} for s in (1, 2, 3)),
             _pair("norm", "head.weight"),
         ),
         dead=tuple(f"stages.{s}.0.shortcut.0.bias" for s in (1, 2, 3))),
    Case("batch norm", _seeded(bn_mlp, normal(10, 6)), "a bias before batch norm is dead",
         single=("0.weight", "3.weight"), row=("0.weight", "3.weight"), dead=("0.bias", "3.bias"),
         rescaling=({"4.weight": 1, "4.bias": 1, "6.weight": -1},), fixed=("6.bias",)),
    Case("layer norm", _seeded(ln_mlp, normal(10, 6)),
         "a bias before layer norm acts and scales along; tanh lets no scale of the affine pair pass",
         joint=(("0.weight", "0.bias"),), fixed=("1.weight", "1.bias", "3.weight", "3.bias")),
    Case("group norm", _seeded(gn_net, normal(4, 3, 8, 8)), "two rows share a group, so no row is free by itself",
         single=("0.weight",), fixed=("4.weight", "4.bias")),
    Case("instance norm", _seeded(in_net, normal(4, 3, 8, 8)),
         "per channel; a bias before it is dead; the affine pair passes ReLU into the next instance norm",
         single=("0.weight", "3.weight"), row=("0.weight", "3.weight"), dead=("0.bias", "3.bias"),
         joint=(("1.weight", "1.bias"),), fixed=("7.weight", "7.bias")),
    Case("rms norm written out", _seeded(RMSNet, normal(10, 6)), "RMS norm over features: the matrix, not its rows; "
         "a cast to float32 and an eps under another name must not hide it",
         single=("first.weight",), fixed=("gain", "last.weight", "last.bias")),
    Case("eps written by hand", _seeded(HiddenEps, normal(10, 6)), "a batch norm whose eps no one can set",
         single=("first.weight",), row=("first.weight",), fixed=("last.weight", "last.bias")),
    Case("weight norm", _seeded(weight_norm_net, normal(10, 6)),
         "v / |v| row by row; the gain g and the bias pass ReLU, the next gain undoes them",
         single=tuple(f"{i}.parametrizations.weight.original1" for i in (0, 2)),
         row=tuple(f"{i}.parametrizations.weight.original1" for i in (0, 2)),
         rescaling=({"0.parametrizations.weight.original0": 1, "0.bias": 1, "2.parametrizations.weight.original0": -1},),
         fixed=("2.bias",)),
    Case("post-activation resnet", _seeded(PostResNet, normal(6, 3, 8, 8)),
         "every conv has its own norm; the affine pairs that write into one stream scale together: stage one is read by "
         "norms only (joint), stage two by the head",
         single=("conv.weight", "block1.conv1.weight", "block1.conv2.weight", "block2.conv1.weight", "block2.conv2.weight",
                 "block2.downsample.0.weight"),
         row=("conv.weight", "block1.conv1.weight", "block1.conv2.weight", "block2.conv1.weight", "block2.conv2.weight",
              "block2.downsample.0.weight"),
         joint=(_affine("block1.bn1"), _affine("block2.bn1"), (*_affine("bn"), *_affine("block1.bn2"))),
         rescaling=({"block2.downsample.1.weight": 1, "block2.downsample.1.bias": 1, "block2.bn2.weight": 1,
                     "block2.bn2.bias": 1, "fc.weight": -1},),
         fixed=("fc.bias",)),
    Case("zero-initialised gains", _seeded(lambda: PostResNet(zero=True), normal(6, 3, 8, 8)),
         "the same net at a special point: bn2.weight = 0 hides conv1 and conv2 until it is moved",
         single=("conv.weight", "block1.conv1.weight", "block1.conv2.weight", "block2.conv1.weight", "block2.conv2.weight",
                 "block2.downsample.0.weight"),
         row=("conv.weight", "block1.conv1.weight", "block1.conv2.weight", "block2.conv1.weight", "block2.conv2.weight",
              "block2.downsample.0.weight"),
         joint=(_affine("block1.bn1"), _affine("block2.bn1"), (*_affine("bn"), *_affine("block1.bn2"))),
         rescaling=({"block2.downsample.1.weight": 1, "block2.downsample.1.bias": 1, "block2.bn2.weight": 1,
                     "block2.bn2.bias": 1, "fc.weight": -1},),
         fixed=("fc.bias",)),
    Case("rezero", _seeded(ReZero, normal(10, 6)), "a scalar gain of zero; inner has no scale, the gain has",
         single=("inner.weight",), row=("inner.weight",), fixed=("stem.weight", "gain", "head.weight", "head.bias")),
    Case("pre-norm transformer", _seeded(Transformer, tokens(11, 3, 6)),
         "all that writes into the stream scales together; q up k down; v up o down; gains against their readers; a bias of k "
         "shifts all logits of a query alike (dead); gelu fixes up.bias",
         joint=(_stream(True),), rescaling=(*_block(0), *_block(1), _pair("ln", "head.weight")),
         dead=("blocks.0.att.k.bias", "blocks.1.att.k.bias"), fixed=("blocks.0.up.bias", "blocks.1.up.bias")),
    Case("transformer with qk-norm", _seeded(lambda: Transformer(bias=False, qk_norm=True), tokens(11, 3, 6)),
         "q and k are normalised head by head: free alone, not row by row",
         single=tuple(f"blocks.{i}.att.{x}.weight" for i in range(2) for x in "qk"), joint=(_stream(False),),
         rescaling=(*_block(0, qk_norm=True), *_block(1, qk_norm=True), {"ln.weight": 1, "head.weight": -1})),
    Case("tied weights", _seeded(lambda: Transformer(bias=False, qk_norm=True, tied=True), tokens(11, 3, 6)),
         "the embedding is the head: the stream can only go up when the last gain goes down",
         single=tuple(f"blocks.{i}.att.{x}.weight" for i in range(2) for x in "qk"),
         rescaling=(*_block(0, qk_norm=True), *_block(1, qk_norm=True),
                    {**dict.fromkeys(_stream(False), 1), "ln.weight": -1})),
    Case("fused qkv with qk-norm", _seeded(FusedAttention, normal(3, 5, 8)),
         "rows 0:16 are q and k of two heads and free, so the whole matrix scales as v does: against out",
         rescaling=({"qkv": 1, "out.weight": -1},), fixed=("out.bias",), partial=(("qkv", 0, ((0, 16),)),)),
    Case("fused qkv, inputs first", _seeded(lambda: FusedAttention(True), normal(3, 5, 8)),
         "the same with the output dimension second", rescaling=({"qkv": 1, "out.weight": -1},), fixed=("out.bias",),
         partial=(("qkv", 1, ((0, 16),)),)),
    Case("nGPT-like", _seeded(NGPT, tokens(11, 4, 9)), "every matrix is normalised row by row where it is used",
         single=("tok", "up", "down", "head"), row=("tok", "up", "down", "head"), fixed=("alpha", "scale", "temperature")),
    Case("depthwise separable", _seeded(separable, normal(6, 3, 10, 10)),
         "nothing stands between the depthwise and the pointwise conv, so both are free; a row of the depthwise one is a "
         "channel that the pointwise conv mixes with others, so its rows are not",
         single=("0.weight", "3.weight", "4.weight"), row=("0.weight", "4.weight"), fixed=("9.weight", "9.bias")),
    Case("LSTM with layer norm", _seeded(LSTMNet, normal(4, 5, 5)),
         "gates saturate, so the LSTM's matrices have a scale; the gain in front of it trades with weight_ih",
         single=("first.weight",), rescaling=({"norm.weight": 1, "norm.bias": 1, "lstm.weight_ih_l0": -1},),
         fixed=("lstm.weight_hh_l0", "lstm.bias_ih_l0", "lstm.bias_hh_l0", "head.weight", "head.bias")),
    Case("plain ReLU", _seeded(relu_mlp, normal(10, 6)), "ReLU pairs: a layer with its bias up, the next matrix down; then the "
         "next layer's own pair",
         rescaling=({"0.weight": 1, "0.bias": 1, "2.weight": -1}, {"2.weight": 1, "2.bias": 1, "4.weight": -1}),
         fixed=("4.bias",)),
    Case("no symmetry", _seeded(no_symmetry, normal(10, 6)), "tanh has a scale",
         fixed=("0.weight", "0.bias", "2.weight", "2.bias")),
    Case("two inputs", _seeded(TwoInputs, normal(8, 6), tokens(9, 8)),
         "the shared layer is normalised at both uses; normalised rows of the table",
         single=("table.weight", "shared.weight"), row=("table.weight",),
         fixed=("head.weight", "head.bias", "side.weight", "side.bias")),
]  # fmt: skip
