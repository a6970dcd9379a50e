"""What data sets are there, and how to get the others: verified downloads from the publisher or a mirror of theirs.

Why not pooch: it has no limit on the size of what a server sends, no lock between processes that download at once, and
leaves what a killed download has written; it resumes as little as this does.
"""

import hashlib
import http.client
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scaleinv.errors import UserError, needs
from scaleinv.lab.data import digits
from scaleinv.lab.data.catalog import CATALOG, Form
from scaleinv.lab.data.dataset import DATASETS
from scaleinv.lab.data.source import ENVIRONMENT, Source, cache_folder, find, resolve
from scaleinv.reading import home_expanded
from scaleinv.runfolder.files import new_file, remove_tree, write_new
from scaleinv.text import near

with needs("lab"):
    from filelock import FileLock, Timeout


_TIMEOUT = 30.0  # seconds without a byte from the server
_PIECE = 1 << 18

Progress = Callable[[str, int, int], None]  #: (file, bytes so far, bytes in all)


def fetch(
    name: str, data_dir: str | Path | None = None, *, mirror: str | None = None, progress: Progress | None = None
) -> Path:
    """Download ``name`` into the data folder, which is made if need be; return the folder that holds the data set.

    What is there and intact is not downloaded again. Each file is checked against its published MD5 before it is
    renamed into place, so an interrupted or damaged download changes nothing. ``mirror`` replaces the publisher's
    address; it must hold the files under the published names.
    A data folder that was made for nothing is removed again.

    Raises `UserError`: unknown or embedded data set, a mirror that is no address, no data folder, no network, checksum
    differs, disk full.
    """
    if name not in CATALOG:
        if name in DATASETS:
            raise UserError(f"{name} comes with scikit-learn: there is nothing to download")
        raise UserError(f"unknown data set {name!r}{near(name, CATALOG)}; choose one of: {', '.join(CATALOG)}")
    if mirror is not None and not _is_address(mirror):
        raise UserError(f"--mirror {mirror!r} is no address; write https://..., or file:///... for a folder")
    with _data_folder(data_dir) as folder:
        return _fetch(name, folder, mirror, progress)


def _is_address(text: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(text)
    except ValueError:  # a bracket that is not closed
        return False
    return bool(parts.netloc) if parts.scheme in ("http", "https", "ftp") else parts.scheme == "file"


def _fetch(name: str, folder: Path, mirror: str | None, progress: Progress | None) -> Path:
    try:
        held = find(name, folder)
        if not held.damage():
            return held.path
    except UserError:
        pass  # missing or incomplete: that is why we are here
    form = next(form for form in CATALOG[name] if form.url)
    base = (mirror or form.url).rstrip("/") + "/"
    target = folder / form.folders[0]
    report = progress or (lambda *_: None)
    try:
        with _workshop(folder / f".fetch-{name}") as work:
            if form.archive:
                archive = work / form.archive.name
                _download(base, archive, form.archive.md5, form.archive.size, report)
                _unpack(Source(name, form, archive), target)
            else:
                _idx_files(form, base, work, target, report)
    except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
        why = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {name} into {folder}: {why}") from error
    return target


@contextmanager
def _data_folder(data_dir: str | Path | None) -> Iterator[Path]:
    """The data folder, made if need be; what was made and has stayed empty is removed at the end."""
    named = data_dir if data_dir is not None else os.environ.get(ENVIRONMENT) or cache_folder()
    folder = home_expanded(named)
    made: list[Path] = []
    try:
        try:
            made = [path for path in (folder, *folder.parents) if not path.exists()]
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make data folder {folder}: {error.strerror}") from error
        resolved = resolve(folder)
        assert resolved is not None
        yield resolved
    finally:
        with suppress(OSError):  # the first that is not empty, and with it those around it
            for path in made:
                path.rmdir()


@contextmanager
def _workshop(work: Path) -> Iterator[Path]:
    """An empty folder for one process at a time; what a killed download left in it is removed."""
    _own(work)
    lock = FileLock(work / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(f"another process downloads into {work.parent}: wait until it is done") from error
    try:
        for left in work.iterdir():
            if left.name != ".lock":
                left.unlink()
        yield work
    finally:
        remove_tree(work)
        lock.release()


def _own(folder: Path) -> None:
    """Make a folder for our files; a link, whose target is another's, is refused."""
    if folder.is_symlink():
        raise UserError(f"{folder} is a link, and nothing is written or removed through it; remove it")
    folder.mkdir(exist_ok=True)


def _make_target(target: Path, root: Path) -> None:
    """Make the folder of a data set below the data folder, ``root``; none of those between may be a link."""
    for part in [*reversed(target.relative_to(root).parents)][1:]:
        _own(root / part)
    _own(target)


def _idx_files(form: Form, base: str, work: Path, target: Path, report: Progress) -> None:
    for file, size in zip(form.files, form.gz_sizes):
        name = f"{file.name}.gz"
        _download(base, work / name, file.gz_md5, size, report)
        _make_target(target, work.parent)
        os.replace(work / name, target / name)
        (target / file.name).unlink(missing_ok=True)  # a damaged plain file would be read first


def _unpack(archive: Source, target: Path) -> None:
    _make_target(target, archive.path.parent.parent)
    for file, (_, data) in zip(archive.form.files, archive.contents(list(archive.form.files), verify=False)):
        part = archive.path.with_name(file.name)
        write_new(part, [data])
        os.replace(part, target / file.name)


def _download(base: str, path: Path, md5: str, size: int, report: Progress) -> None:
    url = base + path.name
    digest = hashlib.md5(usedforsecurity=False)
    done = 0
    report(path.name, 0, size)
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "scaleinv"})
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer, new_file(path) as out:
            # one byte more than published is enough to know that it is something else
            while piece := answer.read(min(_PIECE, size + 1 - done)):
                out.write(piece)
                digest.update(piece)
                done += len(piece)
                report(path.name, done, size)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
        reason: object = error
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        elif isinstance(error, urllib.error.URLError):
            reason = error.reason
        raise UserError(
            f"cannot download {url}: {reason}; check the network, name a --mirror, or put the file there by hand"
        ) from error
    if digest.hexdigest() != md5:
        got = f"more than {size}" if done > size else str(done)
        raise UserError(
            f"{url} is not the published file: expected {size} bytes with MD5 {md5}, got {got} with MD5 "
            f"{digest.hexdigest()}; nothing was kept, try again or name a --mirror"
        )


@dataclass(frozen=True)
class Status:
    """One row of `scaleinv data`."""

    name: str
    state: Literal["intact", "damaged", "missing"]
    where: str = ""  # folder, archive or package
    form: str = ""  # embedded, idx, pickle or binary
    bytes: int = 0  # on disk
    detail: str = ""  # what is wrong and what to do, one line


def statuses(data_dir: str | Path | None = None) -> list[Status]:
    """Find the status of every data set by its checksums. Raises `UserError` if the data folder does not exist."""
    resolve(data_dir)
    return [_digits() if name == "digits" else _status(name, data_dir) for name in DATASETS]


def _status(name: str, data_dir: str | Path | None) -> Status:
    try:
        source = find(name, data_dir)
    except UserError as error:
        return Status(name, "missing", detail=str(error))
    damage = source.damage()
    return Status(name, "damaged" if damage else "intact", str(source.path), source.form.kind, source.size(), damage)


def _digits() -> Status:
    try:
        splits = digits.load()
    except UserError as error:
        return Status("digits", "missing", detail=str(error))
    import sklearn

    where, size = f"scikit-learn {sklearn.__version__}", sum(split.images.nbytes for split in splits)
    if digits.checksum(*splits) == digits.CHECKSUM:
        return Status("digits", "intact", where, "embedded", size)
    detail = f"the digits of {where} are not those scaleinv was tested with"
    return Status("digits", "damaged", where, "embedded", size, detail)
