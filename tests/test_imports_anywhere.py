"""Every module imports where what only POSIX has is missing, as on Windows; what is used of it has a way without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import scaleinv

PACKAGE = Path(scaleinv.__file__).parent
#: modules of the standard library that Windows does not have
POSIX_ONLY = ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "posix", "syslog", "readline", "curses")
#: run by a fresh interpreter: names of modules on stdin, what fails on stdout
_IMPORT = """
import importlib, importlib.abc, sys, warnings

blocked = set(sys.argv[1].split(","))
others = [importlib.import_module(name) for name in ("torch", "torch.optim", "torch.multiprocessing")]
libraries = "numpy scipy.optimize matplotlib.figure sklearn.datasets pyarrow.parquet rich.console tyro jinja2"
for name in libraries.split():
    try:
        importlib.import_module(name)  # what others import is their own affair
    except ImportError:
        pass

class Windows(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in blocked - {"posix"}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Windows())
for name in sys.stdin.read().split():
    before = set(sys.modules)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            root = (error.name or "").partition(".")[0]
            if root in blocked or root == "scaleinv":
                print(name, "needs", error.name)
        except ImportError as error:
            print(name, "fails:", error) if "scaleinv" in str(error) else None
        except Exception as error:
            print(name, "fails:", type(error).__name__, error)
print("done")
"""


def modules() -> list[str]:
    names = [".".join(("scaleinv", *path.relative_to(PACKAGE).with_suffix("").parts)) for path in PACKAGE.rglob("*.py")]
    names = sorted(name.removesuffix(".__init__") for name in names)
    return [name for name in names if not name.endswith(".__main__")]


def tried(names: list[str]) -> list[str]:
    asked = [sys.executable, "-c", _IMPORT, ",".join(POSIX_ONLY)]
    done = subprocess.run(asked, input="\n".join(names), capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_every_module_imports_without_what_only_posix_has() -> None:
    names = modules()
    assert len(names) > 250
    assert tried(names) == ["done"]


def test_a_module_that_needs_it_is_seen(tmp_path: Path) -> None:
    (tmp_path / "posix_user.py").write_text("import fcntl\n")
    asked = [
        sys.executable,
        "-c",
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + _IMPORT,
        ",".join(POSIX_ONLY),
    ]
    said = subprocess.run(asked, input="posix_user", capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == ["posix_user needs fcntl", "done"]
