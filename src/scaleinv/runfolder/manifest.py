"""List the files of a run with their checksums, in RUN/manifest.json: one writer, and one reader that everyone asks.

    {"files": {"metrics/part-00000.parquet": [[1234, "<sha256>", "<XXH3>"]], ...}, "checksum": "<of the above>"}

A file has one state: the number of its bytes and their checksums. Readers compare the XXH3 of 128 bits, which costs a
thirtieth of a sha256; ``scaleinv check`` compares both. Where xxhash is not installed, the sha256 is all there is.

A file that is about to be replaced or to grow has two states, the former and the next, and the list is written first:
whenever a kill comes, one of the two is there. ``null`` stands for no file. Of a file of lines (.jsonl), which grows, a
state is its first bytes; what comes after them is not whole yet.

What the list does not name is not part of the run: a killed process wrote it after its last checkpoint.
"""

import fnmatch
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from scaleinv.errors import UserError
from scaleinv.runfolder.files import Buffer, append_bytes, content_of, write_bytes
from scaleinv.runfolder.seal import REMEDY, Damaged, is_sealed, read_sealed, write_sealed

try:
    import xxhash
except ImportError:  # a Monitor without the extras
    xxhash = None  # type: ignore[assignment]

MANIFEST = "manifest.json"
_LINES = ".jsonl"


class FileState(NamedTuple):
    """What a file holds, by its length and checksums."""

    bytes: int
    sha256: str
    xxh3: str = ""  # empty where it was written without xxhash

    def is_of(self, data: Buffer, *, thorough: bool = False) -> bool:
        """Tell whether these are the bytes, by the cheapest checksum there is; ``thorough``: by all."""
        if len(data) != self.bytes:
            return False
        quick = bool(self.xxh3) and xxhash is not None
        if quick and _xxh3(data) != self.xxh3:
            return False
        return (quick and not thorough) or _sha256(data) == self.sha256


def state_of(data: Buffer) -> FileState:
    """Compute the state of a file that holds ``data``."""
    return FileState(len(data), _sha256(data), "" if xxhash is None else _xxh3(data))


def _sha256(data: Buffer) -> str:
    return hashlib.sha256(data).hexdigest()


def _xxh3(data: Buffer) -> str:
    return xxhash.xxh3_128_hexdigest(data)


class Manifest:
    """The list of a run folder. Writing needs the folder's lock."""

    def __init__(self, folder: Path, files: Mapping[str, list[FileState | None]] | None = None) -> None:
        self.folder = folder
        self.files: dict[str, list[FileState | None]] = dict(files or {})

    def write(self, *, flush: bool = True, token: str | None = None) -> None:
        """Write the list, whole or not at all; ``token``: of a folder that has no config.json yet."""
        content = {"files": {k: self.files[k] for k in sorted(self.files)}}
        write_sealed(self.folder / MANIFEST, content, flush=flush, token=token)

    def replace(self, name: str, data: Buffer, *, flush: bool = True) -> None:
        """Write a file anew, or for the first time; both states count until the list is written again."""
        after = state_of(data)
        self._announce(name, after, flush)
        write_bytes(self.folder / name, data, flush=flush)
        self.files[name] = [after]

    def append(self, name: str, data: bytes, before: bytes) -> None:
        """Write at the end of a file of lines that holds ``before``."""
        after = state_of(before + data)
        self._announce(name, after, flush=False)
        append_bytes(self.folder / name, data)
        self.files[name] = [after]

    def _announce(self, name: str, after: FileState, flush: bool) -> None:
        """Write the list with the state a file will have beside the one it has; one write of both is never needed."""
        states = self.files.get(name, [])
        present = states[0] if len(states) == 1 else state_on_disk(self.folder / name, states)
        self.files[name] = [present, after]
        self.write(flush=flush)

    def settle(self) -> None:
        """Keep of files with two states the one that is there; needs the folder's lock. A damaged file keeps both."""
        for name, states in list(self.files.items()):
            path = self.folder / name
            if len(states) < 2:
                continue
            if (present := state_on_disk(path, states)) is not None:
                self.files[name] = [present]
            elif None in states and not path.exists():
                del self.files[name]

    def names(self, pattern: str) -> list[str]:
        """List the files of a pattern such as ``metrics/part-*.parquet``, in the order of their names."""
        return sorted(name for name in self.files if fnmatch.fnmatchcase(name, pattern))

    def checked(self, name: str, data: bytes) -> bytes:
        """Give back what was read from a file, if it is what was written; of a file of lines, those that are whole.

        Errors: :class:`Damaged`.
        """
        if state := matching(name, data, self.files.get(name, [])):
            return data[: state.bytes]
        raise damaged(self.folder / name)

    def may_lack(self, name: str) -> bool:
        """Whether the file may be absent: its first writing was cut short."""
        return None in self.files.get(name, [])

    def check_sha256(self, name: str, sha256: str) -> None:
        """Refuse a file that was read elsewhere, by its sha256. Errors: :class:`Damaged`."""
        if not any(state is not None and state.sha256 == sha256 for state in self.files.get(name, [])):
            raise damaged(self.folder / name)


def matching(name: str, data: bytes, states: Iterable[FileState | None], *, thorough: bool = False) -> FileState | None:
    """Find the state that the bytes of a file are in; None where they are damaged. The newest is tried first;
    ``thorough``: all its checksums are compared.
    """
    for state in reversed(list(states)):
        if state is not None:
            whole = data[: state.bytes] if name.endswith(_LINES) else data
            if state.is_of(whole, thorough=thorough):
                return state
    return None


def state_on_disk(path: Path, states: Iterable[FileState | None]) -> FileState | None:
    """Find the state that a file on the disk is in; None where it is absent or damaged."""
    try:
        return matching(path.name, content_of(path), states)
    except (OSError, UserError):
        return None


def damaged(path: Path, why: str = "is damaged (its checksum is of other content)") -> Damaged:
    """Make the error for a file that is not what was written."""
    return Damaged(f"{path} {why}: {REMEDY}")


def read_manifest(folder: Path) -> Manifest | None:
    """Read the list of a run folder; None for a folder of an earlier version.

    Errors: :class:`Damaged` where it is, or where it is gone though config.json has a checksum.
    """
    path = folder / MANIFEST
    if not path.exists():
        if is_sealed(folder / "config.json"):
            raise damaged(path, "is gone, so nothing says which files of the run are whole")
        return None
    content = read_sealed(path)
    try:
        files = {str(name): [_state(one) for one in states] for name, states in content["files"].items()}
        return Manifest(folder, files)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, "is not a list of files") from error


def _state(value: Any) -> FileState | None:
    return None if value is None else file_state(value)


def file_state(stored: Sequence[Any]) -> FileState:
    """Read a state as it was stored; an earlier version had no XXH3."""
    return FileState(int(stored[0]), *(str(checksum) for checksum in stored[1:3]))
