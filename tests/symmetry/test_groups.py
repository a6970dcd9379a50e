"""What to decay: groups for an optimizer with a reason for each tensor, and what its present groups do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from tests.cases import normal, tokens
from torch import Tensor, nn
from torch.nn import functional

from scaleinv import UserError, find_symmetries, param_groups, review_optimizer
from scaleinv.symmetry.groups import ParamGroups
from scaleinv.symmetry.render_optimizer import group_rows


class Attention(nn.Module):
    """A pre-norm block with a fused qkv, qk-norm with gains, a stream that ends in a norm, and a tied head."""

    def __init__(self, tied: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24, bias=False)
        self.q_norm, self.k_norm = nn.RMSNorm(8), nn.RMSNorm(8)
        self.out = nn.Linear(8, 8)
        self.last = nn.LayerNorm(8)
        self.head = nn.Linear(8, 11, bias=False)
        if tied:
            self.head.weight = self.table.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = self.table(ids)
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + self.out(functional.scaled_dot_product_attention(self.q_norm(q), self.k_norm(k), v))
        return self.head(self.last(x))


def bn_net() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
    )


def made(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return build()


def by_name(groups: ParamGroups) -> dict[str, set[str]]:
    return {f"{g['name']} {g['weight_decay']:g}": set(names) for g, names in zip(groups, groups.tensors)}


def test_batch_norm() -> None:
    """Layers in front of a norm decay, dead biases do not; the first affine pair is scale-invariant by itself."""
    net = made(bn_net)
    groups = param_groups(net, normal(16, 6), lr=0.1, weight_decay=0.01)
    assert by_name(groups) == {
        "scale-invariant 0.01": {"0.weight", "3.weight"},
        "own scale 0.01": {"6.weight"},
        "gains and biases 0": {"1.weight", "1.bias", "4.weight", "4.bias", "6.bias"},
        "dead 0": {"0.bias", "3.bias"},
    }
    reason = {name: role.reason for name, role in groups.roles.items()}
    assert reason["1.weight"].startswith("gain and bias of one norm, scale-invariant together: decay")
    assert reason["4.bias"].startswith("input side of 6.weight")
    assert "4.weight, 4.bias" in reason["6.weight"]
    assert "scale of its own" in reason["6.bias"]
    gains = param_groups(net, normal(16, 6), lr=0.1, weight_decay=0.01, decay_gains=True)
    assert {g["name"]: g["weight_decay"] for g in gains}["gains and biases"] == 0.01
    assert {g["name"]: g["weight_decay"] for g in gains}["dead"] == 0


def test_a_bias_that_is_free_with_its_matrix_decays_with_it() -> None:
    net = made(lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)))
    groups = param_groups(net, normal(9, 6), lr=0.1, weight_decay=0.01)
    assert by_name(groups)["scale-invariant 0.01"] == {"0.weight", "0.bias"}
    assert groups.roles["0.bias"].together == ("0.weight", "0.bias")


@pytest.mark.parametrize("tied", [False, True])
def test_attention(tied: bool) -> None:
    """The fused qkv is free in part; a tied table occurs once, and is no longer free with the stream."""
    net = made(lambda: Attention(tied))
    groups = param_groups(net, tokens(11, 4, 6), lr=1e-3, weight_decay=0.1)
    names = by_name(groups)
    assert {"table.weight", "out.weight", "out.bias"} <= (
        names["own scale 0.1"] | names["gains and biases 0"] if tied else names["scale-invariant 0.1"]
    )
    assert groups.roles["qkv.weight"].reason.startswith("fused")
    assert "k_norm.weight" in groups.roles["q_norm.weight"].reason
    held = [p for group in groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(net.parameters()))
    assert ("head.weight" in groups.roles) is not tied


def test_optimizers_take_the_groups_and_decay_leaves_the_function_alone() -> None:
    """One step of nothing but decay on the scale-invariant group moves no output; on all decayed ones it does."""
    net, x = made(bn_net).double(), normal(16, 6).double()
    for module in net:
        if isinstance(module, nn.BatchNorm1d):
            module.eps = 1e-30
    before = net(x).detach()
    for kind, moves in (("scale-invariant", False), ("own scale", True)):
        trial = copy.deepcopy(net)
        groups = param_groups(trial, x, lr=0.1, weight_decay=0.5)
        chosen = [group for group in groups if group["name"] == kind]
        optimizer = torch.optim.AdamW(chosen)
        for p in trial.parameters():
            p.grad = torch.zeros_like(p)
        optimizer.step()
        after = trial(x).detach()
        names = next(names for group, names in zip(groups, groups.tensors) if group["name"] == kind)
        for name in names:
            start, end = net.get_parameter(name).detach().norm(), trial.get_parameter(name).detach().norm()
            assert float(end / start) == pytest.approx(0.95)
        assert (float((after - before).abs().max()) > 1e-3) is moves
        if not moves:
            torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    state = torch.optim.SGD(groups, momentum=0.9).state_dict()
    assert [group["name"] for group in state["param_groups"]] == [group["name"] for group in groups]


def test_frozen_parameters_are_left_out() -> None:
    net = made(bn_net)
    net[6].requires_grad_(False)
    groups = param_groups(net, normal(16, 6), lr=0.1, weight_decay=0.01)
    assert groups.frozen == ("6.weight", "6.bias")
    assert "own scale" not in {group["name"] for group in groups}
    assert "left out, since they require no gradient: 6.weight, 6.bias" in str(groups)
    for p in net.parameters():
        p.requires_grad_(False)
    with pytest.raises(UserError, match="nothing to optimize"):
        param_groups(net, normal(16, 6), lr=0.1, weight_decay=0.01)


def test_the_outputs_that_count_are_chosen_as_in_find_symmetries() -> None:
    """A head that nobody asks about leaves the other one as it is."""
    net = made(lambda: TwoHeads())
    x = normal(16, 6)
    groups = param_groups(net, x, lr=0.1, weight_decay=0.01, outputs=0)
    assert groups.found.dead == ("second.weight",)
    found = find_symmetries(net, x, outputs=0)
    assert groups.tensors == param_groups(net, lr=0.1, weight_decay=0.01, found=found).tensors
    assert not param_groups(net, x, lr=0.1, weight_decay=0.01).found.dead
    review = review_optimizer(net, x, torch.optim.SGD(net.parameters(), lr=0.1), outputs=0)
    assert {t.name for t in review.tensors if t.kind == "dead"} == {"second.weight"}


class TwoHeads(nn.Module):
    """Two results from one normalised layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 8, bias=False), nn.LayerNorm(8)
        self.first, self.second = nn.Linear(8, 3, bias=False), nn.Linear(8, 2, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.tanh(self.norm(self.layer(x)))
        return self.first(h), self.second(h)


def test_an_answer_can_be_used_again_for_this_model_alone() -> None:
    net, x = made(bn_net), normal(16, 6)
    found = find_symmetries(net, x, defect=False)
    again = param_groups(net, lr=0.1, weight_decay=0.01, found=found)
    assert again.tensors == param_groups(net, x, lr=0.1, weight_decay=0.01).tensors
    with pytest.raises(UserError, match="another model"):
        param_groups(nn.Linear(6, 3), lr=0.1, weight_decay=0.01, found=found)
    with pytest.raises(UserError, match="inputs is None"):
        param_groups(net, lr=0.1, weight_decay=0.01)


@pytest.mark.parametrize(("lr", "decay"), [(0.0, 0.1), (float("nan"), 0.1), (0.1, -1.0), (0.1, float("inf"))])
def test_numbers_out_of_range(lr: float, decay: float) -> None:
    with pytest.raises(UserError, match=r"is not a (positive )?number"):
        param_groups(made(bn_net), normal(16, 6), lr=lr, weight_decay=decay)


# -- what an optimizer does ------------------------------------------------------------------------------------------


def test_decay_on_dead_biases_and_gains() -> None:
    net = made(bn_net)
    review = review_optimizer(net, normal(16, 6), torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.1))
    assert review.findings == (
        "weight decay acts on 2 dead biases (0.bias, 3.bias): nothing else moves them; leave them undecayed",
        "weight decay acts on 5 gains and biases (1.weight, 1.bias, 4.weight and 2 more): usual practice leaves them "
        "out, see each",
    )
    effect = {t.name: t.effect for t in review.tensors}
    assert effect["0.bias"] == "only decay moves it"
    assert effect["0.weight"].startswith("decay sets the ELR: at rest 0.00324 rad a step, reached in some 5 000 steps")
    elr = {t.name: t.elr for t in review.tensors}
    assert elr["0.weight"] == pytest.approx(1e-3 / float(net[0].weight.detach().norm()))  # AdamW: lr / rho
    assert elr["6.weight"] is None


def test_what_was_forgotten_what_is_foreign_and_what_is_frozen() -> None:
    net = made(bn_net)
    other = copy.deepcopy(net)
    matrices = [p for p in net.parameters() if p.dim() > 1]
    net[6].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([{"params": matrices}, {"params": [other[0].bias], "lr": 1.0}], lr=0.1)
    review = review_optimizer(net, normal(16, 6), optimizer)
    assert review.forgotten == ("0.bias", "1.weight", "1.bias", "3.bias", "4.weight", "4.bias", "6.bias")
    assert review.frozen == ("6.weight",)
    assert review.foreign == 1
    assert review.findings[0].startswith("7 parameters in no group (0.bias, 1.weight, 1.bias and 4 more; 51 numbers)")
    assert review.findings[1].startswith("1 tensor of the groups is not the model's")
    assert review.findings[2].startswith("no weight decay on 2 scale-invariant tensors (0.weight, 3.weight)")
    sgd = {t.name: t.elr for t in review.tensors}["0.weight"]
    assert sgd == pytest.approx(0.1 / float(net[0].weight.detach().norm()) ** 2)  # SGD: lr / rho^2


def test_decay_on_a_part_of_a_joint_group_changes_the_function() -> None:
    """The usual rule, decay matrices alone, splits a matrix and a bias that are free together."""
    net = made(lambda: nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 3)))
    usual = [
        {"params": [p for p in net.parameters() if p.dim() > 1], "weight_decay": 0.1},
        {"params": [p for p in net.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    review = review_optimizer(net, normal(9, 6), torch.optim.AdamW(usual))
    assert review.findings == (
        "weight decay acts on 1 of 2 tensors that are scale-invariant together (0.weight, not on 0.bias): it does not "
        "only set their ELR, it changes the function",
    )
    groups = param_groups(net, normal(9, 6), lr=1e-3, weight_decay=0.1)
    ours = review_optimizer(net, normal(9, 6), torch.optim.AdamW(groups))
    assert ours.findings == ()
    assert str(ours).startswith("nothing in these groups is worth a change")


def test_several_optimizers() -> None:
    net = made(bn_net)
    matrices = [p for p in net.parameters() if p.dim() > 1]
    vectors = [p for p in net.parameters() if p.dim() < 2]
    both = [torch.optim.SGD(matrices, lr=0.1, weight_decay=1e-3), torch.optim.AdamW(vectors, weight_decay=0.0)]
    review = review_optimizer(net, normal(16, 6), both)
    assert review.findings == ()
    assert {t.name: t.optimizer for t in review.tensors}["3.bias"] == "AdamW"
    for wrong in (None, [], "adamw", [net]):
        with pytest.raises(UserError, match=r"give a torch\.optim\.Optimizer"):
            review_optimizer(net, normal(16, 6), wrong)  # type: ignore[arg-type]


def test_a_joint_group_has_one_reason_and_a_group_one_row() -> None:
    """What is said of all tensors alike is said once: a table of a large model stays short."""
    net = made(lambda: Attention(tied=False))
    groups = param_groups(net, tokens(11, 4, 6), lr=1e-3, weight_decay=0.1)
    stream = groups.roles["table.weight"].together
    assert len(stream) > 2
    assert len({groups.roles[name].reason for name in stream}) == 1
    rows = group_rows(groups)
    assert [row[0].split("\n") for row in rows] == [list(names) for names in groups.tensors]
