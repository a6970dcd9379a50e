"""Make a problem again from what config.json says of it, in any process.

What a user gave in memory is written once, beside the runs; code is named (``file.py:name``). A problem with a part
that has no name, such as a function of a notebook, trains in the process that made it.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scaleinv.errors import UserError
from scaleinv.lab.config import RunConfig
from scaleinv.lab.data import Dataset, load_dataset
from scaleinv.lab.data.npy import npy_pieces
from scaleinv.lab.language import LanguageModel, Tokens, language_model
from scaleinv.lab.problem import Problem
from scaleinv.lab.references import object_of
from scaleinv.lab.splits import Held
from scaleinv.lab.supervised import Supervised, classification
from scaleinv.runfolder.files import disk_errors, own_folder, write_bytes
from scaleinv.runfolder.layout import CONFIG
from scaleinv.runfolder.seal import read_sealed

FOLDER = "data"
#: functions of a supervised problem, by name
_FUNCTIONS = ("call", "augment", "collate")


@dataclass(frozen=True)
class Recipe:
    """How a problem is made again: small, and may go to any process."""

    text: str  # JSON

    def open(self) -> Problem:
        """Make the problem."""
        content = json.loads(self.text)
        return made_again(content, Path(content["place"]))


def recipe_of(problem: Problem, root: Path) -> Recipe | None:
    """Write what the problem holds in memory below ``root`` and give its recipe; None where a part has no name."""
    told = getattr(problem, "recipe", None)
    if not isinstance(told, Mapping):
        return None
    content = dict(told)
    if isinstance(problem, (Supervised, LanguageModel)) and not problem.sources.get("train"):
        folder = root / FOLDER / problem.fingerprint[:16]
        held = _write(problem, folder)
        if held is None:
            return None
        content["held"] = {"folder": folder.name, **held}
    elif isinstance(problem, Supervised):
        content["sources"] = {name: source for name, source in problem.sources.items() if source}
    content |= {"groups": getattr(problem, "groups", {}), "place": str((root / FOLDER).absolute())}
    _attach(problem, "stored", content)
    return Recipe(json.dumps(content))


def made_again(content: Mapping[str, Any], place: Path) -> Problem:
    """Make the problem a recipe describes; ``place``: the folder that holds its data."""
    kind = content.get("kind")
    if kind == "own":
        return own_problem(content["ref"], content.get("args", {}))
    common = {"args": content.get("args"), "name": content.get("name")}
    if kind == "language model":
        held = {name: _tokens(place / content["held"]["folder"] / f"{name}.npy") for name in content["held"]["splits"]}
        problem: Any = language_model(
            object_of(content["model"]),
            held["train"],
            context=content["context"],
            test=held.get("test"),
            call=None if (call := content.get("call")) is None else object_of(call),
            **common,
        )
    elif kind == "classification":
        loss, error = content["loss"], content.get("error")
        if "held" in content:
            data: dict[str, Any] = _held(place / content["held"]["folder"], content["held"])
        else:
            data = {name: source["ref"] for name, source in content["sources"].items()}
        parts = {name: None if (at := content.get(name)) is None else object_of(at) for name in _FUNCTIONS}
        problem = classification(
            object_of(content["model"]),
            data["train"],
            data.get("test"),
            loss=loss,
            error=error,
            in_memory=content.get("in_memory"),
            read_workers=content.get("workers", 0),
            **parts,
            **common,
        )
    else:
        raise UserError(f"the problem of config.json is of an unknown kind {kind!r}")
    problem.data_name = content.get("data_name", problem.data_name)
    problem.groups = dict(content.get("groups", {}))
    problem.stored = {**content, "place": str(place)}
    return problem  # type: ignore[no-any-return]


def own_problem(ref: str, args: Mapping[str, Any] | None = None) -> Problem:
    """Load a Problem by its name: an object, or a function that makes it."""
    found = object_of(ref)
    if isinstance(found, type) or not isinstance(found, Problem):
        if not callable(found):
            raise UserError(f"{ref} is {type(found).__name__}, no Problem and no function that makes one")
        try:
            found = found(**dict(args or {}))
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{ref}() fails: {type(error).__name__}: {error}") from error
    members = ("name", "fingerprint", "chance_error", "constant_loss", "model", "split", "call", "loss", "error")
    missing = [name for name in members if not hasattr(found, name)]
    if missing:
        raise UserError(f"{ref} gives {type(found).__name__}, no Problem: it has no {', '.join(missing)}")
    if getattr(found, "recipe", None) is None:
        _attach(found, "recipe", {"kind": "own", "ref": _absolute(ref), "args": dict(args or {})})
    return found  # type: ignore[no-any-return]


def _absolute(ref: str) -> str:
    where, _, name = ref.rpartition(":")
    return f"{Path(where).resolve()}:{name}" if where.endswith(".py") else ref


def _attach(problem: Any, name: str, value: dict[str, Any]) -> None:
    try:
        setattr(problem, name, value)
    except AttributeError:  # it takes no more attributes: it trains in this process alone
        return


def source_of(folder: Path, config: RunConfig, data_dir: Path | None = None) -> Dataset | Problem:
    """Load what the run in ``folder`` is trained on; UserError where it is not what it was."""
    if config.problem is None:
        dataset = load_dataset(config.data, data_dir=data_dir, subset=config.subset, label_noise=config.label_noise)
        if dataset.fingerprint != config.data_fingerprint:
            raise UserError(f"the images of {config.data} are not those {folder} was trained on")
        return dataset
    head = read_sealed(folder / CONFIG)
    told = head.get("problem") if isinstance(head, dict) else None
    if not isinstance(told, dict) or "kind" not in told:
        raise UserError(
            f"{folder}: its problem, {config.problem}, has a part without a name (a function of a notebook, a lambda), "
            "so it cannot be made again; put it into a file"
        )
    try:
        problem = made_again(told, folder / told.get("place", f"../../{FOLDER}"))
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG}: 'problem' is not whole ({error!r}); make the run anew") from error
    if problem.fingerprint != config.data_fingerprint:
        raise UserError(f"the data, loss or arguments of {config.problem} are not those {folder} was made with")
    return problem


def _write(problem: Supervised | LanguageModel, folder: Path) -> dict[str, Any] | None:
    """Write the arrays of a problem, once; None where its data is no array."""
    splits: dict[str, Any] = {}
    for name, split in problem.splits.items():
        if isinstance(split, Tokens):
            _save(folder / f"{name}.npy", np.asarray(split.tokens))
            splits[name] = True
        elif isinstance(split, Held):
            forms = {}
            for part in ("inputs", "targets"):
                forms[part] = _write_tree(getattr(split, part), folder, f"{name}-{part}")
            splits[name] = forms
        elif split is not None:
            return None
    return {"splits": splits}


def _write_tree(value: Any, folder: Path, stem: str) -> Any:
    if isinstance(value, Tensor):
        _save(folder / f"{stem}.npy", value.cpu().numpy())
        return stem
    if isinstance(value, Mapping):
        return {"dict": {key: _write_tree(item, folder, f"{stem}-{key}") for key, item in value.items()}}
    return {"tuple": [_write_tree(item, folder, f"{stem}-{k}") for k, item in enumerate(value)]}


def _save(path: Path, array: Any) -> None:
    if path.exists():
        return
    with disk_errors(path):
        path.parent.parent.parent.mkdir(parents=True, exist_ok=True)
    own_folder(path.parent.parent)
    own_folder(path.parent)
    write_bytes(path, npy_pieces(array), locked=False)


def _read_tree(form: Any, folder: Path) -> Any:
    if isinstance(form, str):
        return torch.from_numpy(_tokens(folder / f"{form}.npy"))
    if "dict" in form:
        return {key: _read_tree(item, folder) for key, item in form["dict"].items()}
    return tuple(_read_tree(item, folder) for item in form["tuple"])


def _tokens(path: Path) -> Any:
    """Map an array of a problem; copy-on-write, so that processes share its pages."""
    try:
        return np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"the data of the problem, {os.fspath(path)}, cannot be read ({error})") from error


def _held(folder: Path, held: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: (_read_tree(forms["inputs"], folder), _read_tree(forms["targets"], folder))
        for name, forms in held["splits"].items()
    }
