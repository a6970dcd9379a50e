"""The networks against the papers' numbers, independent re-implementations and their claims of invariance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from scaleinv.errors import UserError
from scaleinv.lab.build import group_names
from scaleinv.lab.models import DEFAULT_WIDTH, MODELS, NORMS, VARIANTS, build_model
from scaleinv.lab.models.layers import Layers, kaiming_uniform
from scaleinv.symmetry import find_symmetries


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(name: str, **options: Any) -> Any:
    return build_model(name, **{"generator": generator(), "classes": 10, **options})


def images(side: int, n: int = 6, channels: int = 3, seed: int = 1) -> Tensor:
    return torch.randn(n, channels, side, side, generator=generator(seed))


#: derived by hand: a weight before a norm is free alone; what adds up into one residual stream shares one scale
GROUPS: dict[str, list[tuple[str, ...]]] = {
    "mlp": [(f"layers.{i}.weight",) for i in range(3)],
    "convnet": [(f"convs.{i}.weight",) for i in range(4)],
    "resnet18": [
        *((f"stages.{stage}.{block}.conv1.weight",) for stage in range(4) for block in range(2)),
        ("stem.weight", "stages.0.0.conv2.weight", "stages.0.1.conv2.weight"),
        *(
            tuple(f"stages.{stage}.{name}.weight" for name in ("0.shortcut.1", "0.conv2", "1.conv2"))
            for stage in (1, 2, 3)
        ),
    ],
}


def group_parameters(net: Any) -> list[list[nn.Parameter]]:
    parameters = dict(net.named_parameters())
    return [[parameters[name] for name in group] for group in GROUPS[type(net).__name__.lower()]]


# -- networks of Lobacheva et al. 2021: parameter counts and initial norms ---------------------------------------------

COUNTS = {
    ("convnet", 8): 24_408,
    ("convnet", 16): 97_200,
    ("convnet", 32): 387_936,
    ("convnet", 64): 1_550_016,
    ("convnet", 128): 6_196_608,
    ("resnet18", 16): 697_776,
    ("resnet18", 32): 2_790_240,
    ("resnet18", 64): 11_159_232,
}
NORMS_AT_START = {
    ("convnet", 8): 6.32,
    ("convnet", 16): 8.94,
    ("convnet", 32): 12.65,
    ("convnet", 64): 17.89,
    ("convnet", 128): 25.30,
    ("resnet18", 16): 20.0,
    ("resnet18", 32): 28.28,
    ("resnet18", 64): 40.0,
}


@pytest.mark.numerics
@pytest.mark.parametrize(("name", "width"), COUNTS)
def test_counts_and_initial_norms_are_the_papers(name: str, width: int) -> None:
    net = build(name, width=width)
    wrapped = [p for group in group_parameters(net) for p in group]
    assert sum(p.numel() for p in wrapped) == COUNTS[name, width]
    assert {id(p) for p in wrapped} == {id(p) for p in net.parameters() if p.requires_grad}  # si: nothing else trains
    rho = math.sqrt(sum(float(p.detach().double().square().sum()) for p in wrapped))
    assert rho == pytest.approx(NORMS_AT_START[name, width], rel=0.01)
    outputs = sum(p.shape[0] for p in wrapped)
    assert rho == pytest.approx(math.sqrt(outputs / 3), rel=0.01)


def test_default_widths() -> None:
    assert DEFAULT_WIDTH == {"mlp": 64, "convnet": 32, "resnet18": 32}
    for name, width in DEFAULT_WIDTH.items():
        default, stated = build(name), build(name, width=width)
        assert [p.shape for p in default.parameters()] == [p.shape for p in stated.parameters()]


def test_the_mlp_is_three_hidden_layers_without_bias() -> None:
    net = build("mlp", in_shape=(1, 8, 8), width=20)
    shapes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert shapes == {
        "layers.0.weight": (20, 64),
        "layers.1.weight": (20, 20),
        "layers.2.weight": (20, 20),
        "head.weight": (10, 20),
        "head.bias": (10,),
    }


@pytest.mark.numerics
@pytest.mark.parametrize("fan_in", [1, 9, 144])
def test_the_initialisation_is_torchs_default(fan_in: int) -> None:
    weight = torch.empty(400_000 // fan_in, fan_in)
    kaiming_uniform(weight, fan_in, generator(3))
    bound = 1 / math.sqrt(fan_in)
    assert float(weight.abs().max()) <= bound
    n = weight.numel()
    # mean of n uniforms, and their variance 1/(3 fan_in), each within 4.5 standard errors
    assert abs(float(weight.double().mean())) < 4.5 * bound / math.sqrt(3 * n)
    assert float(weight.double().square().mean()) == pytest.approx(bound**2 / 3, rel=4.5 * math.sqrt(4 / 5 / n))
    theirs = torch.empty_like(weight)
    nn.init.kaiming_uniform_(theirs, a=math.sqrt(5), generator=generator(3))  # what nn.Linear and nn.Conv2d call
    torch.testing.assert_close(weight, theirs)


def test_layers_have_the_fan_in_of_their_kernel() -> None:
    g = generator(0)
    make = Layers(g, g)
    layers = ((make.conv(5, 4000), 45), (make.conv(5, 9000, 1), 5), (make.linear(7, 9000), 7))
    for layer, fan_in in (*layers, (make.head(7, 9000, bias=True), 7)):
        for p in layer.parameters():
            assert float(p.detach().abs().max()) <= fan_in**-0.5
            assert float(p.detach().abs().max()) > 0.99 * fan_in**-0.5


# -- topology, layer by layer ------------------------------------------------------------------------------------------


def papers_convnet(net: Any) -> nn.Sequential:
    """ConvNet of Lobacheva et al. 2021, written down plainly, with the weights of ``net``."""
    layers: list[nn.Module] = []
    for i, conv in enumerate(net.convs):
        mine = nn.Conv2d(conv.in_channels, conv.out_channels, 3, stride=1, padding=1, bias=False)
        mine.weight.data.copy_(conv.weight.data)
        layers += [mine, nn.BatchNorm2d(conv.out_channels, affine=False), nn.ReLU()]
        if i in (1, 2, 3):
            layers.append(nn.MaxPool2d(2))
    head = nn.Linear(net.head.in_features, net.head.out_features)
    head.load_state_dict(net.head.state_dict())
    return nn.Sequential(*layers, nn.MaxPool2d(4), nn.Flatten(), head)


class PapersBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, affine=False)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs, affine=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn0: nn.BatchNorm2d | None = None
        if stride != 1 or inputs != outputs:
            self.bn0 = nn.BatchNorm2d(inputs, affine=False)
            self.conv0 = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(x))
        shortcut = x if self.bn0 is None else self.conv0(self.bn0(out))
        out = self.conv1(out)
        out = self.conv2(functional.relu(self.bn2(out)))
        return out + shortcut


class PapersResNet18(nn.Module):
    """The SI pre-activation ResNet-18 of Lobacheva et al. 2021; average pool of 4 before the head."""

    def __init__(self, k: int, classes: int = 10) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, k, 3, 1, 1, bias=False)
        widths = [k, k, k, 2 * k, 2 * k, 4 * k, 4 * k, 8 * k, 8 * k]
        strides = [1, 1, 2, 1, 2, 1, 2, 1]
        self.blocks = nn.ModuleList(PapersBlock(a, b, s) for a, b, s in zip(widths[:-1], widths[1:], strides))
        self.bn = nn.BatchNorm2d(8 * k, affine=False)
        self.head = nn.Linear(8 * k, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out = self.conv(x)
        for block in self.blocks:
            out = block(out)
        out = functional.avg_pool2d(functional.relu(self.bn(out)), 4)
        return self.head(out.flatten(1))

    def weights(self) -> Iterator[Tensor]:
        yield self.conv.weight
        for block in self.blocks:
            yield block.conv1.weight
            yield block.conv2.weight
            if block.bn0 is not None:
                yield block.conv0.weight
        yield self.head.weight


def papers_resnet(net: Any, k: int) -> PapersResNet18:
    twin = PapersResNet18(k)
    theirs = [net.stem.weight]
    for stage in net.stages:
        for block in stage:
            theirs += [block.conv1.weight, block.conv2.weight]
            if block.shortcut is not None:
                theirs.append(block.shortcut[1].weight)
    theirs.append(net.head.weight)
    for mine, weight in zip(twin.weights(), theirs, strict=True):
        mine.data.copy_(weight.data)
    return twin


@pytest.mark.numerics
@pytest.mark.parametrize("name", ["convnet", "resnet18"])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_are_those_of_an_independent_network(name: str, training: bool) -> None:
    net = build(name, width=4)
    twin: nn.Module = papers_convnet(net) if name == "convnet" else papers_resnet(net, 4)
    x, y = images(32, 8), torch.arange(8) % 10
    for step in range(2):  # the second time with running statistics that have moved
        outputs, gradients = [], []
        for model in (net, twin):
            model.train(training or step == 0)
            logits = model(x)
            weights = [p for n, p in model.named_parameters() if "head" not in n and p.ndim == 4]
            gradients.append([g.norm() for g in torch.autograd.grad(functional.cross_entropy(logits, y), weights)])
            outputs.append(logits.detach())
        torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(sorted(gradients[0]), sorted(gradients[1]), rtol=1e-4, atol=1e-6)


def executed(net: nn.Module, x: Tensor) -> list[tuple[str, tuple[int, ...]]]:
    """Names of the leaves in the order in which they run, with the shape of what they put out."""
    order: list[tuple[str, tuple[int, ...]]] = []

    def hook(name: str) -> Callable[..., None]:
        return lambda module, inputs, output: order.append((name, tuple(output.shape[1:])))

    handles = [m.register_forward_hook(hook(n)) for n, m in net.named_modules() if not list(m.children())]
    with torch.no_grad():
        net(x)
    for handle in handles:
        handle.remove()
    return order


@pytest.mark.parametrize(("side", "maps"), [(32, (32, 32, 16, 8)), (8, (8, 8, 4, 2)), (28, (28, 28, 14, 7))])
def test_feature_maps_of_the_convnet(side: int, maps: tuple[int, ...]) -> None:
    order = executed(build("convnet", width=3), images(side))
    expected: list[tuple[str, tuple[int, ...]]] = []
    for i, s in enumerate(maps):
        expected += [(f"convs.{i}", (3 * 2**i, s, s)), (f"norms.{i}", (3 * 2**i, s, s))]
    assert order == [*expected, ("head", (10,))]


@pytest.mark.parametrize("side", [32, 8])
def test_feature_maps_and_order_of_the_resnet(side: int) -> None:
    order = executed(build("resnet18", width=2), images(side))
    expected = [("stem", (2, side, side))]
    inputs, s = (2, side), side
    for stage in range(4):
        outputs = 2 * 2**stage
        for block in range(2):
            name = f"stages.{stage}.{block}"
            before = (inputs[0], inputs[1], inputs[1])
            expected.append((f"{name}.norm1", before))
            if stage > 0 and block == 0:
                s //= 2
                expected.append((f"{name}.shortcut.0", before))  # a norm before each shortcut convolution
                expected.append((f"{name}.shortcut.1", (outputs, s, s)))
            here = (outputs, s, s)
            expected += [(f"{name}.conv1", here), (f"{name}.norm2", here), (f"{name}.conv2", here)]
            inputs = (outputs, s)
    expected += [("norm", (16, s, s)), ("head", (10,))]
    assert order == expected
    assert s == side // 8


@pytest.mark.parametrize("name", MODELS)
def test_norms_are_affine_in_the_standard_variant_only(name: str) -> None:
    for variant in VARIANTS:
        net = build(name, variant=variant, width=4)
        norms = [m for m in net.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm2d))]
        assert len(norms) == {"mlp": 3, "convnet": 4, "resnet18": 20}[name]  # resnet: 16, 3 before shortcuts, 1 last
        for layer in norms:
            assert layer.affine is (variant == "standard")
            assert (layer.eps, layer.momentum, layer.track_running_stats) == (1e-5, 0.1, True)
        trained = {p.requires_grad for p in net.head.parameters()}
        assert trained == {variant == "standard"}
        assert (net.head.bias is None) is (name == "resnet18")


@pytest.mark.numerics
@pytest.mark.parametrize("name", MODELS)
def test_variants_share_their_weights(name: str) -> None:
    si, standard = (build(name, variant=v, width=5) for v in ("si", "standard"))
    other = dict(standard.named_parameters())
    for key, p in si.named_parameters():
        if key == "head.weight":
            scaled = other[key].detach() * (10 / other[key].detach().norm())
            torch.testing.assert_close(p.detach(), scaled, rtol=1e-6, atol=0)
        else:
            assert torch.equal(p, other[key]), key  # the bias of the head is not rescaled
    extra = {key for key in other if key not in dict(si.named_parameters())}
    assert extra
    assert all("norm" in key or "shortcut.0" in key for key in extra)
    assert all(float((p.detach() - (1.0 if key.endswith("weight") else 0.0)).abs().max()) == 0.0
               for key, p in other.items() if key in extra)  # fmt: skip


@pytest.mark.numerics
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("head_norm", [10.0, 1.5])
def test_the_frozen_head_has_its_norm(name: str, head_norm: float) -> None:
    net = build(name, width=8, head_norm=head_norm)
    assert float(net.head.weight.double().norm()) == pytest.approx(head_norm, rel=1e-6)


def test_generators_decide_everything() -> None:
    a, b, c = (build("convnet", width=4, generator=generator(s)) for s in (1, 1, 2))
    assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters()))
    assert not any(torch.equal(p, q) for p, q in zip(a.parameters(), c.parameters()))
    d = build("convnet", width=4, generator=generator(1), head_generator=generator(7))
    assert torch.equal(a.convs[0].weight, d.convs[0].weight)
    assert not torch.equal(a.head.weight, d.head.weight)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    build("resnet18", width=2)
    assert torch.equal(torch.get_rng_state(), before)  # no global stream is touched


# -- invariance --------------------------------------------------------------------------------------------------------


def exact(name: str, kind: str = "batch") -> tuple[Any, Callable[[], Tensor]]:
    """A float64 network in train mode whose norms have a vanishing eps, and its output on fixed images."""
    net = build(name, width=8, norm=kind, norm_eps=1e-30, in_shape=(3, 16, 16)).double()
    x = images(16, 5).double()
    return net, lambda: net(x)


CASES = [(name, kind) for name in MODELS for kind in NORMS]


@pytest.mark.numerics
@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("factor", [0.03, 50.0])
def test_every_declared_group_is_scale_invariant(name: str, kind: str, factor: float) -> None:
    net, output = exact(name, kind)
    reference = output().detach()
    assert float(reference.std()) > 0.1
    for group in group_parameters(net):
        kept = [p.detach().clone() for p in group]
        with torch.no_grad():
            for p in group:
                p.mul_(factor)
            torch.testing.assert_close(output(), reference, rtol=1e-9, atol=1e-9)
            for p, value in zip(group, kept):
                p.copy_(value)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_single_members_of_joint_groups_are_not(name: str, kind: str) -> None:
    net, output = exact(name, kind)
    reference = output().detach()
    joint = [group for group in group_parameters(net) if len(group) > 1]
    assert len(joint) == (4 if name == "resnet18" else 0)
    if kind == "weight":
        pytest.skip("weight normalization makes every tensor scale-invariant alone")
    for group in joint:
        for p in group:
            with torch.no_grad():
                kept = p.detach().clone()
                p.mul_(1.5)
                assert float((output() - reference).abs().max()) > 1e-3
                p.copy_(kept)


@pytest.mark.numerics
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_gradients_are_orthogonal_to_groups_and_scale_inversely(name: str, kind: str) -> None:
    net, output = exact(name, kind)
    y = torch.arange(5)
    groups = group_parameters(net)

    def gradients() -> list[np.ndarray]:
        found = torch.autograd.grad(functional.cross_entropy(output(), y), [p for g in groups for p in g])
        parts = iter(found)
        return [np.concatenate([next(parts).numpy().ravel() for _ in g]) for g in groups]

    before = gradients()
    for group, g in zip(groups, before):
        x = np.concatenate([p.detach().numpy().ravel() for p in group])
        assert np.linalg.norm(g) > 1e-4
        assert abs(g @ x) < 1e-11 * np.linalg.norm(g) * np.linalg.norm(x)
    with torch.no_grad():
        for p in groups[1]:
            p.mul_(4.0)
    after = gradients()
    np.testing.assert_allclose(after[1], before[1] / 4, rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("norm_kind", NORMS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", list(MODELS))
def test_the_search_finds_the_groups_derived_by_hand(name: str, variant: str, norm_kind: str) -> None:
    found = group_names(name, variant, norm_kind, (1, 8, 8), 10)
    expected = [[t] for group in GROUPS[name] for t in group] if norm_kind == "weight" else GROUPS[name]
    assert sorted(map(sorted, found)) == sorted(map(sorted, expected))


def test_the_narrow_twin_has_the_groups_of_the_network_itself() -> None:
    net = build("resnet18", width=8, in_shape=(3, 32, 32))
    found = find_symmetries(net, images(32, 8))
    assert sorted(sorted(tensors) for _, tensors in found.groups) == sorted(
        map(sorted, group_names("resnet18", "si", "batch", (3, 32, 32), 10))
    )


@pytest.mark.numerics
def test_standard_networks_are_scale_invariant_in_the_same_groups() -> None:
    for name in ("mlp", "convnet"):
        net = build(name, width=8, norm_eps=1e-30, variant="standard", in_shape=(3, 16, 16)).double()
        x = images(16, 5).double()
        reference = net(x).detach()
        with torch.no_grad():
            for p in group_parameters(net)[1]:
                p.mul_(3.0)
        torch.testing.assert_close(net(x).detach(), reference, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("width", [4, 6, 8, 12, 16, 64])
@pytest.mark.parametrize("kind", ["layer", "group"])
def test_norms_over_features_pass_the_input_on(width: int, kind: str) -> None:
    # one number alone is normalised to 0, two to +1 and -1: the network would not see its input
    net = build("mlp", width=width, norm=kind, in_shape=(20,))
    x = torch.randn(64, 20, generator=generator(5))
    hidden = net.norms[0](net.layers[0](x)).detach()
    assert len(hidden.unique()) > 200
    assert (net(x) - net(x).mean(0)).abs().max() > 1e-2
    if width == 64:
        assert [m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)] in ([8, 8, 8], [])


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("vgg", {}, "unknown model 'vgg'; choose one of: mlp, convnet, resnet18"),
        ("mlp", {"variant": "SI"}, "unknown variant 'SI'"),
        ("mlp", {"norm": "instance"}, "unknown normalization 'instance'"),
        ("mlp", {"width": 0}, "width 0"),
        ("mlp", {"width": 2, "norm": "layer"}, "width 2 is too small for normalization 'layer'"),
        ("mlp", {"width": 3, "norm": "group"}, "width 3 is too small for normalization 'group'"),
        ("mlp", {"head_norm": -1.0}, "head norm -1"),
        ("mlp", {"head_norm": math.nan}, "head norm nan"),
        ("mlp", {"norm_eps": 0.0}, "norm eps 0.0"),
        ("convnet", {"in_shape": (1, 4, 4)}, "at least 8x8 pixels, not 1x4x4"),
        ("resnet18", {"in_shape": (64,)}, "needs images"),
    ],
)
def test_bad_input_is_one_line(name: str, options: dict[str, Any], match: str) -> None:
    with pytest.raises(UserError, match=match) as caught:
        build(name, **options)
    assert "\n" not in str(caught.value)


def test_unknown_norm_kinds_do_not_reach_a_model() -> None:
    with pytest.raises(UserError, match="unknown normalization"):
        Layers(generator(), generator(), "instance").norm(4)
