from __future__ import annotations

import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from scaleinv.errors import UserError
from scaleinv.runfolder.checkpoint import DamagedCheckpoint, load_checkpoint, load_newest, load_weights, save_checkpoint
from scaleinv.runfolder.files import sha256
from scaleinv.runfolder.seal import sealed


def network(seed: int = 0) -> nn.Module:
    torch_generator = torch.Generator().manual_seed(seed)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for tensor in net.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=torch_generator))
    return net


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """checkpoints with the steps 1 and 2, and metrics with one and two parts."""
    saved, metrics = tmp_path / "checkpoints", tmp_path / "metrics"
    metrics.mkdir()
    parts = {}
    for step in (1, 2):
        part = metrics / f"part-{step}.parquet"
        part.write_bytes(bytes([step]) * 50)
        parts[part.name] = sha256(part)
        state = {"step": step, "buffer": torch.arange(3.0), "nested": {"list": [1, 2.5, "x"]}}
        save_checkpoint(saved, step=step, parts=parts, weights=network(step).state_dict(), state=state)
    return saved, metrics


def test_what_is_saved_is_loaded(folders: tuple[Path, Path]) -> None:
    found, complaints = load_newest(*folders)
    assert found is not None
    assert (found.step, complaints, list(found.parts)) == (2, [], ["part-1.parquet", "part-2.parquet"])
    net = network(0)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    load_weights(net, found.weights)
    wanted = network(2).state_dict()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in net.state_dict().items())
    # restored as contiguous it would run other kernels and give other bits
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert not net[0].weight.is_contiguous()
    assert found.state["nested"] == {"list": [1, 2.5, "x"]}
    assert torch.equal(found.state["buffer"], torch.arange(3.0))


def damage(path: Path, how: str, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    if how == "missing":
        path.unlink()
        return
    if how == "empty":
        content.clear()
    elif how == "truncated":
        del content[draw.randrange(len(content)) :]
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "flipped"])
@pytest.mark.parametrize(
    "name",
    ["checkpoints/step-000000002/weights.safetensors", "checkpoints/step-000000002/state.pt", "metrics/part-2.parquet"],
)
def test_the_one_before_is_used_and_said(folders: tuple[Path, Path], name: str, how: str) -> None:
    damage(folders[0].parent / name, how, random.Random(name + how))
    found, complaints = load_newest(*folders)
    assert found is not None
    assert found.step == 1
    (complaint,) = complaints
    assert complaint.startswith("checkpoint step-000000002 is damaged (")
    assert Path(name).name in complaint
    assert complaint.endswith(") and is passed over")
    # it does not count any more, and it is not complained about again
    assert sorted(p.name for p in folders[0].iterdir()) == ["damaged-step-000000002", "step-000000001"]
    assert load_newest(*folders)[1] == []


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_of_the_manifest(folders: tuple[Path, Path], seed: int) -> None:
    """It is found, or it was in the spaces between: never does the state belong to another step."""
    damage(folders[0] / "step-000000002" / "manifest.json", "flipped", random.Random(seed))
    found, complaints = load_newest(*folders)
    assert found is not None
    assert (found.step, len(complaints), found.state["step"]) in ((1, 1, 1), (2, 0, 2))


@pytest.mark.parametrize("content", ["", "null", "[]", "{}", '{"step": 2}', '{"step": 2, "sha256": 3, "parts": {}}'])
def test_a_manifest_that_is_none(folders: tuple[Path, Path], content: str) -> None:
    (folders[0] / "step-000000002" / "manifest.json").write_text(content)
    found, complaints = load_newest(*folders)
    assert found is not None
    assert (found.step, len(complaints)) == (1, 1)


def test_nothing_whole_is_left(folders: tuple[Path, Path]) -> None:
    for step in (1, 2):
        (folders[0] / f"step-{step:09d}" / "state.pt").unlink()
    found, complaints = load_newest(*folders)
    assert found is None
    assert len(complaints) == 2


def test_a_pickle_is_never_executed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    """Checksums right, content hostile: the state is read with weights_only."""

    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "boom"),))  # type: ignore[return-value]

    folder = folders[0] / "step-000000002"
    torch.save({"bomb": Bomb()}, folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["state.pt"] = sha256(folder / "state.pt")
    (folder / "manifest.json").write_text(json.dumps(sealed(manifest)))
    with pytest.raises(DamagedCheckpoint, match="UnpicklingError"):
        load_checkpoint(folder)
    assert not (tmp_path / "boom").exists()


def test_the_newest_two_stay(folders: tuple[Path, Path]) -> None:
    saved = folders[0]
    (saved / ".step-000000001.part").mkdir()  # left by a killed process
    save_checkpoint(saved, step=3, parts={}, weights=network().state_dict(), state={})
    assert sorted(p.name for p in saved.iterdir()) == ["step-000000002", "step-000000003"]
    save_checkpoint(saved, step=3, parts={}, weights=network(5).state_dict(), state={"again": True})
    assert sorted(p.name for p in saved.iterdir()) == ["step-000000002", "step-000000003"]
    assert load_checkpoint(saved / "step-000000003").state == {"again": True}


@pytest.mark.parametrize("stage", ["mkdir", "write", "fsync", "rename"])
def test_a_full_disk_leaves_the_ones_before(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, stage, full)
    with pytest.raises(UserError, match=r"cannot write .*step-000000003: .*intact; free the disk") as caught:
        save_checkpoint(folders[0], step=3, parts={}, weights=network().state_dict(), state={})
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert sorted(p.name for p in folders[0].iterdir()) == ["step-000000001", "step-000000002"]
    found, complaints = load_newest(*folders)
    assert found is not None
    assert (found.step, complaints) == (2, [])


def test_weights_of_another_network(folders: tuple[Path, Path]) -> None:
    found, _ = load_newest(*folders)
    assert found is not None
    other = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5))  # the same names, other shapes
    for net in (other, nn.Linear(2, 2)):
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        with pytest.raises(DamagedCheckpoint, match="another network"):
            load_weights(net, found.weights)
        assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_no_folder(tmp_path: Path) -> None:
    assert load_newest(tmp_path / "none", tmp_path) == (None, [])
    shutil.rmtree(tmp_path)
