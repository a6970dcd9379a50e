from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleinv.errors import UserError
from scaleinv.lab.config import LATER, RunConfig, Settings, check
from scaleinv.lab.data import DATASETS, load_dataset
from scaleinv.lab.data.dataset import SPECS
from scaleinv.lab.resolve import resolve
from scaleinv.runfolder.stored import complete

CONFIG = RunConfig(
    data="digits",
    data_fingerprint="0" * 64,
    model="mlp",
    variant="si",
    normalization="batch",
    norm_eps=1e-5,
    width=8,
    head_norm=10.0,
    loss="ce",
    batch_size=16,
    steps=10,
    elr=0.1,
    lr=None,
    other_lr=0.0,
    optimizer="sgd",
    momentum=0.0,
    weight_decay=0.0,
    gradient="batch",
    schedule="constant",
    warmup=0,
    fix_norm=False,
    radius=None,
    start=None,
    granularity="total",
    subset=None,
    label_noise=0.0,
    augment=False,
    seed=0,
    evaluation="exact",
    eval_every=None,
    recompute_bn=False,
    record_steps=False,
    keep_every=None,
    threads=1,
    classes=10,
    chance_error=0.9,
    constant_loss=math.log(10),
)
DERIVED: dict[str, Any] = {"classes": 4, "chance_error": 0.75, "constant_loss": math.log(4)}
OTHER: dict[str, Any] = {
    "data": "mnist",
    "data_fingerprint": "1" * 64,
    "model": "convnet",
    "variant": "standard",
    "normalization": "layer",
    "norm_eps": 1e-6,
    "width": 9,
    "head_norm": 11.0,
    "loss": "mse",
    "batch_size": 17,
    "steps": 11,
    "elr": 0.2,
    "lr": 0.1,
    "other_lr": 0.1,
    "optimizer": "adamw",
    "momentum": 0.9,
    "gradient": "full",
    "schedule": "cosine",
    "warmup": 3,
    "fix_norm": True,
    "radius": 2.0,
    "start": "2" * 64,
    "record_steps": True,
    "keep_every": 2,
    "weight_decay": 1e-4,
    "granularity": "group",
    "subset": 100,
    "label_noise": 0.1,
    "augment": True,
    "seed": 1,
    "evaluation": "online",
    "eval_every": 2,
    "recompute_bn": True,
    "threads": 2,
    "problem": "mine",
    "weights": "3" * 64,
    "optimizer_args": '{"betas": [0.9, 0.95]}',
    "law": "normalised",
    "device": "cuda",
    "nondeterministic": True,
}


def test_every_field_but_the_derived_ones_is_part_of_the_identity() -> None:
    names = {field.name for field in dataclasses.fields(RunConfig)}
    assert names == OTHER.keys() | DERIVED.keys()
    identities = {dataclasses.replace(CONFIG, **{name: value}).identity() for name, value in OTHER.items()}
    assert len({*identities, CONFIG.identity()}) == len(OTHER) + 1


def test_later_fields_are_stored_where_they_are_used_alone() -> None:
    """So that the names of runs, and the folders of older versions, stay what they were."""
    assert not set(LATER) & CONFIG.to_dict().keys()
    used = dataclasses.replace(CONFIG, **{name: OTHER[name] for name in LATER})
    assert {name: used.to_dict()[name] for name in LATER} == {name: OTHER[name] for name in LATER}
    assert RunConfig.from_dict(used.to_dict()) == used
    assert RunConfig.from_dict(CONFIG.to_dict()) == CONFIG


def test_the_identity_is_stable() -> None:
    """A changed identity orphans every folder that was ever written: change FORMAT with it, knowingly."""
    assert CONFIG.identity() == dataclasses.replace(CONFIG).identity()
    assert CONFIG.identity() == "d66635c7bbe62ac0"


def test_what_data_and_loss_decide_is_no_part_of_the_identity() -> None:
    other = dataclasses.replace(CONFIG, **DERIVED)
    assert other.identity() == CONFIG.identity()
    assert other == CONFIG  # the last bit of a logarithm differs between machines
    assert other.to_dict() != CONFIG.to_dict()


def old(**change: Any) -> dict[str, Any]:
    """The config of a folder written before the derived fields were part of it."""
    return {**{name: value for name, value in CONFIG.to_dict().items() if name not in DERIVED}, **change}


@pytest.mark.parametrize("name", DATASETS)
def test_an_older_config_of_a_set_of_the_package_is_completed(name: str) -> None:
    classes = SPECS[name].classes
    found = RunConfig.from_dict(old(data=name))
    assert (found.classes, found.chance_error, found.constant_loss) == (classes, 1 - 1 / classes, math.log(classes))
    assert found.identity() == dataclasses.replace(CONFIG, data=name).identity()
    squared = RunConfig.from_dict(old(data=name, loss="mse"))
    assert squared.constant_loss == (classes - 1) / classes**2


def test_an_older_config_of_other_data_says_what_is_missing() -> None:
    with pytest.raises(UserError, match="'classes' is missing, and 'mine' is no data set of scaleinv") as caught:
        RunConfig.from_dict(old(data="mine"))
    assert "\n" not in str(caught.value)
    found = RunConfig.from_dict(old(data="mine", classes=4))  # as it says
    assert (found.classes, found.chance_error, found.constant_loss) == (4, 0.75, math.log(4))


def test_what_is_stated_is_not_completed() -> None:
    told = {"data": "digits", "loss": "ce", "classes": 4, "chance_error": 0.3, "constant_loss": None}
    assert complete(told) == told
    assert complete({"source": "monitor"}) == {"source": "monitor"}
    assert complete({"data": ["digits"], "classes": True}) == {"data": ["digits"], "classes": True}


def test_one_and_one_point_zero_are_one_config() -> None:
    assert dataclasses.replace(CONFIG, elr=1).identity() == dataclasses.replace(CONFIG, elr=1.0).identity()
    assert RunConfig.from_dict({**CONFIG.to_dict(), "elr": 1}) == dataclasses.replace(CONFIG, elr=1.0)


@given(elr=st.floats(min_value=1e-300, max_value=1e300), seed=st.integers(0, 2**63 - 1))
def test_json_round_trip(elr: float, seed: int) -> None:
    config = dataclasses.replace(CONFIG, elr=elr, seed=seed)
    again = RunConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert again == config
    assert again.identity() == config.identity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 1}, "unknown field 'colour'"),
        ({"elr": math.nan}, "elr is nan"),
        ({"elr": math.inf}, "elr is inf"),
        ({"elr": "0.1"}, "elr is '0.1'"),
        ({"width": 8.0}, "width is 8.0"),
        ({"width": True}, "width is True"),
        ({"width": None}, "width is None"),
        ({"augment": 1}, "augment is 1"),
        ({"steps": [1]}, r"steps is \[1\]"),
    ],
)
def test_from_dict_refuses(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        RunConfig.from_dict({**CONFIG.to_dict(), **change}, "here/config.json")
    assert str(caught.value).startswith("here/config.json: ")


def test_from_dict_refuses_a_missing_field() -> None:
    fields = CONFIG.to_dict()
    del fields["threads"]
    with pytest.raises(UserError, match="'threads' is missing"):
        RunConfig.from_dict(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"elr": None}, "give one of --elr"),
        ({"lr": 0.1}, "give one of --elr"),
        ({"elr": 0.0}, r"elr 0.0 is not a positive number"),
        ({"elr": -1.0}, "elr -1.0"),
        ({"elr": math.nan}, "elr nan"),
        ({"elr": 1e31}, "beyond float32"),
        ({"elr": None, "lr": math.inf}, "lr inf"),
        ({"other_lr": -0.1}, "other-lr -0.1"),
        ({"other_lr": None}, "other-lr is missing"),
        ({"weight_decay": 1e-4}, "only sets another ELR"),
        ({"weight_decay": math.nan}, "weight-decay nan"),
        ({"momentum": 1.0}, "momentum 1.0"),
        ({"momentum": math.nan}, "momentum nan"),
        ({"granularity": "layer"}, "unknown granularity 'layer'"),
        ({"evaluation": "sometimes"}, "unknown evaluation 'sometimes'"),
        ({"loss": "hinge"}, "unknown loss 'hinge'"),
        ({"steps": 0}, "steps 0"),
        ({"batch_size": 1}, "batch-size 1"),
        ({"threads": 0}, "threads 0"),
        ({"eval_every": 0}, "eval-every 0"),
        ({"classes": 1}, "classes 1 is not at least two classes"),
        ({"chance_error": 1.0}, "chance-error 1.0"),
        ({"constant_loss": 0.0}, "constant-loss 0.0"),
        ({"seed": -1}, "seed -1"),
        ({"seed": 2**63}, "seed 9223372036854775808"),
    ],
)
def test_check_refuses(change: dict[str, Any], message: str) -> None:
    check(CONFIG)
    with pytest.raises(UserError, match=message) as caught:
        check(dataclasses.replace(CONFIG, **change))
    assert "\n" not in str(caught.value)


def test_defaults_are_filled() -> None:
    digits = load_dataset("digits")
    config = resolve(Settings(), digits, elr=0.1, lr=None, seed=0, threads=1)
    assert (config.model, config.width, config.batch_size, config.steps) == ("convnet", 8, 16, 60 * 90)
    assert config.other_lr == 0
    assert config.data_fingerprint == digits.fingerprint
    standard = resolve(Settings(variant="standard", epochs=2), digits, elr=0.1, lr=None, seed=0, threads=1)
    assert (standard.other_lr, standard.steps) == (0.1, 180)
    whole = resolve(Settings(variant="standard", steps=5), digits, elr=None, lr=0.3, seed=0, threads=1)
    assert (whole.other_lr, whole.steps) == (None, 5)  # None: follows lr, in a sweep over lr too
