"""One self-contained HTML page about a run or a sweep; needs matplotlib and pyarrow, no torch."""

from scaleinv.report.write import write_figures, write_report

__all__ = ["write_figures", "write_report"]
