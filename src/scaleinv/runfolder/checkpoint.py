"""Write and load checkpoints: a folder per step with weights, training state, checksums, renamed into place as one.

Weights are safetensors; the rest is a torch file read with ``weights_only=True``. Both are made in memory and written
by :mod:`scaleinv.runfolder.files`, so that a full disk is the same error everywhere. On loading, every tensor is copied
into the one that is there, so its memory format stays: channels_last restored as contiguous changes kernels and bits.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scaleinv.errors import UserError, needs
from scaleinv.runfolder.files import (
    content_of,
    disk_errors,
    json_text,
    own_folder,
    remembered_sha256,
    remove_tree,
    sha256,
    write_new,
)
from scaleinv.runfolder.manifest import MANIFEST, FileState, file_state
from scaleinv.runfolder.seal import checking, read_sealed, sealed

with needs("lab"):
    from safetensors import SafetensorError
    from safetensors.torch import load, save


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
    kept: dict[str, FileState]  # weights the run had kept by then


def save_checkpoint(
    folder: Path,
    *,
    step: int,
    parts: Mapping[str, str],
    weights: Mapping[str, Tensor],
    state: Mapping[str, Any],
    kept: Mapping[str, FileState] | None = None,
    keep: int = KEEP,
) -> None:
    """Write the checkpoint of ``step`` and drop all but the newest ``keep``."""
    target = folder / _name(step)
    part = folder / f".{target.name}.part"
    own_folder(folder)
    with disk_errors(target):
        try:
            remove_tree(part)
            part.mkdir()
            files = {"weights.safetensors": weights_bytes(weights), "state.pt": _state_bytes(state)}
            sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
            listed = {"step": step, "parts": dict(parts), "kept": dict(kept or {}), "sha256": sums}
            manifest = sealed(listed, target / MANIFEST)
            for name, data in {**files, MANIFEST: json_text(manifest, indent=1).encode() + b"\n"}.items():
                write_new(part / name, [data])
            if target.exists():
                target.rename(set_aside(target, "replaced"))
            part.rename(target)
        except BaseException:
            remove_tree(part)
            raise
        keep_newest(folder, keep)


def keep_newest(folder: Path, count: int) -> None:
    """Remove all checkpoints but the newest, and what a killed process left of others."""
    for old in list_checkpoints(folder)[count:]:
        remove_tree(old)
    for left in (*folder.glob(".step-*.part"), *folder.glob("replaced-*")):  # or just replaced
        remove_tree(left)


def weights_bytes(weights: Mapping[str, Tensor]) -> bytes:
    """Make a file of safetensors, which keeps values, not strides: they are stored contiguous."""
    data: bytes = save({k: v.detach().cpu().contiguous() for k, v in weights.items()})
    return data


def _state_bytes(state: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(dict(state), stream)
    return stream.getvalue()


def read_weights_file(path: Path, expected: str | None = None) -> dict[str, Tensor]:
    """Read a file of safetensors, its bytes compared with a sha256.

    Errors: :class:`DamagedCheckpoint` where they differ; OSError; what safetensors raises where checksums are not
    compared.
    """
    data = content_of(path)
    if expected is not None and checking() and remembered_sha256(path, data) != expected:
        raise DamagedCheckpoint(f"the checksum of {path.parent.name}/{path.name} is wrong")
    weights: dict[str, Tensor] = load(data)
    return weights


def set_aside(path: Path, why: str) -> Path:
    """Free a name for a checkpoint that does not count any more; what had the name before is removed."""
    aside = path.with_name(f"{why}-{path.name}")
    remove_tree(aside)
    return aside


def _name(step: int) -> str:
    return f"step-{step:09d}"


def list_checkpoints(folder: Path) -> list[Path]:
    """List the checkpoint folders, the newest first."""
    return sorted((p for p in folder.glob("step-*") if p.is_dir() and not p.is_symlink()), reverse=True)


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
    except UserError as error:  # a device, a folder
        raise DamagedCheckpoint(str(error)) from error
    if actual != expected:
        raise DamagedCheckpoint(f"the checksum of {path.parent.name}/{path.name} is wrong")


def read_checkpoint_manifest(path: Path) -> dict[str, Any]:
    """Read which files belong to a checkpoint, with the sha256 of each; raises :class:`DamagedCheckpoint`."""
    try:
        content = read_sealed(path / MANIFEST, quiet=True)
        if path.name != _name(content["step"]):
            raise DamagedCheckpoint("the step in manifest.json is not its own")
        parts = {str(name): str(checksum) for name, checksum in content["parts"].items()}
        kept = {str(name): file_state(stored) for name, stored in content.get("kept", {}).items()}
        sums = {name: str(content["sha256"][name]) for name in FILES}
        return {"step": int(content["step"]), "parts": parts, "kept": kept, "sha256": sums}
    except UserError as error:
        raise DamagedCheckpoint(str(error)) from error
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise DamagedCheckpoint(f"manifest.json is not one of a checkpoint: {type(error).__name__}: {error}") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint; raises :class:`DamagedCheckpoint`."""
    manifest = read_checkpoint_manifest(path)
    try:
        weights = read_weights_file(path / FILES[0], manifest["sha256"][FILES[0]])
        _verify(path / FILES[1], manifest["sha256"][FILES[1]])
        state = torch.load(path / FILES[1], weights_only=True, map_location="cpu")
        return Checkpoint(path, manifest["step"], manifest["parts"], weights, state, manifest["kept"])
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
