"""Find the published files of a data set on disk, verify them, read them."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from scaleinv.errors import UserError
from scaleinv.lab.data.catalog import CATALOG, Form, PublishedFile
from scaleinv.lab.data.formats import Part, RawSplit, parse_binary, parse_idx, parse_pickle
from scaleinv.reading import home_expanded

ENVIRONMENT = "SCALEINV_DATA"  #: the variable that names the data folder


@dataclass(frozen=True)
class Source:
    """A complete form of a data set on disk: a folder of files, or the archive as published."""

    name: str
    form: Form
    path: Path  # the folder, or the archive

    @property
    def is_archive(self) -> bool:
        return self.form.archive is not None and self.path.name == self.form.archive.name

    def size(self) -> int:
        """Count the bytes on disk."""
        paths = [self.path] if self.is_archive else [_on_disk(self.path, file, self.form) for file in self.form.files]
        return sum(path.stat().st_size for path in paths if path is not None)

    def damage(self) -> str:
        """Name the first file that is not as published, in one line; empty if all are."""
        try:
            for _ in self.contents(list(self.form.files), verify=True):
                pass
        except UserError as error:
            return str(error)
        return ""

    def read(self, train_limit: int | None, with_test: bool, verify: bool) -> tuple[RawSplit, RawSplit | None]:
        """The first ``train_limit`` train images (None: all) and the test images; files not needed are not opened."""
        train = self._split("train", train_limit, verify)
        return train, self._split("test", None, verify) if with_test else None

    def _split(self, split: str, limit: int | None, verify: bool) -> RawSplit:
        files = [file for file in self.form.files if file.split == split]
        parts, count = [], 0
        for images, labels in self._parts(files, verify):
            rest = len(images) if limit is None else limit - count
            parts.append((images[:rest], labels[:rest]))
            count += len(parts[-1][0])
            if count == limit:
                break
        if limit is not None and count < limit:
            raise UserError(f"{self.path} holds {count} train images of {self.name}, not the {limit} asked for")
        return RawSplit(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))

    def _parts(self, files: list[PublishedFile], verify: bool) -> Iterator[Part]:
        contents = self.contents(files, verify)
        if self.form.kind == "idx":
            (images_where, images), (labels_where, labels) = contents
            pixels = parse_idx(images, images_where, 3)
            marks = parse_idx(labels, labels_where, 1).astype(np.int64)
            if len(pixels) != len(marks):
                raise UserError(
                    f"{images_where} has {len(pixels)} images, {labels_where} {len(marks)} labels: replace one"
                )
            yield pixels[:, None], marks
            return
        parse = parse_pickle if self.form.kind == "pickle" else parse_binary
        for where, data in contents:
            yield parse(data, where, 100 if self.name == "cifar100" else 10)

    def contents(self, files: list[PublishedFile], verify: bool) -> Iterator[tuple[str, bytes]]:
        """(what to call it, bytes) of each file, uncompressed and verified."""
        if self.is_archive:
            yield from self._members(files, verify)
            return
        for file in files:
            path = _on_disk(self.path, file, self.form)
            if path is None:
                raise UserError(f"{self.path / file.name} is gone; {_get(self.name)}")
            stored = _read(path)
            try:
                data = _unpacked(path, stored) if path.suffix == ".gz" else stored
            except (OSError, EOFError, zlib.error) as error:
                raise UserError(
                    f"{path} cannot be decompressed ({error}); delete it, then {_get(self.name)}"
                ) from error
            # a file compressed again by someone has another .gz sum and the same content
            if verify and not (file.gz_md5 and _md5(stored) == file.gz_md5) and _md5(data) != file.md5:
                raise _damaged(path, file.md5, _md5(data), self.name)
            yield str(path), data

    def _members(self, files: list[PublishedFile], verify: bool) -> Iterator[tuple[str, bytes]]:
        archive = self.form.archive
        assert archive is not None
        if verify:
            digest = _digest()
            try:
                with self.path.open("rb") as packed:
                    for piece in iter(lambda: packed.read(1 << 20), b""):
                        digest.update(piece)
            except OSError as error:
                raise UserError(f"cannot read {self.path}: {error.strerror}") from error
            if digest.hexdigest() != archive.md5:
                raise _damaged(self.path, archive.md5, digest.hexdigest(), self.name)
        wanted = {f"{self.form.folders[0]}/{file.name}": file for file in files}
        held: dict[str, bytes] = {}
        order = list(wanted)
        try:
            with tarfile.open(self.path, "r:gz") as tar:
                for member in tar:
                    if member.name in wanted and (stream := tar.extractfile(member)) is not None:
                        if member.size > _LARGEST:
                            raise UserError(f"{self.path}: {member.name} has {member.size} bytes; delete the archive")
                        held[member.name] = stream.read()
                    while order and order[0] in held:
                        yield f"{self.path}:{order[0]}", held.pop(order.pop(0))
                    if not order:
                        return
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise UserError(f"{self.path} cannot be unpacked ({error}); delete it, then {_get(self.name)}") from error
        raise UserError(f"{self.path} holds no {order[0]}; delete it, then {_get(self.name)}")


def cache_folder() -> Path:
    """Name the data folder of a user who names none: ``scaleinv/data`` in the platform's cache directory.

    $XDG_CACHE_HOME or ~/.cache; ~/Library/Caches on macOS; %LOCALAPPDATA% on Windows.
    """
    if sys.platform == "darwin":
        root = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        root = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    else:
        root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "scaleinv" / "data"


def resolve(data_dir: str | Path | None) -> Path | None:
    """Find the data folder: ``data_dir``, else the environment's, else :func:`cache_folder` if it is there, else None.

    Raises `UserError` if it is no folder.
    """
    named = data_dir if data_dir is not None else os.environ.get(ENVIRONMENT) or None
    if named is None:
        return folder if (folder := cache_folder()).is_dir() else None
    folder = home_expanded(named)
    if not folder.is_dir():
        origin = "" if data_dir is not None else f" (from {ENVIRONMENT})"
        problem = "is not a folder" if folder.exists() else "does not exist"
        raise UserError(f"data folder {folder}{origin} {problem}: create it or name another with --data-dir")
    return folder


def find(name: str, data_dir: str | Path | None = None) -> Source:
    """Find the first complete form of ``name`` on disk. Raises `UserError`: what is missing, where, and what to do."""
    folder = resolve(data_dir)
    partial = ""
    for form in CATALOG[name]:
        places = [folder / below for below in form.folders] if folder else []
        for place in [*places, *map(Path, form.system_folders)]:
            missing = [file.name for file in form.files if _on_disk(place, file, form) is None]
            if not missing and place == folder and _is_of_another(place, name, form):
                continue
            if not missing:
                return Source(name, form, place)
            if len(missing) < len(form.files) and not partial:
                partial = f"{name} is incomplete: {place / missing[0]} is missing; {_get(name)}"
        if folder and form.archive and (folder / form.archive.name).is_file():
            return Source(name, form, folder / form.archive.name)
    if partial:
        raise UserError(partial)
    if folder is None:
        raise UserError(f"{name} needs a data folder: set {ENVIRONMENT} to it or give --data-dir; {_get(name)}")
    expected = " or ".join(f"{form.folders[0]}/" for form in CATALOG[name])
    raise UserError(f"{name} is not in {folder}: expected {expected} there; {_get(name)}")


#: MD5 where it guards against damage alone
_digest = partial(hashlib.md5, usedforsecurity=False)


def _md5(data: bytes) -> str:
    return _digest(data).hexdigest()


#: bytes of the largest published file, unpacked, with room
_LARGEST = 1 << 28


def _unpacked(path: Path, stored: bytes) -> bytes:
    """Unpack a .gz of at most the size that published files have: a small one may hold gigabytes."""
    with gzip.open(io.BytesIO(stored)) as stream:
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise UserError(f"{path} unpacks to more than {_LARGEST >> 20} MiB: not a published file; delete it")
    return data


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(f"{path} has more than {_LARGEST >> 20} MiB: not a published file; delete it")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


def _on_disk(folder: Path, file: PublishedFile, form: Form) -> Path | None:
    names = [file.name, f"{file.name}.gz"] if form.kind == "idx" else [file.name]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _is_of_another(place: Path, name: str, form: Form) -> bool:
    """MNIST and Fashion-MNIST have files of the same names: whether those in ``place`` are the other's."""
    if form.kind != "idx":
        return False
    path = _on_disk(place, form.files[1], form)  # the train labels: small
    assert path is not None
    others = [other.files[1] for key, forms in CATALOG.items() if key != name for other in forms if other.kind == "idx"]
    try:
        data = _unpacked(path, _read(path)) if path.suffix == ".gz" else _read(path)
    except (OSError, EOFError, zlib.error):
        return False  # damaged: the reader will say so
    return _md5(data) in {file.md5 for file in others}


def _get(name: str) -> str:
    return f"`scaleinv data fetch {name}` downloads it"


def _damaged(path: Path, expected: str, found: str, name: str) -> UserError:
    return UserError(
        f"{path} is not the published file: expected MD5 {expected}, found {found}; delete it, then {_get(name)}"
    )
