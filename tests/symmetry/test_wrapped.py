"""Models as they stand in training code: wrapped, sharded, half precision, with several outputs; and those refused."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cases import normal
from torch import Tensor, nn

from scaleinv.errors import UserError
from scaleinv.symmetry import Symmetries, find_symmetries
from scaleinv.symmetry.outputs import chosen

X = normal(10, 6)


def net() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8, affine=False), nn.ReLU(), nn.Linear(8, 3))


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    distributed = torch.distributed
    if not distributed.is_available():
        pytest.skip("torch is built without distributed")
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def _right(found: Symmetries, model: nn.Module) -> None:
    names = [name for name, _ in model.named_parameters()]
    assert found.verdict == "clear"
    assert list(found.shapes) == names
    assert found.single == (names[0],) == found.row
    assert found.dead == (names[1],)
    assert found.fixed == (names[2], names[3])
    assert found.parameters(model)[names[0]][0] is dict(model.named_parameters())[names[0]]


@pytest.mark.parametrize("wrapper", [nn.DataParallel, torch.optim.swa_utils.AveragedModel])
def test_wrappers_are_looked_through(wrapper: Any) -> None:
    model = wrapper(net())
    _right(find_symmetries(model, X), model)


@pytest.mark.filterwarnings("ignore")
def test_distributed_data_parallel(one_process: None) -> None:
    model = nn.parallel.DistributedDataParallel(net())
    _right(find_symmetries(model, X), model)


def test_a_synchronised_batch_norm_needs_no_gpu() -> None:
    model = nn.SyncBatchNorm.convert_sync_batchnorm(net())
    _right(find_symmetries(model, X), model)
    assert isinstance(model[1], nn.SyncBatchNorm)


@pytest.mark.filterwarnings("ignore")
def test_fully_sharded(one_process: None) -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    model = net()
    fsdp.fully_shard(model[0], mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    found = find_symmetries(model, X)
    assert found.verdict == "clear"
    assert found.single == ("0.weight",)
    assert found.dead == ("0.bias",)
    assert model(X).shape == (10, 3)  # the user's model still shards and runs


@pytest.mark.filterwarnings("ignore")
def test_a_part_that_is_compiled() -> None:
    model = net()
    model[0] = torch.compile(model[0])
    model[3].compile()
    _right(find_symmetries(model, X), model)


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_function_inside() -> None:
    unit = torch.compile(lambda h: h / (h.norm(dim=-1, keepdim=True) + 1e-6))

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w, self.o = nn.Linear(6, 8, bias=False), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(unit(self.w(x)))

    assert find_symmetries(Net(), X).single == ("w.weight",)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_float_inputs(dtype: torch.dtype) -> None:
    model = net().to(dtype)
    _right(find_symmetries(model, X), model)


def test_parts_in_two_precisions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(6, 8, bias=False).bfloat16()
            self.n = nn.LayerNorm(8, elementwise_affine=False)
            self.o = nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.o(self.n(self.a(x.bfloat16()).float()))

    found = find_symmetries(Net(), X)
    assert found.verdict == "clear"
    assert found.single == ("a.weight",)


class Two(nn.Module):
    """An encoder's state beside the logits, as T5 returns it: the logits have no scale, the state has."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.enc, self.head, self.form = nn.Linear(6, 8, bias=False), nn.Linear(8, 3), form

    def forward(self, x: Tensor) -> Any:
        h = self.enc(x)
        logits = self.head(nn.functional.layer_norm(h, (8,)))
        if self.form == "dict":
            return {"loss": None, "logits": logits, "encoder_last_hidden_state": h}
        return logits, h


def test_the_outputs_that_the_loss_sees() -> None:
    assert find_symmetries(Two("dict"), X).single == ("enc.weight",)
    assert find_symmetries(Two("dict"), X, outputs=("logits", "encoder_last_hidden_state")).single == ()
    assert find_symmetries(Two("tuple"), X).single == ()
    for outputs in (0, "0", [0], lambda result: result[0]):
        assert find_symmetries(Two("tuple"), X, outputs=outputs).single == ("enc.weight",)
    with pytest.raises(UserError, match="has no output 'scores'; it gives: logits, encoder_last_hidden_state"):
        find_symmetries(Two("dict"), X, outputs="scores")
    assert chosen({"loss": torch.ones(()), "start_logits": torch.ones(2), "attentions": torch.ones(3)})[1] == (
        "loss",
        "start_logits",
    )


def _meta() -> nn.Module:
    with torch.device("meta"):
        return net()


class _Packed(nn.Module):
    """Weights as whole numbers, as 8-bit libraries hold them."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 6, dtype=torch.int8), requires_grad=False)
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.float().t() * self.scale


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_meta, "'0.weight' is on the meta device and has no values"),
        (_Packed, "'weight' is of int8: quantised weights have no factor"),
        (lambda: torch.ao.quantization.quantize_dynamic(net(), {nn.Linear}), r"'0' \(Linear\) is quantised"),
    ],
)
def test_models_without_weights_to_scale(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        find_symmetries(make(), X)
    assert "\n" not in str(caught.value)


def test_a_model_that_runs_in_its_own_precision_alone() -> None:
    class Fussy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(6, 4))

        def forward(self, x: Tensor) -> Tensor:
            if self.w.dtype is not torch.float32:
                raise TypeError("kernel for float only")
            return x @ self.w

    with pytest.raises(UserError, match="fails in double precision, in which it is searched: TypeError: kernel for"):
        find_symmetries(Fussy(), X)


def test_what_the_doctor_touches_stays_as_it_was() -> None:
    """Attributes, generators and buffers of the user's model, and the generators of torch, numpy and Python."""
    model = net()
    model.count, model.seen = 3, [1]
    model.dice = torch.Generator().manual_seed(4)
    before = copy.deepcopy(model.state_dict())
    state = model.dice.get_state()
    find_symmetries(model, X)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert torch.equal(model.dice.get_state(), state)
    assert (model.count, model.seen) == (3, [1])
