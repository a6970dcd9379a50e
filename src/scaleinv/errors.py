"""Errors that are the user's to mend: one clear line, no traceback on the command line, exit code 2."""


class UserError(ValueError):
    """The message names the value, says why it is wrong and what to do. The command line prints it alone."""


class StateError(RuntimeError):
    """Training has reached a state that has no next step (zero norm, non-finite gradient); weights are as they were."""


def how_to_install(module: str, extra: str) -> str:
    """What to type where a module is missing; right for every installation. ``extra``: the group it belongs to.

    >>> how_to_install("sklearn", "lab")
    "pip install scikit-learn (or, in a clone, all of its kind: pip install '.[lab]')"
    """
    package = {"sklearn": "scikit-learn"}.get(module, module)
    return f"pip install {package} (or, in a clone, all of its kind: pip install '.[{extra}]')"
