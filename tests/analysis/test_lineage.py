"""Where a run started from, in words and as a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scaleinv.runfolder.lineage import Origin, origin_of, parent_run, short_names


def lineage(**other: Any) -> dict[str, Any]:
    told = {"run": "f81c40aabbccddee", "folder": "s1/runs/f81c40aabbccddee", "epoch": 30, "weights": "97" * 32}
    return {**told, "seed": 0, "elr": 0.016, **other}


def origin(**other: Any) -> Origin:
    found = origin_of(lineage(**other))
    assert found is not None
    return found


def test_words_name_the_run_and_its_folder() -> None:
    one = origin()
    assert one.short() == "ELR 0.016 seed 0"
    assert one.full() == "ELR 0.016, seed 0, epoch 30 (s1/runs/f81c40…)"
    assert one.full(whole=True).endswith("(s1/runs/f81c40aabbccddee)")
    assert origin(folder="/data/sphere/runs/fan/runs/f81c40aabbccddee").full().endswith("(…/runs/fan/runs/f81c40…)")
    assert origin(folder="runs/first").full().endswith("(runs/first)")
    whole_space = origin_of({**lineage(elr=None), "lr": 0.3})
    assert whole_space is not None
    assert whole_space.short() == "LR 0.3 seed 0"


def test_an_identity_is_said_only_where_it_is_needed() -> None:
    same_rate = [origin(), origin(weights="b", seed=1)]
    assert list(short_names(same_rate).values()) == ["ELR 0.016 seed 0", "ELR 0.016 seed 1"]
    twins = [origin(), origin(weights="b", run="03bd12cc")]
    assert list(short_names(twins).values()) == ["ELR 0.016 seed 0 f81c40", "ELR 0.016 seed 0 03bd12"]
    epochs = [origin(), origin(weights="b", epoch=10)]
    assert list(short_names(epochs).values()) == ["ELR 0.016 seed 0 f81c40@30", "ELR 0.016 seed 0 f81c40@10"]


def test_a_lineage_that_says_little() -> None:
    assert origin_of(None) is origin_of({}) is origin_of({"weights": 3}) is None
    bare = origin_of({"weights": "97", "run": "f81c40aabb", "elr": "?", "epoch": "x"})
    assert bare is not None
    assert (bare.short(), bare.full()) == ("run f81c40", "run f81c40")
    assert parent_run(bare, Path()) is None


def test_the_parent_is_found_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = origin()
    folder = tmp_path / one.folder
    folder.mkdir(parents=True)
    head = {"format": 3, "config": {"elr": 0.016}, "identity": one.run}
    (folder / "config.json").write_text(json.dumps(head))
    monkeypatch.chdir("/")
    beside = tmp_path / "s2"
    found = parent_run(one, beside)
    assert found is not None
    assert found.identity == one.run
    (folder / "config.json").write_text(json.dumps({**head, "identity": "another"}))
    assert parent_run(one, beside) is None
    (folder / "config.json").write_text("{")
    assert parent_run(one, beside) is None
    assert parent_run(origin(folder="a\0b"), beside) is None
