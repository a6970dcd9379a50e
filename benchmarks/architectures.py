"""Small architectures on which the doctor's answer is checked: of timm, of transformers, and remade from papers.

Every entry builds (model, inputs) with random weights and no network access. Depth and width are small, all kinds of
layers of the architecture are there.
"""

# ruff: noqa: E501  (a table)
from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.plugins import load_object

#: more outputs than tensors, so that one place shows the whole null space
_CLASSES = 64

Built = tuple[nn.Module, Any]


class Architecture(NamedTuple):
    """A name that people know, the library it is from, how it is built, and which page lists it."""

    name: str
    library: str
    build: Callable[[], Built]
    page: bool = False  # listed in docs/results/doctor.md in full


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(5))


def tokens(*shape: int, high: int = 32) -> Tensor:
    return torch.randint(2, high, shape, generator=torch.Generator().manual_seed(5))


def _timm(name: str, size: int = 32, batch: int = 4, **options: Any) -> Callable[[], Built]:
    def build() -> Built:
        create = load_object("timm:create_model")
        return create(name, num_classes=_CLASSES, **options), normal(batch, 3, size, size)

    return build


def _timm_class(target: str, size: int = 32, **options: Any) -> Callable[[], Built]:
    """One of timm's classes, where ``create_model`` fixes what is to be small."""

    def build() -> Built:
        return load_object(target)(num_classes=_CLASSES, **options), normal(4, 3, size, size)

    return build


def _hf(kind: str, config: str, inputs: Callable[[], dict[str, Tensor]], **options: Any) -> Callable[[], Built]:
    def build() -> Built:
        library = importlib.import_module("transformers")
        made = getattr(library, config)(**options)
        return getattr(library, kind)(made), inputs()

    return build


def _words() -> dict[str, Tensor]:
    return {"input_ids": tokens(3, 8)}


def _pictures(size: int = 32, batch: int = 3) -> Callable[[], dict[str, Tensor]]:
    return lambda: {"pixel_values": normal(batch, 3, size, size)}


_SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": None}
_DECODER: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 4, "max_position_embeddings": 16, "use_cache": False, **_SPECIAL,
}  # fmt: skip
_ENCODER: dict[str, Any] = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 16, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip
_VISION: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 32,
    "patch_size": 8, "num_labels": _CLASSES,
}  # fmt: skip
_T5 = {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 2, "num_heads": 4, "pad_token_id": 0}
_MOE: dict[str, Any] = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 12}


def _pairs() -> dict[str, Tensor]:
    return {"input_ids": tokens(3, 8), "decoder_input_ids": tokens(3, 6)}


# -- remade from their papers ----------------------------------------------------------------------------------------


class ResBlock(nn.Module):
    """A block of a diffusion U-Net (Ho et al. 2020): norm, SiLU, convolution twice; the time enters in between."""

    def __init__(self, inputs: int, outputs: int, time: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(4, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.time = nn.Linear(time, outputs)
        self.norm2, self.conv2 = nn.GroupNorm(4, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv1(functional.silu(self.norm1(x))) + self.time(t)[:, :, None, None]
        result: Tensor = self.skip(x) + self.conv2(functional.silu(self.norm2(h)))
        return result


class UNet(nn.Module):
    """A U-Net for diffusion: two resolutions, attention at the lower one, skips by concatenation."""

    def __init__(self, width: int = 8, time: int = 12) -> None:
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(width, time), nn.SiLU(), nn.Linear(time, time), nn.SiLU())
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.down1, self.shrink = ResBlock(width, width, time), nn.Conv2d(width, width, 3, 2, 1)
        self.down2 = ResBlock(width, 2 * width, time)
        self.norm, self.qkv, self.out = (
            nn.GroupNorm(4, 2 * width), nn.Conv2d(2 * width, 6 * width, 1), nn.Conv2d(2 * width, 2 * width, 1),
        )  # fmt: skip
        self.grow = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.up = ResBlock(3 * width, width, time)
        self.last_norm, self.last = nn.GroupNorm(4, width), nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        e = self.embed(t)
        high = self.down1(self.first(x), e)
        low = self.down2(self.shrink(high), e)
        q, k, v = self.qkv(self.norm(low)).flatten(2).transpose(1, 2).chunk(3, -1)
        attended = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(low.shape)
        low = self.grow(functional.interpolate(low + self.out(attended), scale_factor=2.0))
        result: Tensor = self.last(functional.silu(self.last_norm(self.up(torch.cat([low, high], 1), e))))
        return result


class NGPT(nn.Module):
    """nGPT (Loshchilov et al. 2024): states on the sphere, learned step sizes, q and k normalised, logits scaled.

    The weights are used as they are; the optimizer normalises them after each step, which is no part of the function.
    """

    def __init__(self, width: int = 16, heads: int = 2, layers: int = 2, vocabulary: int = 32) -> None:
        super().__init__()
        self.heads = heads
        self.table, self.head = nn.Embedding(vocabulary, width), nn.Linear(width, vocabulary, bias=False)
        self.logit_scale = nn.Parameter(torch.ones(vocabulary))
        self.blocks = nn.ModuleList()
        for _ in range(layers):
            block = nn.ModuleDict({n: nn.Linear(width, width, bias=False) for n in ("q", "k", "v", "o")})
            block["u"], block["g"] = nn.Linear(width, 24, bias=False), nn.Linear(width, 24, bias=False)
            block["d"] = nn.Linear(24, width, bias=False)
            block.attention_step, block.mlp_step = (nn.Parameter(torch.full((width,), 0.3)) for _ in range(2))
            block.qk_scale = nn.Parameter(torch.ones(width // heads))
            block.u_scale, block.g_scale = nn.Parameter(torch.ones(24)), nn.Parameter(torch.ones(24))
            self.blocks.append(block)

    def split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, ids: Tensor) -> Tensor:
        h = functional.normalize(self.table(ids), dim=-1)
        for b in self.blocks:
            q, k = (functional.normalize(self.split(b[n](h)), dim=-1) * b.qk_scale for n in ("q", "k"))
            a = functional.scaled_dot_product_attention(q, k, self.split(b["v"](h)), is_causal=True, scale=4.0)
            a = functional.normalize(b["o"](a.transpose(1, 2).flatten(2)), dim=-1)
            h = functional.normalize(h + b.attention_step * (a - h), dim=-1)
            m = b["d"](b["u"](h) * b.u_scale * functional.silu(b["g"](h) * b.g_scale))
            h = functional.normalize(h + b.mlp_step * (functional.normalize(m, dim=-1) - h), dim=-1)
        result: Tensor = self.head(h) * self.logit_scale
        return result


class MPConv(nn.Module):
    """A magnitude-preserving convolution of EDM2 (Karras et al. 2024): in training it rewrites its own weight."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        fan_in = w[0].numel()
        if self.training:
            with torch.no_grad():
                w.copy_(w / (1e-4 + w.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / fan_in**0.5))
        w = w / (1e-4 + w.flatten(1).norm(dim=1).view(-1, 1, 1, 1) / fan_in**0.5)
        return functional.conv2d(x, w / fan_in**0.5, padding=w.shape[-1] // 2)


class EDM2(nn.Module):
    """A stack of EDM2's encoder blocks: pixel norm, magnitude-preserving SiLU, convolutions and sums; a learned gain."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = MPConv(3, width, 3)
        self.convs = nn.ModuleList(MPConv(width, width, 3) for _ in range(4))
        self.noise = nn.Linear(6, width, bias=False)
        self.last, self.gain = MPConv(width, 3, 3), nn.Parameter(torch.ones([]))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        h = self.first(x)
        c = self.noise(noise)[:, :, None, None] + 1
        for a, b in zip(self.convs[::2], self.convs[1::2]):
            h = h / (1e-4 + h.norm(dim=1, keepdim=True) / h.shape[1] ** 0.5)
            y = a(functional.silu(h) / 0.596)
            h = (0.7 * h + 0.3 * b(functional.silu(y * c) / 0.596)) / 0.58**0.5
        result: Tensor = self.last(h) * self.gain
        return result


ARCHITECTURES: tuple[Architecture, ...] = (
    # convolutions and batch norm
    Architecture("ResNet", "timm", _timm("test_resnet", 32), True),
    Architecture("ResNet with squeeze and excitation", "timm", _timm("seresnet18", layers=(1, 1, 1, 1), channels=(8, 8, 16, 16))),
    Architecture("ResNet, pre-activation (BiT)", "timm", _timm("resnetv2_50", 32, layers=(1, 1, 1, 1), channels=(16, 32, 48, 64))),
    Architecture("SKNet", "timm", _timm("skresnet18", layers=(1, 1, 1, 1), channels=(32, 32, 32, 32))),
    Architecture("ResNeSt", "timm", _timm("resnest14d", stem_width=8, channels=(8, 8, 16, 16))),
    Architecture("RegNet", "timm", _timm("regnetx_002")),
    Architecture("RepVGG", "timm", _timm("test_byobnet", 32)),
    Architecture("DenseNet", "timm", _timm("densenet121", 32, growth_rate=8, block_config=(2, 2, 2, 2))),
    Architecture("VGG with batch norm", "timm", _timm_class("timm.models.vgg:VGG", 64, cfg=[8, "M", 8, "M", 16, "M", 16, "M"], mlp_ratio=0.01, norm_layer=nn.BatchNorm2d)),
    Architecture("MobileNetV3", "timm", _timm("mobilenetv3_small_050", 32)),
    Architecture("LCNet", "timm", _timm("lcnet_035", 32)),
    Architecture("GhostNet", "timm", _timm_class("timm.models.ghostnet:GhostNet", 64, width=0.5, cfgs=[[[3, 16, 16, 0, 1]], [[3, 48, 24, 0, 2]], [[5, 72, 40, 0.25, 2]], [[3, 240, 40, 0.25, 1]]])),
    Architecture("EfficientNet", "timm", _timm("test_efficientnet", 64), True),
    Architecture("EfficientNet with group norm", "timm", _timm("test_efficientnet_gn", 32)),
    Architecture("EfficientNet with EvoNorm", "timm", _timm("test_efficientnet_evos", 32)),
    Architecture("NFNet", "timm", _timm("test_nfnet", 32), True),
    Architecture("ConvNeXt", "timm", _timm("test_convnext", 32), True),
    Architecture("ConvNeXt V2", "timm", _timm("convnextv2_atto", 32, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))),
    Architecture("InceptionNeXt", "timm", _timm("inception_next_atto", 32, depths=(1, 1, 1, 1), dims=(16, 24, 32, 40))),
    Architecture("MambaOut", "timm", _timm("test_mambaout", 32)),
    Architecture("StarNet", "timm", _timm("starnet_s1", 32, depths=(1, 1, 1, 1), base_dim=8)),
    Architecture("FasterNet", "timm", _timm("fasternet_t0", 32, depths=(1, 1, 1, 1), embed_dim=16)),
    Architecture("ConvMixer", "timm", _timm_class("timm.models.convmixer:ConvMixer", dim=16, depth=3, patch_size=4)),
    # transformers for pictures
    Architecture("ViT", "timm", _timm("vit_tiny_patch16_224", depth=2, embed_dim=12, num_heads=3, img_size=32), True),
    Architecture("ViT with qk-norm and layer scale", "timm", _timm("vit_tiny_patch16_224", depth=2, embed_dim=12, num_heads=3, img_size=32, qk_norm=True, init_values=0.1)),
    Architecture("ViT with relative positions", "timm", _timm("test_vit_relpos", 160, 2)),
    Architecture("BEiT", "timm", _timm("beit_base_patch16_224", depth=2, embed_dim=12, num_heads=3, img_size=32)),
    Architecture("EVA-02", "timm", _timm("eva02_tiny_patch14_224", 28, depth=2, embed_dim=24, num_heads=3, img_size=28)),
    Architecture("DeiT III", "timm", _timm("deit3_small_patch16_224", depth=2, embed_dim=12, num_heads=3, img_size=32)),
    Architecture("CaiT", "timm", _timm("cait_xxs24_224", depth=2, embed_dim=12, num_heads=3, img_size=32)),
    Architecture("XCiT", "timm", _timm("xcit_nano_12_p16_224", depth=2, embed_dim=16, num_heads=4, img_size=32)),
    Architecture("Swin", "timm", _timm("swin_tiny_patch4_window7_224", 64, 2, depths=(2, 1), num_heads=(2, 4), embed_dim=8, window_size=4, img_size=64), True),
    Architecture("Swin V2", "timm", _timm("swinv2_tiny_window8_256", 64, 2, depths=(2, 1), num_heads=(2, 4), embed_dim=8, window_size=4, img_size=64)),
    Architecture("PVT v2", "timm", _timm("pvt_v2_b0", 64, depths=(1, 1, 1, 1), embed_dims=(8, 16, 24, 32), num_heads=(1, 2, 2, 4))),
    Architecture("MaxViT", "timm", _timm("test_maxvit", 160, 2)),
    Architecture("CoAtNet", "timm", _timm("test_coatnet", 160, 2)),
    Architecture("LeViT", "timm", _timm("levit_128s", 224, 6, embed_dim=(16, 24, 32), key_dim=8, num_heads=(2, 3, 4), depth=(1, 1, 1))),
    Architecture("MLP-Mixer", "timm", _timm_class("timm.models.mlp_mixer:MlpMixer", num_blocks=2, embed_dim=16, img_size=32, patch_size=8)),
    Architecture("PoolFormer", "timm", _timm_class("timm.models.metaformer:MetaFormer", 64, depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))),
    Architecture("FocalNet", "timm", _timm_class("timm.models.focalnet:FocalNet", 32, depths=(1, 1, 1, 1), embed_dim=8)),
    # language models
    Architecture("GPT-2", "transformers", _hf("GPT2LMHeadModel", "GPT2Config", _words, vocab_size=32, n_embd=16, n_layer=2, n_head=4, n_positions=16, use_cache=False, **_SPECIAL), True),
    Architecture("GPT-NeoX", "transformers", _hf("GPTNeoXForCausalLM", "GPTNeoXConfig", _words, **_DECODER)),
    Architecture("OPT", "transformers", _hf("OPTForCausalLM", "OPTConfig", _words, vocab_size=32, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16, max_position_embeddings=16, use_cache=False, bos_token_id=0, eos_token_id=1, pad_token_id=1)),
    Architecture("BLOOM", "transformers", _hf("BloomForCausalLM", "BloomConfig", _words, vocab_size=32, hidden_size=16, n_layer=2, n_head=4, use_cache=False, **_SPECIAL)),
    Architecture("Llama", "transformers", _hf("LlamaForCausalLM", "LlamaConfig", _words, **_DECODER), True),
    Architecture("Mistral", "transformers", _hf("MistralForCausalLM", "MistralConfig", _words, **_DECODER)),
    Architecture("Phi-3", "transformers", _hf("Phi3ForCausalLM", "Phi3Config", _words, **_DECODER)),
    Architecture("Qwen2", "transformers", _hf("Qwen2ForCausalLM", "Qwen2Config", _words, **_DECODER)),
    Architecture("Qwen3", "transformers", _hf("Qwen3ForCausalLM", "Qwen3Config", _words, **_DECODER), True),
    Architecture("Gemma", "transformers", _hf("GemmaForCausalLM", "GemmaConfig", _words, **_DECODER), True),
    Architecture("Gemma 2", "transformers", _hf("Gemma2ForCausalLM", "Gemma2Config", _words, **_DECODER), True),
    Architecture("Gemma 3", "transformers", _hf("Gemma3ForCausalLM", "Gemma3TextConfig", _words, **_DECODER), True),
    Architecture("OLMo 2", "transformers", _hf("Olmo2ForCausalLM", "Olmo2Config", _words, **_DECODER), True),
    Architecture("Cohere", "transformers", _hf("CohereForCausalLM", "CohereConfig", _words, **_DECODER)),
    Architecture("StableLM", "transformers", _hf("StableLmForCausalLM", "StableLmConfig", _words, **_DECODER)),
    Architecture("Granite", "transformers", _hf("GraniteForCausalLM", "GraniteConfig", _words, **_DECODER)),
    Architecture("Mixtral", "transformers", _hf("MixtralForCausalLM", "MixtralConfig", _words, num_local_experts=4, num_experts_per_tok=2, **_DECODER), True),
    Architecture("Qwen3 MoE", "transformers", _hf("Qwen3MoeForCausalLM", "Qwen3MoeConfig", _words, **_DECODER, **_MOE), True),
    Architecture("OLMoE", "transformers", _hf("OlmoeForCausalLM", "OlmoeConfig", _words, num_experts=4, num_experts_per_tok=2, **{k: v for k, v in _DECODER.items() if k != "head_dim"}), True),
    Architecture("Mamba", "transformers", _hf("MambaForCausalLM", "MambaConfig", _words, vocab_size=32, hidden_size=16, state_size=4, num_hidden_layers=2, use_cache=False, **_SPECIAL), True),
    Architecture("Mamba 2", "transformers", _hf("Mamba2ForCausalLM", "Mamba2Config", _words, vocab_size=32, hidden_size=16, state_size=4, num_heads=4, head_dim=8, n_groups=2, num_hidden_layers=2, use_cache=False, chunk_size=8, **_SPECIAL), True),
    Architecture("RecurrentGemma", "transformers", _hf("RecurrentGemmaForCausalLM", "RecurrentGemmaConfig", _words, **{**_DECODER, "num_hidden_layers": 3}, lru_width=16, attention_window_size=8)),
    # encoders, and encoders with decoders
    Architecture("BERT", "transformers", _hf("BertForMaskedLM", "BertConfig", _words, **_ENCODER), True),
    Architecture("RoBERTa", "transformers", _hf("RobertaForMaskedLM", "RobertaConfig", _words, **{**_ENCODER, "max_position_embeddings": 24})),
    Architecture("ALBERT", "transformers", _hf("AlbertForMaskedLM", "AlbertConfig", _words, embedding_size=12, **_ENCODER)),
    Architecture("ELECTRA", "transformers", _hf("ElectraForPreTraining", "ElectraConfig", _words, embedding_size=12, **_ENCODER)),
    Architecture("ModernBERT", "transformers", _hf("ModernBertForMaskedLM", "ModernBertConfig", _words, **_ENCODER, cls_token_id=0, sep_token_id=1)),
    Architecture("T5", "transformers", _hf("T5ForConditionalGeneration", "T5Config", _pairs, **_T5, decoder_start_token_id=0, use_cache=False), True),
    Architecture("BART", "transformers", _hf("BartForConditionalGeneration", "BartConfig", _pairs, vocab_size=32, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_position_embeddings=16, use_cache=False, bos_token_id=0, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0)),
    # sound and pictures
    Architecture("Whisper", "transformers", _hf("WhisperForConditionalGeneration", "WhisperConfig", lambda: {"input_features": normal(2, 8, 20), "decoder_input_ids": tokens(2, 6)}, vocab_size=32, num_mel_bins=8, d_model=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=24, decoder_ffn_dim=24, max_source_positions=10, max_target_positions=16, use_cache=False, bos_token_id=0, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0), True),
    Architecture("wav2vec 2.0", "transformers", _hf("Wav2Vec2ForCTC", "Wav2Vec2Config", lambda: {"input_values": normal(2, 400)}, vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, conv_dim=(8, 8), conv_stride=(5, 2), conv_kernel=(10, 3), num_feat_extract_layers=2, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, mask_time_prob=0.0)),
    Architecture("ViT (transformers)", "transformers", _hf("ViTForImageClassification", "ViTConfig", _pictures(), **_VISION)),
    Architecture("DINOv2", "transformers", _hf("Dinov2ForImageClassification", "Dinov2Config", _pictures(), **{k: v for k, v in _VISION.items() if k != "intermediate_size"}, mlp_ratio=2)),
    Architecture("SigLIP", "transformers", _hf("SiglipVisionModel", "SiglipVisionConfig", _pictures(), **_VISION)),
    # remade from their papers
    Architecture("U-Net", "remade (Ho et al. 2020)", lambda: (UNet(), (normal(3, 3, 8, 8), normal(3, 8))), True),
    Architecture("nGPT", "remade (Loshchilov et al. 2024)", lambda: (NGPT(), (tokens(3, 8),)), True),
    Architecture("EDM2", "remade (Karras et al. 2024)", lambda: (EDM2(), (normal(3, 3, 8, 8), normal(3, 6))), True),
)  # fmt: skip
