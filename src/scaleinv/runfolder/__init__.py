"""The run folder: layout, rows, atomic files and locks, checkpoints, writing and reading."""
