"""Errors that are the user's to mend: one clear line, no traceback on the command line, exit code 2."""


class UserError(ValueError):
    """The message names the value, says why it is wrong and what to do. The command line prints it alone."""


class StateError(RuntimeError):
    """Training has reached a state that has no next step (zero norm, non-finite gradient); weights are as they were."""
