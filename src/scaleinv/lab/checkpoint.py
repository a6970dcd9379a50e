"""Checkpoints: a folder per step with weights, training state and a manifest of checksums, renamed into place as one.

Weights are safetensors; the rest is a torch file read with ``weights_only=True``. On loading, every tensor is copied into the one
that is there, so its memory format stays: a channels_last weight restored as contiguous would change the kernels and the bits.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from scaleinv.lab.files import disk_errors, sha256

KEEP = 2  #: newest checkpoints that stay on disk


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose checksums were right."""

    folder: Path
    step: int
    parts: tuple[str, ...]  # metrics files that belong to it
    weights: dict[str, Tensor]
    state: dict[str, Any]


def save_checkpoint(
    folder: Path, *, step: int, parts: tuple[str, ...], weights: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """Write the checkpoint of ``step`` and drop all but the newest :data:`KEEP`."""
    target = folder / f"step-{step:09d}"
    part = folder / f".step-{step:09d}.part"
    with disk_errors(target):
        try:
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            # safetensors keeps values, not strides: store them contiguous
            save_file({k: v.detach().cpu().contiguous() for k, v in weights.items()}, part / "weights.safetensors")
            torch.save(dict(state), part / "state.pt")
            files = {name: sha256(part / name) for name in ("weights.safetensors", "state.pt")}
            manifest = {"step": step, "parts": list(parts), "sha256": files}
            (part / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
            for name in (*files, "manifest.json"):
                with (part / name).open("rb") as handle:
                    os.fsync(handle.fileno())
            if target.exists():
                shutil.rmtree(target)
            part.rename(target)
        except SafetensorError as error:
            shutil.rmtree(part, ignore_errors=True)
            raise OSError(None, str(error)) from error
        except (OSError, RuntimeError) as error:
            shutil.rmtree(part, ignore_errors=True)
            if isinstance(error, OSError):
                raise
            raise OSError(None, str(error).splitlines()[0]) from error  # torch.save on a full disk
        for old in list_checkpoints(folder)[KEEP:]:
            shutil.rmtree(old, ignore_errors=True)


def list_checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, the newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir()), reverse=True)


def load_newest(folder: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and a sentence for every newer one that is not."""
    complaints = []
    for path in list_checkpoints(folder):
        try:
            return load_checkpoint(path), complaints
        except DamagedCheckpoint as error:
            complaints.append(f"checkpoint {path.name} is damaged ({error}) and is passed over")
    return None, complaints


class DamagedCheckpoint(Exception):
    """A file of the checkpoint is missing, truncated or not what was written."""


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint; raises :class:`DamagedCheckpoint`."""
    try:
        manifest = json.loads((path / "manifest.json").read_text())
        for name, expected in manifest["sha256"].items():
            if sha256(path / name) != expected:
                raise DamagedCheckpoint(f"the checksum of {name} is wrong")
        weights = load_file(path / "weights.safetensors")
        state = torch.load(path / "state.pt", weights_only=True, map_location="cpu")
        return Checkpoint(path, int(manifest["step"]), tuple(manifest["parts"]), weights, state)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, RuntimeError) as error:
        raise DamagedCheckpoint(f"{type(error).__name__}: {error}".splitlines()[0]) from error


def load_weights(model: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Copy ``weights`` into the model's parameters and buffers, which keep their memory format and device."""
    own = model.state_dict()
    if own.keys() != weights.keys():
        raise DamagedCheckpoint("it holds the weights of another network")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
