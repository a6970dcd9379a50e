"""Subset, label noise, normalisation, fingerprint and bad input of `load_dataset`."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from scaleinv.errors import UserError
from scaleinv.lab.data import DATASETS, load_dataset


def test_subset_is_the_first_n_and_the_test_set_stays_whole() -> None:
    whole, part = load_dataset("digits"), load_dataset("digits", subset=100)
    assert torch.equal(part.train_images, whole.train_images[:100])
    assert torch.equal(part.train_labels, whole.train_labels[:100])
    assert torch.equal(part.test_images, whole.test_images)
    assert part.train_images.untyped_storage().nbytes() == 100 * 64 * 4  # the rest is not held
    assert load_dataset("digits", subset=1437).fingerprint == whole.fingerprint


def test_without_test() -> None:
    data = load_dataset("digits", with_test=False)
    assert data.test_images.shape == (0, 1, 8, 8)
    assert data.test_labels.shape == (0,)


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_label_noise_is_symmetric(fraction: float) -> None:
    clean = load_dataset("digits")
    noisy = load_dataset("digits", label_noise=fraction)
    n = len(clean.train_labels)
    wrong = (noisy.train_labels != clean.train_labels).sum().item()
    count = round(fraction * n)  # each of them is wrong with probability 9/10
    assert abs(wrong - 0.9 * count) < 4 * math.sqrt(count * 0.09)
    assert torch.equal(noisy.test_labels, clean.test_labels)
    assert torch.equal(noisy.train_images, clean.train_images)
    if fraction == 1.0:
        counts = torch.bincount(noisy.train_labels, minlength=10).double()
        chi2 = ((counts - n / 10) ** 2 / (n / 10)).sum().item()  # 9 degrees of freedom: sd sqrt(18)
        assert chi2 < 9 + 4 * math.sqrt(18)


def test_noise_is_a_function_of_its_seed() -> None:
    a, again, b = (load_dataset("digits", label_noise=0.5, noise_seed=s) for s in (1, 1, 2))
    assert torch.equal(a.train_labels, again.train_labels)
    assert not torch.equal(a.train_labels, b.train_labels)
    # the order is part of what a run is: pinned
    assert load_dataset("digits", subset=12, label_noise=1.0).train_labels.tolist() == PINNED


def test_fingerprint_tells_what_is_used() -> None:
    loads: list[dict[str, Any]] = [
        {}, {"subset": 100}, {"subset": 101}, {"with_test": False}, {"label_noise": 0.1},
        {"label_noise": 0.1, "noise_seed": 1},
    ]  # fmt: skip
    prints = [load_dataset("digits", **kwargs).fingerprint for kwargs in loads]
    assert len(set(prints)) == len(prints)
    assert prints == [load_dataset("digits", **kwargs).fingerprint for kwargs in loads]
    assert prints[0] == load_dataset("digits", noise_seed=5).fingerprint  # without noise its seed does nothing
    assert all(len(p) == 64 for p in prints)


def test_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_dataset("digits").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"name": "imagenet"}, "'imagenet'; choose one of: digits, mnist, fashion-mnist, cifar10, cifar100"),
        ({"name": "digits", "subset": 1438}, "subset 1438 of digits is impossible: choose 2 to 1437"),
        ({"name": "cifar10", "subset": 50001}, "subset 50001 of cifar10 is impossible: choose 2 to 50000"),
        ({"name": "digits", "subset": 1}, "subset 1 of digits"),
        ({"name": "digits", "subset": -5}, "subset -5 of digits"),
        ({"name": "digits", "label_noise": 1.1}, "label noise 1.1 is no fraction"),
        ({"name": "digits", "label_noise": -0.1}, "label noise -0.1 is no fraction"),
        ({"name": "digits", "label_noise": math.nan}, "label noise nan is no fraction"),
        ({"name": "digits", "label_noise": 0.5, "noise_seed": -1}, "seed -1 is outside"),
        ({"name": "mnist", "data_dir": "/nowhere/at/all"}, "data folder /nowhere/at/all does not exist"),
        ({"name": "mnist"}, "mnist needs a data folder: set SCALEINV_DATA to it or give --data-dir"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(kwargs: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCALEINV_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "/nowhere/at/all")
    with pytest.raises(UserError) as caught:
        load_dataset(**kwargs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_names() -> None:
    assert DATASETS == ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100")


PINNED = [0, 8, 4, 8, 3, 1, 7, 8, 5, 4, 1, 2]
