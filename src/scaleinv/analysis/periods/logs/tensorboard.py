"""Read the scalars of TensorBoard's event files, without TensorBoard, TensorFlow or protobuf.

A file is a row of records: length (8 bytes), its checksum (4), the bytes of an ``Event``, their checksum (4). Of an
event the step and the scalars of its summary are read, as ``simple_value`` or as a tensor of one number; nothing is
executed.
"""

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from scaleinv.analysis.periods.logs.source import opened
from scaleinv.analysis.periods.logs.table import Builder, Table
from scaleinv.errors import UserError

#: a longer record is no event (images may be large)
_LONGEST = 256 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: TensorProto: dtype -> (field of its numbers, struct code, kind of a number)
_TENSORS = {1: (5, "f"), 2: (6, "d"), 3: (7, "i"), 9: (10, "q"), 19: (13, "e"), 14: (13, "bf")}


def is_event_file(path: Path) -> bool:
    """Tell by its name whether a file is one of TensorBoard's."""
    return "tfevents" in path.name and not path.name.endswith((".profile-empty", ".lock"))


def read_events(paths: Sequence[Path]) -> Table:
    """Read the scalars of event files, in the order in which they were begun.

    Errors: UserError for a file that is none; a last record cut short (a killed run) is left out, and told.
    """
    built = Builder(str(paths[0]))
    said: list[str] = []
    for path in sorted(paths, key=lambda p: (_begun(p), p.name)):
        with opened(path) as stream:
            at: int | None = None
            row: dict[str, float] = {}
            for event in _records(path, stream, said):
                step, scalars = _event(event)
                if not scalars:
                    continue
                if step != at or any(name in row for name, _ in scalars):
                    _add(built, at, row)
                    at, row = step, {}
                row.update(scalars)
            _add(built, at, row)
    if not built.rows:
        raise UserError(f"{paths[0]} holds no scalars")
    return built.table("TensorBoard's event files" if len(paths) > 1 else "TensorBoard's event file", said=tuple(said))


def _begun(path: Path) -> int:
    """Read when a file was begun from its name, events.out.tfevents.<seconds>.<host>...; 0 where it has no time."""
    parts = path.name.partition("tfevents.")[2].split(".")
    return int(parts[0]) if parts[0].isdigit() else 0


def _add(built: Builder, step: int | None, row: dict[str, float]) -> None:
    if step is not None:
        built.add([("step", float(step)), *((name, value) for name, value in row.items() if name != "step")])


def _records(path: Path, stream: io.BufferedReader, said: list[str]) -> Iterator[bytes]:
    first = True
    while head := stream.read(12):
        length = struct.unpack("<Q", head[:8])[0] if len(head) == 12 else 0
        if first and (len(head) < 12 or length > _LONGEST):
            raise UserError(f"{path} is no event file of TensorBoard")
        data = stream.read(length + 4) if 0 < length <= _LONGEST else b""
        if len(data) < length + 4 or not length:
            said.append(f"The last record of {path.name} is cut short, as a killed run leaves it; it is left out.")
            return
        first = False
        yield data[:length]


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
    """Go through the fields of a message: number, kind and content; what is cut short ends it."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
            yield number, kind, data[at : at + size]
            at += size
        elif kind == _BYTES:
            size, at = _varint(data, at)
            yield number, kind, data[at : at + size]
            at += size
        else:
            return


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data):
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128 or shift > 63:
            break
    return value, at


def _event(data: bytes) -> tuple[int, list[tuple[str, float]]]:
    step, scalars = 0, []
    for number, kind, content in _fields(data):
        if number == 2 and kind == _VARINT:
            assert isinstance(content, int)
            step = content - (1 << 64) if content >> 63 else content
        elif number == 5 and kind == _BYTES:
            assert isinstance(content, bytes)
            scalars += [
                found for n, k, value in _fields(content) if n == 1 and k == _BYTES and (found := _scalar(value))
            ]
    return step, scalars


def _scalar(data: bytes | int) -> tuple[str, float] | None:
    assert isinstance(data, bytes)
    tag, value = "", None
    for number, kind, content in _fields(data):
        if number == 1 and kind == _BYTES:
            assert isinstance(content, bytes)
            tag = content.decode("utf-8", "replace")
        elif number == 2 and kind == _FIXED32:
            assert isinstance(content, bytes)
            value = _unpack("f", content)
        elif number == 8 and kind == _BYTES:
            assert isinstance(content, bytes)
            value = _tensor(content)
    return (tag, value) if tag and value is not None else None


def _tensor(data: bytes) -> float | None:
    """Read a tensor of one number; None for any other (images, histograms, texts)."""
    fields = list(_fields(data))
    kind = next((content for number, k, content in fields if number == 1 and k == _VARINT), 0)
    if not isinstance(kind, int) or kind not in _TENSORS:
        return None
    shape = next((content for number, k, content in fields if number == 2 and k == _BYTES), b"")
    if isinstance(shape, bytes) and any(_size(dim) != 1 for n, _, dim in _fields(shape) if n == 2):
        return None
    of, code = _TENSORS[kind]
    for number, k, content in fields:
        if number == 4 and k == _BYTES and isinstance(content, bytes) and content:
            return _unpack(code, content)
        if number == of and isinstance(content, bytes) and content and code in "fd":
            return _unpack(code, content)
        if number == of:
            whole = content if isinstance(content, int) else _varint(content, 0)[0]
            if code in ("e", "bf"):  # half precision travels as the number of its bits
                return _unpack(code, struct.pack("<H", whole & 0xFFFF))
            return float(whole - (1 << 64) if whole >> 63 else whole)
    return None


def _size(dim: bytes | int) -> int:
    assert isinstance(dim, bytes)
    return next((content for number, _, content in _fields(dim) if number == 1 and isinstance(content, int)), 0)


def _unpack(code: str, data: bytes) -> float | None:
    if code == "bf":
        code, data = "f", b"\0\0" + data[:2]
    size = struct.calcsize(code)
    return float(struct.unpack(f"<{code}", data[:size])[0]) if len(data) >= size else None
