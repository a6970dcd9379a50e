"""A Ray cluster on this machine: a head, without CPUs where nothing else is said, and nodes that come and die.

Nodes are started one after the other: of two that look for a name for their sockets at the same time both take the
same, and one of them dies half a minute later ("bind: Address already in use" in its log). Under load a head or a node
dies as well, when its agent takes more than fifteen seconds: it is started again.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import pytest
from tests.launch import slurm_cluster

HEAD = """
import os, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

told, parent = Path(sys.argv[1]), os.getppid()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": int(sys.argv[2])})
told.write_text(cluster.address)
while os.getppid() == parent and not told.with_name("over").exists():
    time.sleep(0.2)
cluster.shutdown()
"""
STARTED = "Ray runtime started"  # what `ray start` says once the head knows the node
TRIES = 3


class RayCluster:
    """Started and ended by ``with``; ``root``: an empty folder for what its processes print, shown if a test fails."""

    def __init__(self, root: Path, cpus: int = 0) -> None:
        self.root, self.cpus = root, cpus
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._number = 0

    def __enter__(self) -> RayCluster:
        self.root.mkdir()
        (self.root / "head.py").write_text(HEAD)
        words = [sys.executable, str(self.root / "head.py"), str(self.root / "address"), str(self.cpus)]
        self._head = self._begin("head", words, self.root / "address", ":")
        self.address = (self.root / "address").read_text()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        ended = {node.pid: node.returncode for node in self.nodes if node.poll() is not None}
        self._close()
        if kind is not None:
            sys.stdout.write(f"the head ended with {self._head.returncode}; nodes that had ended before: {ended}\n")
            for log in sorted(self.root.glob("*.log")):
                sys.stdout.write(f"== {log.name}\n{log.read_text()[-3000:]}\n")

    def add_node(self, hidden: Path | None = None) -> None:
        """Start a node with one CPU and wait until the head knows it; one that sees an empty folder for ``hidden``."""
        words = [sys.executable, "-m", "ray.scripts.scripts", "start", f"--address={self.address}", "--num-cpus=1"]
        words += ["--block"]
        self.nodes.append(self._begin("node", words if hidden is None else slurm_cluster.hiding(hidden, *words)))

    def kill_node(self) -> None:
        """Kill the oldest node and all that runs on it, as a power cut would: they die with the one that began them."""
        node = self.nodes.pop(0)
        node.send_signal(signal.SIGKILL)
        node.wait(timeout=60)

    def check(self) -> None:
        """Fail if a node has ended by itself."""
        assert [node.poll() for node in self.nodes] == [None] * len(self.nodes)

    def _begin(
        self, name: str, words: list[str], file: Path | None = None, text: str = STARTED
    ) -> subprocess.Popen[bytes]:
        """Start a process and wait for a text in a file, by default in what it prints."""
        for _ in range(TRIES):
            self._number += 1
            printed = self.root / f"{name}-{self._number}.log"
            with printed.open("wb") as log:
                process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)
            end = time.monotonic() + 120
            while process.poll() is None and time.monotonic() < end:
                if text in _read(file or printed):
                    return process
                time.sleep(0.2)
            process.kill()
            process.wait()
        pytest.fail(f"the {name} of the Ray cluster ended with {process.returncode}:\n{_read(printed)}")

    def _close(self) -> None:
        for node in self.nodes:
            node.terminate()
        (self.root / "over").write_text("")
        for process in (*self.nodes, self._head):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _read(file: Path) -> str:
    return file.read_text(errors="replace")[-3000:] if file.exists() else ""
