"""Errors that are the user's to mend: one clear line, no traceback on the command line, exit code 2."""

from collections.abc import Iterator
from contextlib import contextmanager


class UserError(ValueError):
    """The message names the value, says why it is wrong and what to do. The command line prints it alone."""


class MissingPackage(UserError, ModuleNotFoundError):
    """A package is missing that one part of scaleinv needs; the message says how to install it."""

    def __init__(self, module: str, extra: str) -> None:
        told = f"this part of scaleinv needs {module}, which is missing: {how_to_install(module, extra)}"
        ModuleNotFoundError.__init__(self, told, name=module)


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say, around imports of optional packages, what to install where one is missing. ``extra``: its group."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "scaleinv").partition(".")[0]
        if module == "scaleinv" or isinstance(error, MissingPackage):
            raise
        raise MissingPackage(module, extra) from None


class StateError(RuntimeError):
    """Training has reached a state that has no next step (zero norm, non-finite gradient); weights are as they were."""


def how_to_install(module: str, extra: str) -> str:
    """What to type where a module is missing; right for every installation. ``extra``: the group it belongs to.

    >>> how_to_install("sklearn", "lab")
    "pip install scikit-learn (or, in a clone, all of its kind: pip install '.[lab]')"
    """
    package = {"sklearn": "scikit-learn"}.get(module, module)
    return f"pip install {package} (or, in a clone, all of its kind: pip install '.[{extra}]')"
