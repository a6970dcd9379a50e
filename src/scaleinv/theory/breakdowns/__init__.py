"""Break-downs of training with weight decay: what counts as one, and how they are found in a log.

Whoever counts break-downs asks :func:`break_downs`, so that all count the same events: ``scaleinv periods`` of a log, a
monitor of the rows it has logged (``loss=None`` where it was told none). Needs numpy only.
"""

from scaleinv.theory.breakdowns.definition import Definition
from scaleinv.theory.breakdowns.find import LogRows, Rise, break_downs

__all__ = ["Definition", "LogRows", "Rise", "break_downs"]
