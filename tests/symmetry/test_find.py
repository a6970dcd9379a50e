"""The traps: state that must not change, ways a model may be built, precision, failures."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import numpy as np
import pytest
import torch
from tests import cases, kinds, practice
from tests.cases import CASES
from tests.kinds import KINDS
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.symmetry import assert_scale_invariant, find_symmetries, make_scale_invariant
from scaleinv.symmetry.precision import DOUBLE
from scaleinv.symmetry.probe import Probe
from scaleinv.symmetry.render import terminal_table
from scaleinv.symmetry.verify import RescalingClaim, verify


def _net(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cases.bn_mlp()


def _groups(found: Any) -> dict[str, Any]:
    return {k: v for k, v in found.to_dict().items() if k not in ("evidence", "defect")}


def test_the_model_and_the_random_state_are_left_alone() -> None:
    model = _net()
    model[0].weight.requires_grad_(False)
    model.eval()
    model[3].weight.grad = torch.ones(8, 8)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state, dtype = torch.random.get_rng_state(), torch.get_default_dtype()
    find_symmetries(model, cases.normal(10, 6))
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert not model[0].weight.requires_grad
    assert model[3].weight.requires_grad
    assert not model.training
    assert torch.equal(model[3].weight.grad, torch.ones(8, 8))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() is dtype


@pytest.mark.parametrize("name", ["mlp standard", "pre-norm transformer", "tied weights", "post-activation resnet"])
def test_an_independent_null_space(name: str) -> None:
    """J by forward differences of the log-scales in float64, one tensor at a time, and its rank by numpy."""
    case = next(c for c in CASES if c.name == name)
    model, inputs = case.build()
    probe = Probe(model, inputs)
    probe.perturb(torch.Generator().manual_seed(3))
    columns = []
    for i in range(len(probe.tensors)):
        values = []
        for step in (-1e-4, 1e-4):
            with probe.scaled({i: float(np.exp(step))}):
                values.append(probe.value())
        columns.append(((values[1] - values[0]) / 2e-4).numpy())
    matrix = np.stack(columns, axis=1)
    size = np.linalg.norm(matrix, axis=0)
    alive = size > 1e-7 * size.max()
    rank = np.linalg.matrix_rank(matrix[:, alive] / size[alive], tol=1e-5)  # central differences: error about 1e-8
    found = find_symmetries(model, inputs, defect=False)
    claims = len(found.single) + len(found.dead) + len(found.joint) + len(found.rescaling)
    assert len(probe.tensors) - rank == claims
    assert (~alive).sum() == len(found.single) + len(found.dead)


SEVERAL = ["convnet standard", "pre-norm transformer", "fused qkv with qk-norm", "depthwise separable"]


@pytest.mark.parametrize("name", SEVERAL)
def test_single_precision_says_the_same(name: str) -> None:
    case = next(c for c in CASES if c.name == name)
    model, inputs = case.build()
    single = find_symmetries(model, inputs, precision="single", defect=False)
    double = find_symmetries(model, inputs, precision="double", defect=False)
    assert _groups(single) == _groups(double)
    assert double.evidence["dtype"] == "float64"


def test_single_precision_is_trusted_where_its_gaps_are_wide() -> None:
    case = next(c for c in CASES if c.name == "convnet standard")
    found = find_symmetries(*case.build(), precision="single", defect=False)
    assert found.evidence["dtype"] == "float32, tested in float64"
    assert max(r["output"] for r in found.evidence["residuals"].values()) < 1e-12


def test_seeds_and_batches_do_not_matter() -> None:
    model = _net()
    answers = [_groups(find_symmetries(model, cases.normal(n, 6), seed=s)) for s, n in ((0, 10), (1, 10), (2, 40))]
    assert answers[0] == answers[1] == answers[2]


def test_a_claim_that_is_wrong_fails_the_test_by_scaling() -> None:
    probe = Probe(_net(), cases.normal(10, 6))
    mask = torch.ones_like(probe.value())
    wrong = [RescalingClaim("norm gain alone", {4: 1}), RescalingClaim("right", {2: 1})]
    residuals, _ = verify(
        probe, [RescalingClaim("w", {probe.names.index("3.weight"): 1})], mask, torch.Generator().manual_seed(0)
    )
    assert residuals["w"].good
    names = [probe.names.index("4.weight"), probe.names.index("3.weight")]
    wrong = [RescalingClaim("gain", {names[0]: 1}), RescalingClaim("matrix", {names[1]: 1})]
    residuals, _ = verify(probe, wrong, mask, torch.Generator().manual_seed(0))
    assert not residuals["gain"].good
    assert residuals["matrix"].good
    assert residuals["gain"].output > 0.1


class _Detached(nn.Module):
    """<g, w> is zero, but the function depends on the scale of w: the gradient does not see it."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        w = self.first.weight
        return self.head(torch.tanh(x @ w.T / w.norm() * w.norm().detach() ** 2))


def test_a_stop_gradient_is_undecided_not_believed() -> None:
    found = find_symmetries(_Detached(), cases.normal(10, 6), defect=False)
    assert found.verdict == "undecided"
    assert "fail the test by scaling" in found.headline()


class _Literal(nn.Module):
    """A small constant that is no eps: without it the two layers would trade their scales."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.first(x) + 1e-3))


def test_a_constant_that_is_no_eps_is_kept() -> None:
    found = find_symmetries(_Literal(), cases.normal(10, 6), defect=False)
    assert found.evidence["eps_by_hand"] == []
    assert set(found.fixed) == {"first.weight", "head.weight", "head.bias"}


def test_an_eps_by_hand_is_told_with_its_law() -> None:
    case = next(c for c in CASES if c.name == "eps written by hand")
    found = find_symmetries(*case.build(), defect=False)
    assert found.evidence["eps_by_hand"] == [1e-5]
    first, second, third = found.evidence["up_to_eps"]["first.weight"]
    assert 1e-8 < first < 1
    assert second == pytest.approx(first * 2**-14, rel=0.3)
    assert third <= 1e-7 * first


def test_a_constant_channel_is_skipped_and_said() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(6, 8, bias=False)
            self.norm = nn.BatchNorm1d(8, affine=False)
            self.shift = nn.Parameter(torch.rand(3))
            self.constant = nn.BatchNorm1d(3, affine=False)

        def forward(self, x: Tensor) -> Tensor:
            flat = self.constant((self.shift * torch.pi).expand(len(x), 3) * x.new_full((len(x), 1), 0.1))
            return torch.cat([self.norm(self.first(x)), flat], dim=1)

    found = find_symmetries(Net(), cases.normal(10, 6), defect=False)
    assert found.single == ("first.weight",)
    assert found.verdict == "clear"


def test_old_weight_norm_and_half_of_a_dict() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with pytest.warns(FutureWarning):
                self.layer = nn.utils.weight_norm(nn.Linear(6, 8))

        def forward(self, x: Tensor, scale: float = 1.0) -> Any:
            return {"a": [torch.tanh(self.layer(x))], "b": (None, {"c": x.sum()})}

    found = find_symmetries(Net(), {"x": cases.normal(10, 6)}, defect=False)
    assert found.single == ("layer.weight_v",)
    assert set(found.fixed) == {"layer.weight_g", "layer.bias"}


def test_frozen_tensors_are_told_and_left_out_of_the_groups() -> None:
    model = _net()
    model[3].weight.requires_grad_(False)
    found = find_symmetries(model, cases.normal(10, 6), defect=False)
    assert found.frozen == ("3.weight",)
    assert found.groups == [("0.weight", ("0.weight",))]
    assert len(found.select(frozen=True)) == 2
    assert found.parameters(model)["0.weight"][0] is model[0].weight


def test_the_affine_pair_is_a_group_only_on_request() -> None:
    case = next(c for c in CASES if c.name == "mlp standard")
    found = find_symmetries(*case.build(), defect=False)
    assert [name for name, _ in found.groups] == list(found.single)
    assert ("norms.0.weight+norms.0.bias", ("norms.0.weight", "norms.0.bias")) in found.select(with_affine=True)


def test_the_answer_is_json_and_html_and_a_sentence() -> None:
    case = next(c for c in CASES if c.name == "mlp standard")
    found = find_symmetries(*case.build())
    again = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert again["rescaling"] == [{"norms.2.weight": 1, "norms.2.bias": 1, "head.weight": -1}]
    assert found.headline() == "3 of 11 tensors are scale-invariant alone; 2 affine pairs; 1 rescaling set"
    assert "<table>" in found._repr_html_()
    assert str(found).startswith(found.headline())


def test_assert_scale_invariant() -> None:
    x = cases.normal(10, 6)
    assert_scale_invariant(_net(), x, ["0.weight", "3.weight"])
    assert_scale_invariant(_net(), x, [("0.weight", "0.bias")])
    with pytest.raises(AssertionError, match=r"4\.weight is part of a rescaling symmetry"):
        assert_scale_invariant(_net(), x, ["4.weight"])
    with pytest.raises(AssertionError, match=r"have a scale of their own: 4\.weight"):
        assert_scale_invariant(_net(), x)
    with pytest.raises(UserError, match="no floating parameter 'nose'"):
        assert_scale_invariant(_net(), x, ["nose"])


class _Noise(nn.Module):
    """Randomness of the machine, which no seed repeats."""

    def forward(self, x: Tensor) -> Tensor:
        return x * random.SystemRandom().random()


@pytest.mark.parametrize(
    ("model", "inputs", "message"),
    [
        (nn.ReLU(), torch.ones(2, 3), "ReLU has no parameters"),
        (nn.Linear(3, 2), torch.ones(2, 4), r"Linear.forward fails on input \(2, 4\) with its own weight \(2, 3\)"),
        (nn.Sequential(nn.Linear(4, 3), nn.Linear(2, 2)), torch.ones(2, 4), r"layer '1' \(Linear\) fails on input"),
        (nn.Embedding(5, 2), torch.ones(2, 4), r"Embedding.forward takes whole numbers below 5, and got torch.float32"),
        (nn.Sequential(nn.Linear(4, 3), _Noise()), torch.ones(2, 4), "not deterministic: module '1'"),
        (nn.Sequential(_Noise(), nn.Linear(4, 3)), torch.ones(2, 4), "not deterministic: module '0'"),
        (nn.Linear(3, 2), "words", "inputs is str"),
        (nn.LazyLinear(3), torch.ones(2, 4), "not initialised"),
        (nn.Linear(3, 2), torch.full((2, 3), float("nan")), "every output of Linear is NaN"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_failures_are_one_clear_line(model: nn.Module, inputs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_symmetries(model, inputs)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated
@pytest.mark.parametrize("wrapped", [torch.jit.script, torch.compile])
def test_a_compiled_model_is_the_model(wrapped: Any) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.Linear(8, 3))
    plain = find_symmetries(model, cases.normal(6, 4))
    found = find_symmetries(wrapped(model), cases.normal(6, 4))
    assert found.verdict == "clear"
    names = [name for name, _ in wrapped(model).named_parameters()]
    assert list(found.shapes) == names
    assert [[names.index(n) for n in g] for g in found.joint] == [[0, 1]]
    assert len(found.rescaling) == len(plain.rescaling) == 1


def test_nan_weights_are_named() -> None:
    model = _net()
    with torch.no_grad():
        model[3].weight[0, 0] = float("nan")
    with pytest.raises(UserError, match=r"'3\.weight' holds NaN"):
        find_symmetries(model, cases.normal(10, 6))


def test_thresholds_stand_apart_from_rounding() -> None:
    case = next(c for c in CASES if c.name == "resnet18 standard")
    evidence = find_symmetries(*case.build(), defect=False).evidence
    assert evidence["largest_single_cosine"] < DOUBLE.zero * 1e-3
    assert evidence["smallest_other_cosine"] > DOUBLE.zero * 1e3
    assert evidence["largest_dropped"] < DOUBLE.floor * 1e-3


def test_blocks_of_heads_and_groups_are_named() -> None:
    """q and k under a norm per head, a convolution in front of a group norm: free block by block, not row by row."""
    case = next(c for c in CASES if c.name == "transformer with qk-norm")
    found = find_symmetries(*case.build(), defect=False)
    assert {b.name for b in found.blocks} == {f"blocks.{i}.att.{x}.weight" for i in range(2) for x in "qk"}
    assert all(b.dim == 0 and b.blocks == ((0, 4), (4, 8)) for b in found.blocks)
    case = next(c for c in CASES if c.name == "group norm")
    found = find_symmetries(*case.build(), defect=False)
    assert [b.blocks for b in found.blocks] == [((0, 2), (2, 4), (4, 6), (6, 8))]
    assert "each of 4 blocks of 2 rows by itself" in str(found)


def test_no_square_where_a_simpler_set_spans_the_same() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = cases.Transformer(bias=False)
    found = find_symmetries(model, cases.tokens(11, 3, 6), defect=False)
    assert all(abs(n) == 1 for pair in found.rescaling for n in pair.values())
    b = "blocks.0"
    assert {f"{b}.ln1.weight": 1, **{f"{b}.att.{x}.weight": -1 for x in "qkv"}} in [dict(r) for r in found.rescaling]


def _kind(name: str, **options: Any) -> Any:
    case = next(c for c in KINDS if c.name == name)
    model, inputs = case.build()
    return find_symmetries(model, inputs, defect=False, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("weights put back by the forward", "the forward writes w.weight itself"),
        ("weights put back by the forward", "their norm is held by the forward"),
        ("ActNorm before its first batch", "the first batch sets n.loc, n.scale"),
        ("batch of two", "two values per channel, which it makes +1 and -1 whatever the weights"),
    ],
)
def test_what_is_unusual_is_said(name: str, words: str) -> None:
    found = _kind(name)
    assert words in " ".join(found.evidence["notes"])
    assert any(words in str(line) for line in terminal_table(found))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "sign, straight through",
            "w: the function does not change with its scale, but the gradient is not orthogonal",
        ),
        (
            "batch renormalisation",
            "w.weight: the gradient is orthogonal to it, but the function changes with its scale",
        ),
        ("a table with a largest norm", "an eps that cannot be taken out"),
    ],
)
def test_undecided_says_which_tensor_and_why(name: str, words: str) -> None:
    found = _kind(name)
    assert words in found.evidence["reason"]
    assert found.headline().startswith("undecided: ")


def test_a_larger_batch_is_asked_for_where_none_can_be_made() -> None:
    class Net(nn.Module):
        """Takes a batch of exactly two."""

        def __init__(self) -> None:
            super().__init__()
            self.w, self.n, self.o = nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(torch.relu(self.n(self.w(x))).reshape(1, 16))

    found = find_symmetries(Net(), cases.normal(2, 6), defect=False)
    assert found.verdict == "undecided"
    assert "batch norm over 8 channels saw two values per channel" in found.evidence["reason"]
    assert "give a larger batch" in found.evidence["reason"]


def test_a_part_without_gradient_is_told_why() -> None:
    assert "no gradient passes (no_grad, detach" in _kind("backbone under no_grad").unreached["bb.weight"]
    assert "does not use it" in _kind("a part that is never called").unreached["pooler.weight"]
    assert "no gradient reaches 2 tensors" in _kind("backbone under detach").headline()


def test_several_draws_are_counted() -> None:
    assert _kind("layerdrop by torch").evidence["random_draws"] >= 6
    assert _kind("std + eps").evidence["random_draws"] == 1


def test_an_eps_is_told_by_its_line() -> None:
    for name, value in (("std + eps", 1e-5), ("buffer eps", 1e-4), ("eps by clamp", 1e-4)):
        found = _kind(name)
        assert found.evidence["eps_by_hand"] == [pytest.approx(value)]
        assert re.fullmatch(r"[-.\de]+ at kinds\.py:\d+", found.evidence["eps_sites"][0])


def test_an_eps_outside_of_a_root_falls_as_one_over_c() -> None:
    first, second, third = _kind("norm + eps").evidence["up_to_eps"]["w.weight"]
    assert second == pytest.approx(first * 1e-2, rel=0.3)
    assert third == pytest.approx(second * 1e-2, rel=0.3)


def test_columns_are_called_columns() -> None:
    """And the groups for Sphere carry the dimension."""
    case = next(c for c in KINDS if c.name == "a decoder with unit columns")
    model, inputs = case.build()
    found = find_symmetries(model, inputs, defect=False)
    assert "each column (dimension 1) by itself" in str(found)
    assert found.parameters(model).row_dim == {"dec": 1}
    assert found.to_dict()["row_dim"] == {"dec": 1}


@pytest.mark.filterwarnings("ignore")  # TorchScript is deprecated, and warns when it is copied
@pytest.mark.parametrize("how", ["scripted", "traced", "exported"])
def test_an_eps_that_python_cannot_set(how: str) -> None:
    def unit(h: Tensor) -> Tensor:
        return h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-5)

    function: Any = torch.jit.script(unit) if how == "scripted" else torch.jit.trace(unit, torch.randn(9, 8))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.o = nn.Linear(6, 8, bias=False), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(function(self.w(x)))

    x = cases.normal(9, 6)
    if how == "exported":
        layers = nn.Sequential(nn.Linear(6, 12, bias=False), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 3))
        found = find_symmetries(torch.export.export(layers, (x,)).module(), x)
        assert found.single == ("0.weight",)
        assert [dict(r) for r in found.rescaling] == [{"1.weight": 1, "1.bias": 1, "3.weight": -1}]
    else:
        found = find_symmetries(Net(), x)
        assert found.single == ("w.weight",)
        assert found.evidence["eps_by_hand"] == [1e-5]
    assert found.verdict == "clear"


def test_the_outputs_that_count_are_chosen_in_an_assertion_too() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Linear(6, 8, bias=False)

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            h = self.w(x)
            return {"normed": nn.functional.layer_norm(h, (8,)), "raw": h}

    assert_scale_invariant(Two(), cases.normal(9, 6), ["w.weight"], outputs="normed")
    with pytest.raises(AssertionError, match="of a scale of its own"):
        assert_scale_invariant(Two(), cases.normal(9, 6), ["w.weight"])


def test_a_sparse_parameter_is_refused_in_one_line() -> None:
    sparse = nn.Parameter((torch.rand(6, 8) * (torch.rand(6, 8) < 0.7)).to_sparse())
    net = kinds.Fn(lambda s, x: torch.sparse.mm(s.w.t(), x.t()).t(), w=sparse)
    with pytest.raises(UserError, match=r"parameter 'w' is stored as sparse_coo, .*dense weight"):
        find_symmetries(net, cases.normal(9, 6))


class Heads(nn.Module):
    """Two heads on one trunk, of which a loss may see one."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.b = nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8)
        self.o, self.aux = nn.Linear(8, 3), nn.Linear(6, 2)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"out": self.o(torch.relu(self.b(self.w(x)))), "aux": torch.tanh(self.aux(x))}


def test_a_model_is_converted_for_the_outputs_that_count() -> None:
    torch.manual_seed(0)
    model, x = Heads(), cases.normal(9, 6)
    whole = make_scale_invariant(model, x).conversion
    assert (whole.head, list(whole.kept)) == ("aux.weight", ["o.weight", "o.bias"])
    one = make_scale_invariant(model, x, outputs="out").conversion
    assert one.head == "o.weight"
    assert set(one.kept) <= {"aux.weight", "aux.bias"}
    assert one.found is not None
    assert one.found.single == ("w.weight",)


def test_a_forward_that_refuses_moved_weights_is_said_to() -> None:
    """Its limit lies so near that nothing can be tested: one line, not the model's traceback."""
    free, _ = kinds.built(lambda: practice.guarded(1e9), kinds.X)()
    limit = 1.0001 * float(free.get_submodule("w")(kinds.X).detach().abs().max())
    model, inputs = kinds.built(lambda: practice.guarded(limit), kinds.X)()
    with pytest.raises(UserError, match=r"the forward refuses the weights.*FloatingPointError: activations explode"):
        find_symmetries(model, inputs)


@pytest.mark.parametrize("transposed", [False, True])
def test_two_parameters_on_one_memory_are_refused(transposed: bool) -> None:
    """Tied by their data, a factor on one is on the other: as two tensors they would have other symmetries."""
    model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.LayerNorm(8), nn.Linear(8, 6, bias=False))
    if transposed:
        model[2].weight = nn.Parameter(model[0].weight.data.t())
    else:
        model[2] = nn.Linear(6, 8, bias=False)
        model[2].weight.data = model[0].weight.data
        model.insert(2, nn.Linear(8, 6, bias=False))
    with pytest.raises(UserError, match="two on one memory"):
        find_symmetries(model, torch.randn(4, 6))
