"""Load the object that ``package.module:name`` or ``file.py:name`` names."""

import contextlib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from scaleinv.errors import UserError

_FORM = "give PACKAGE.MODULE:NAME or FILE.py:NAME"
#: what timm imports of torchvision
_TORCHVISION = (
    "", ".datasets", ".models", ".models.feature_extraction", ".ops", ".ops.misc", ".transforms",
    ".transforms.functional", ".utils",
)  # fmt: skip
T = TypeVar("T")


def load_object(target: str, form: str = _FORM) -> Any:
    """Load what ``PACKAGE.MODULE:NAME`` (or ``FILE.py:NAME``) names; what importing it prints goes to stderr.

    ``form`` ends the error messages: what is to be given. Raises UserError where the module or the name is not found or
    the module cannot be imported.
    """
    where, colon, name = target.rpartition(":")
    _look_here("" if where.endswith(".py") else where.partition(".")[0])
    if not colon or not where or not name:
        raise UserError(f"{target!r} does not name an object of a module; {form}")
    with contextlib.redirect_stdout(sys.stderr):
        found: Any = _module(where, form)
    for part in name.split("."):
        if not hasattr(found, part):
            names = [n for n, v in getattr(found, "__dict__", {}).items() if callable(v) and not n.startswith("_")]
            hint = f"; it has: {', '.join(sorted(names)[:12])}" if names else ""
            raise UserError(f"{where}{_elsewhere(where)} has no {part!r}{hint}")
        found = getattr(found, part)
    return found


class _OwnModules(MetaPathFinder):
    """Find modules that lie beside a user's file: last, and for the imports of files in that folder alone.

    So no file there is taken for a library, not even for one that is missing.
    """

    def __init__(self) -> None:
        #: folder -> modules that were named on the command line, which anybody may import
        self.named: dict[str, set[str]] = {}

    def look_in(self, folder: Path, name: str = "") -> None:
        """Take the folder up; ``name``: of a module in it that was asked for."""
        self.named.setdefault(str(folder), set()).add(name)
        if self not in sys.meta_path:
            sys.meta_path.append(self)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Find a module or a package of a folder that was taken up; what lies in a package is found without this."""
        if path is not None:
            return None
        for folder, names in self.named.items():
            if fullname in names or _imported_from(folder):
                found = PathFinder.find_spec(fullname, [folder])
                if found is not None:
                    return found
        return None


def _imported_from(folder: str) -> bool:
    """Tell whether the import under way stands in a file within the folder, and not in a library that lies there."""
    frame = sys._getframe(1)
    while frame is not None and (
        frame.f_code.co_filename == __file__ or _is_importlib(frame.f_globals.get("__name__", ""))
    ):
        frame = frame.f_back  # type: ignore[assignment]
    file = "" if frame is None else frame.f_code.co_filename
    if not file or file.startswith("<"):
        return False
    try:
        inner = Path(file).resolve().relative_to(folder)
    except (ValueError, OSError):
        return False
    foreign = {"site-packages", "dist-packages"} & set(inner.parts) or file.startswith(str(_PACKAGE) + os.sep)
    return not foreign


def _is_importlib(module: str) -> bool:
    return module.partition(".")[0] in ("importlib", "_frozen_importlib", "_frozen_importlib_external")


_PACKAGE = Path(__file__).parent
_own_modules = _OwnModules()


def _look_here(name: str = "") -> None:
    """Have a user's own modules found in the current folder; ``name``: of the one that is asked for."""
    with contextlib.suppress(OSError):  # the folder is gone
        _own_modules.look_in(Path.cwd().resolve(), name)


def _elsewhere(where: str) -> str:
    """Say where a module was found, if one of the same name is here."""
    if not where.isidentifier() or not Path(f"{where}.py").is_file():
        return ""
    file = getattr(sys.modules.get(where), "__file__", None)
    if file is not None and Path(file).resolve() == Path(f"{where}.py").resolve():
        return ""
    return f" ({file or 'built into Python'}; for the file here write {where}.py:FACTORY)"


def _module(where: str, form: str) -> ModuleType:
    def load() -> ModuleType:
        if where.endswith(".py"):
            path = Path(where)
            if not path.is_file():
                raise UserError(f"there is no file {where!r}; {form}")
            return _file(path)
        return importlib.import_module(where)

    try:
        return _with_timm(load)
    except ModuleNotFoundError as error:
        if error.name and (where == error.name or where.startswith(error.name + ".")):
            raise UserError(f"there is no module {where!r} here or on the Python path; {form}") from error
        raise UserError(
            f"{where} imports {error.name}, which is not installed; install it or remove the import"
        ) from error
    except UserError:
        raise
    except SystemExit as end:
        raise UserError(f"{where} ends the program on import (exit code {end.code}); guard its main part") from end
    except Exception as error:
        raise UserError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error


class _Enough(BaseException):
    """Ends the loading of a script at the call that would start training; what stands above it is defined."""


#: files as they were loaded, by path, time and size
_files: dict[tuple[str, int, int], ModuleType] = {}
_loading: list[str] = []


def stop_loading() -> None:
    """End the loading of a file here, if one is being loaded: a script without a main guard that trains.

    Called by what trains. A worker that looks up a factory in the script must not train in turn.
    """
    if _loading:
        raise _Enough


def _file(path: Path) -> ModuleType:
    """Load a file as a module, once; again where it has changed."""
    where, state = str(path.resolve()), path.stat()
    key = where, state.st_mtime_ns, state.st_size
    if key not in _files:
        # not by its stem alone: nobody who imports copy is to get the user's copy.py
        spec = importlib.util.spec_from_file_location(f"model_file_{path.stem}", where)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        _own_modules.look_in(path.resolve().parent)
        _loading.append(where)
        try:
            with contextlib.suppress(_Enough):
                spec.loader.exec_module(module)
        finally:
            _loading.pop()
        _files[key] = module
    return _files[key]


def call_object(factory: Any, target: str, form: str = _FORM) -> Any:
    """Call the factory without arguments; UserError where it needs some or fails."""
    if not callable(factory):
        raise UserError(f"{target} is {type(factory).__name__}, not something that can be called; {form}")
    try:
        needed = [
            p.name
            for p in inspect.signature(factory).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):
        needed = []
    if needed:
        raise UserError(
            f"{target} needs arguments ({', '.join(needed)}); name a function that calls it without arguments"
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return _with_timm(factory)
    except UserError:
        raise
    except SystemExit as end:
        raise UserError(f"{target}() ends the program (exit code {end.code}); give a function that returns") from end
    except Exception as error:
        raise UserError(f"{target}() fails: {type(error).__name__}: {error}") from error


def _with_timm(load: Callable[[], T]) -> T:
    """Call ``load``; where it fails because timm misses torchvision, import timm without it and call it again."""
    try:
        return load()
    except (ImportError, RuntimeError) as error:
        if "torchvision" not in str(error) or "timm" in sys.modules or not _raised_in("timm", error):
            raise
        with _no_torchvision():
            importlib.import_module("timm")
        why = " ".join(str(error).split())
        sys.stderr.write(f"scaleinv: timm is used without torchvision ({why}); its models do not need it\n")
    return load()


def _raised_in(package: str, error: BaseException) -> bool:
    """Tell whether code of a package was running when the error was raised."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(frame.f_globals.get("__name__")).partition(".")[0] == package for frame in frames)


@contextlib.contextmanager
def _no_torchvision() -> Iterator[None]:
    """Put modules of empty classes in the place of torchvision while the context lasts.

    timm imports torchvision for its image transforms, its data sets and a frozen batch norm. Its models use none of it,
    so that timm's own models run where torchvision is missing or was built for another torch.
    """
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if name.partition(".")[0] == "torchvision"}
    for name in _TORCHVISION:
        full = f"torchvision{name}"
        sys.modules[full] = _Empty(full)
        parent, _, last = full.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, sys.modules[full])
    try:
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules.update(before)


class _Named(type):
    """Make classes whose attributes are their own names (timm makes a dict of the members of an enumeration)."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Empty(ModuleType):
    """Hold an empty class under every name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = _Named(name, (), {})
        setattr(self, name, made)
        return made
