"""Models of other libraries, small random configurations, no network; skipped where they are not installed."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from tests.cases import normal, tokens
from tests.timm_alone import load_timm

from scaleinv.symmetry import find_symmetries, make_scale_invariant


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{name} cannot be imported: {error}")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.mark.filterwarnings("ignore")
def test_gpt2() -> None:
    """Tied head: the stream goes up only when the last gain goes down. Fused qkv: no v/o pair of whole tensors."""
    transformers = _load("transformers")
    try:
        config, kind = transformers.GPT2Config, transformers.GPT2LMHeadModel
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"GPT-2 cannot be imported: {error}")
    torch.manual_seed(0)
    model = kind(config(n_layer=2, n_head=2, n_embd=8, vocab_size=17, n_positions=8, bos_token_id=0, eos_token_id=0))
    found = find_symmetries(model, {"input_ids": tokens(17, 3, 8)})
    stream = {"transformer.wte.weight": 1, "transformer.wpe.weight": 1, "transformer.ln_f.weight": -1}
    stream["transformer.ln_f.bias"] = -1
    pairs = []
    for i in range(2):
        h = f"transformer.h.{i}"
        stream |= {f"{h}.{x}.c_proj.{end}": 1 for x in ("attn", "mlp") for end in ("weight", "bias")}
        pairs += [
            {f"{h}.ln_1.weight": 1, f"{h}.ln_1.bias": 1, f"{h}.attn.c_attn.weight": -1},
            {f"{h}.ln_2.weight": 1, f"{h}.ln_2.bias": 1, f"{h}.mlp.c_fc.weight": -1},
        ]
    assert found.verdict == "clear"
    assert {frozenset(r.items()) for r in found.rescaling} == {frozenset(r.items()) for r in [stream, *pairs]}
    assert not found.single
    assert not found.joint
    assert set(found.fixed) == {f"transformer.h.{i}.mlp.c_fc.bias" for i in range(2)}
    for i in range(2):
        h = f"transformer.h.{i}.attn"
        said = {str(trade) for trade in found.sliced if h in str(trade)}
        assert said == {
            f"{h}.c_attn.bias[8:16]",  # dead: a bias of k shifts all logits of a query alike
            f"{h}.c_attn.weight[:, 0:8]^+1, {h}.c_attn.bias[0:8]^+1, {h}.c_attn.weight[:, 8:16]^-1",
            f"{h}.c_attn.weight[:, 16:24]^+1, {h}.c_attn.bias[16:24]^+1, {h}.c_proj.weight^-1",
        }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_timm_resnet18(monkeypatch: pytest.MonkeyPatch) -> None:
    """Post-activation: every convolution is in front of its own batch norm."""
    timm = load_timm(monkeypatch)
    torch.manual_seed(0)
    model, x = timm.create_model("resnet18", num_classes=5), normal(6, 3, 32, 32)
    found = find_symmetries(model, x, defect=False)
    convs = {n for n, p in model.named_parameters() if p.dim() == 4}
    assert found.verdict == "clear"
    assert set(found.single) == convs == set(found.row)
    assert make_scale_invariant(model, x).conversion.complete


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_timm_convnext(monkeypatch: pytest.MonkeyPatch) -> None:
    """A depthwise conv with bias in front of a layer norm is scale-invariant with its bias."""
    timm = load_timm(monkeypatch)
    torch.manual_seed(0)
    model = timm.create_model("convnext_atto", num_classes=5, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
    found = find_symmetries(model, normal(2, 3, 64, 64), defect=False)
    assert found.verdict == "clear"
    assert all(
        (f"stages.{i}.blocks.0.conv_dw.weight", f"stages.{i}.blocks.0.conv_dw.bias") in found.joint for i in range(4)
    )


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_timm_vit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pre-norm: one joint group of patch embedding, class token, positions and residual outputs; no single matrix."""
    timm = load_timm(monkeypatch)
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, depth=2, embed_dim=12, num_heads=3, img_size=32)
    found = find_symmetries(model, normal(3, 3, 32, 32), defect=False)
    assert found.verdict == "clear"
    assert not found.single
    stream = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    stream |= {f"blocks.{i}.{x}.{e}" for i in range(2) for x in ("attn.proj", "mlp.fc2") for e in ("weight", "bias")}
    assert {frozenset(g) for g in found.joint} == {frozenset(stream)}
