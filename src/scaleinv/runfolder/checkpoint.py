"""Write and load checkpoints: a folder per step with weights, training state, checksums, renamed into place as one.

Weights are safetensors; the rest is a torch file read with ``weights_only=True``. On loading, every tensor is copied
into the one that is there, so its memory format stays: channels_last restored as contiguous changes kernels and bits.
"""

import json
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaleinv.runfolder.files import disk_errors, sha256, sync

KEEP = 2  #: newest checkpoints that stay on disk
FILES = ("weights.safetensors", "state.pt")
#: what reading a file that is not what it should be raises, besides Python's own
_FOREIGN = (SafetensorError, RuntimeError, pickle.UnpicklingError)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were right."""

    folder: Path
    step: int
    parts: dict[str, str]  # metrics files that belong to it, with the sha256 of each
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    parts: Mapping[str, str],
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any],
    keep: int = KEEP,
) -> None:
    """Write the checkpoint of ``step`` and drop all but the newest ``keep``."""
    target = folder / _name(step)
    part = folder / f".{target.name}.part"
    with disk_errors(target):
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            write_weights(part / "weights.safetensors", weights)
            torch.save(dict(state), part / "state.pt")
            files = {name: sha256(part / name) for name in FILES}
            manifest = {"step": step, "parts": dict(parts), "sha256": files}
            (part / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
            for name in (*files, "manifest.json"):
                sync(part / name)
            if target.exists():
                target.rename(set_aside(target, "replaced"))
            part.rename(target)
        except SafetensorError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise OSError(None, str(error)) from error
        except (OSError, RuntimeError) as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, OSError):
                raise
            raise OSError(None, str(error).splitlines()[0]) from error  # torch.save on a full disk
        for old in list_checkpoints(folder)[keep:]:
            shutil.rmtree(old, ignore_errors=True)
        for left in (*folder.glob(".step-*.part"), *folder.glob("replaced-*")):  # of a killed process, or just replaced
            shutil.rmtree(left, ignore_errors=True)


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write a file of safetensors, which keeps values, not strides: they are stored contiguous."""
    save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, path)


def set_aside(path: Path, why: str) -> Path:
    """Free a name for a checkpoint that does not count any more; what had the name before is removed."""
    aside = path.with_name(f"{why}-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    return aside


def _name(step: int) -> str:
    return f"step-{step:09d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoint folders, the newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def load_newest(folder: Path, metrics: Path) -> tuple[Checkpoint | None, list[str]]:
    """Load the newest checkpoint that is whole, its parts in ``metrics`` too; a sentence for every newer one.

    What is not whole is renamed to ``damaged-step-...``: it neither counts as one of those kept nor is it lost.
    """
    complaints: list[str] = []
    for path in list_checkpoints(folder):
        try:
            checkpoint = load_checkpoint(path)
            for name, expected in checkpoint.parts.items():
                _verify(metrics / name, expected)
            return checkpoint, complaints
        except DamagedCheckpoint as error:
            complaints.append(f"checkpoint {path.name} is damaged ({error}) and is passed over")
            with disk_errors(path):
                path.rename(set_aside(path, "damaged"))
    return None, complaints


class DamagedCheckpoint(Exception):
    """A file of the checkpoint is missing, truncated or not what was written."""


def _verify(path: Path, expected: str) -> None:
    try:
        actual = sha256(path)
    except OSError as error:
        raise DamagedCheckpoint(f"{path.parent.name}/{path.name}: {error.strerror}") from error
    if actual != expected:
        raise DamagedCheckpoint(f"the checksum of {path.parent.name}/{path.name} is wrong")


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint; raises :class:`DamagedCheckpoint`."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        if path.name != _name(manifest["step"]):  # the only number in the manifest that no checksum guards
            raise DamagedCheckpoint("the step in manifest.json is not its own")
        for name in FILES:
            _verify(path / name, manifest["sha256"][name])
        parts = {str(name): str(checksum) for name, checksum in manifest["parts"].items()}
        weights = load_file(path / "weights.safetensors")
        state = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
        return Checkpoint(path, int(manifest["step"]), parts, weights, state)
    except (OSError, LookupError, ValueError, TypeError, AttributeError, EOFError, *_FOREIGN) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy ``weights`` into the model's parameters and buffers, which keep their memory format and device."""
    own = model.state_dict()
    if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in weights.items()}:
        raise DamagedCheckpoint("it holds the weights of another network")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
