"""Find the weights of another run that a run starts from: ``RUN[@EPOCH]`` to a file of weights and its lineage."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from scaleinv.errors import UserError, needs
from scaleinv.lab.config import RunConfig, read_config
from scaleinv.runfolder.checkpoint import (
    DamagedCheckpoint,
    list_checkpoints,
    read_checkpoint_manifest,
    read_weights_file,
)
from scaleinv.runfolder.files import sha256
from scaleinv.runfolder.layout import RESULT, SWEEP_CONFIG, kept_epochs, kept_file, last_epoch
from scaleinv.runfolder.manifest import damaged, read_manifest
from scaleinv.runfolder.seal import checking, read_object

with needs("lab"):
    from safetensors import SafetensorError


#: what must be the same for weights to fit
_NETWORK = ("data", "model", "variant", "normalization", "width")


@dataclass(frozen=True)
class Start:
    """Weights of another run, and its lineage."""

    file: Path
    checksum: str  # RunConfig.start
    folder: Path
    identity: str  # of the run they come from
    epoch: int
    config: RunConfig

    def check_fits(self, config: RunConfig) -> None:
        """Refuse a run whose network is not that of the weights, and say which flags are to be repeated."""
        names = (*_NETWORK, "head_norm") if config.variant == "si" else _NETWORK  # a frozen head comes with the weights
        differ = [name for name in names if getattr(self.config, name) != getattr(config, name)]
        if differ:
            flags = [name.replace("_", "-") for name in differ]
            theirs = " ".join(f"--{flag} {getattr(self.config, name)}" for flag, name in zip(flags, differ))
            ours = ", ".join(f"{flag} {getattr(config, name)}" for flag, name in zip(flags, differ))
            raise UserError(f"{self.folder} is of another network than this run ({ours}); give {theirs} as well")

    def lineage(self) -> dict[str, Any]:
        """What config.json says about it."""
        rate = "elr" if self.config.elr is not None else "lr"
        where = {"run": self.identity, "folder": str(self.folder), "epoch": self.epoch, "weights": self.checksum}
        return {**where, "seed": self.config.seed, rate: getattr(self.config, rate)}


def find_start(text: str | Path) -> Start:
    """Find ``RUN`` (its last weights) or ``RUN@EPOCH`` (weights it kept); a :class:`UserError` says what there is."""
    name, at, epoch_text = str(text).partition("@")
    if at and not epoch_text:
        raise UserError(f"--from {text}: no epoch after the @; write {name}@EPOCH, or {name} for its last weights")
    folder = Path(name)
    if (folder / SWEEP_CONFIG).exists():
        raise UserError(f"{folder} is a sweep; a single run starts from one of its runs, in {folder / 'runs'}")
    config = read_config(folder)
    if config is None:
        raise UserError(f"{folder} is not the folder of a run; name one as --from RUN or --from RUN@EPOCH")
    if epoch_text:
        try:
            epoch = int(epoch_text)
        except ValueError:
            raise UserError(f"--from {text}: {epoch_text!r} is not a whole number of epochs") from None
        kept = kept_epochs(folder)
        if epoch in kept:
            return _start(kept_file(folder, epoch), folder, epoch, config)
        if not (folder / "result.json").exists() or epoch != last_epoch(folder):
            listed = f"{len(kept)} from {kept[0]} to {kept[-1]}" if kept else "none: train it with --keep-every N"
            raise UserError(f"{folder} has not kept the weights of epoch {epoch} (kept: {listed})")
    if not (folder / "result.json").exists():
        raise UserError(f"{folder} has not ended, so it has no last weights; finish it or name a kept epoch: RUN@EPOCH")
    if _diverged(folder):
        raise UserError(f"{folder} diverged, its last weights are not finite; start from an epoch it kept: RUN@EPOCH")
    checkpoints = list_checkpoints(folder / "checkpoints")
    if not checkpoints:
        raise UserError(f"{folder} has no weights: its checkpoints are gone")
    return _start(checkpoints[0] / "weights.safetensors", folder, last_epoch(folder), config)


def _start(file: Path, folder: Path, epoch: int, config: RunConfig) -> Start:
    """Make a start of a file of weights that is as the run wrote it; else a :class:`UserError`."""
    try:
        checksum = sha256(file)
        if checking():
            _compare(file, checksum, folder)
    except OSError as error:
        raise UserError(f"cannot read the weights {file}: {error.strerror or error}") from error
    except DamagedCheckpoint as error:
        raise damaged(file.parent, f"is damaged ({error})") from error
    return Start(file, checksum, folder, config.identity(), epoch, config)


def _compare(file: Path, checksum: str, folder: Path) -> None:
    if file.parent.parent.name == "checkpoints":
        if read_checkpoint_manifest(file.parent)["sha256"][file.name] != checksum:
            raise damaged(file)
    elif (manifest := read_manifest(folder)) is not None:
        manifest.check_sha256(f"{file.parent.name}/{file.name}", checksum)


def find_starts(text: str) -> tuple[Start, ...]:
    """Find the starts a sweep may have: those of ``RUN[@EPOCH]``, or the last weights of every run of ``SWEEP``."""
    folder = Path(text)
    if not (folder / SWEEP_CONFIG).exists():
        return (find_start(text),)
    ended = [path.parent for path in sorted((folder / "runs").glob("*/result.json"))]
    found = [find_start(run) for run in ended if not _diverged(run)]
    if not found:
        raise UserError(f"{folder}: no run of this sweep has ended with finite weights; finish it first")
    found.sort(key=lambda start: (start.config.elr or start.config.lr or 0.0, start.config.seed))
    return tuple({start.checksum: start for start in found}.values())


def _diverged(folder: Path) -> bool:
    return bool(read_object(folder / RESULT).get("status") == "diverged")


def read_start(file: Path, checksum: str | None) -> dict[str, Tensor]:
    """Read the weights in ``file``; a :class:`UserError` where they are not those of ``checksum``."""
    try:
        return read_weights_file(file, checksum)
    except DamagedCheckpoint as error:
        raise UserError(f"the weights in {file} are not those this run started from; choose another --out") from error
    except OSError as error:
        raise UserError(f"cannot read the weights {file}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise UserError(f"{file} is damaged ({error}); restore it or train the run again") from error
