"""A Ray cluster of several nodes on this machine: a head without CPUs, and nodes that come and die.

Nodes are started one after the other: of two that look for a name for their sockets at the same time both take the
same, and one of them dies half a minute later ("bind: Address already in use" in its log).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests.launch import slurm_cluster

HEAD = """
import os, sys, time
from pathlib import Path
from ray.cluster_utils import Cluster

told, parent = Path(sys.argv[1]), os.getppid()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
told.write_text(cluster.address)
while os.getppid() == parent and not told.with_name("over").exists():
    time.sleep(0.2)
cluster.shutdown()
"""
STARTED = "Ray runtime started"  # what `ray start` says once the head knows the node
TRIES = 3


class RayCluster:
    """Started and ended by ``with``; ``root``: an empty folder for what its processes print, shown if a test fails."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._number = 0

    def __enter__(self) -> RayCluster:
        self.root.mkdir()
        (self.root / "head.py").write_text(HEAD)
        self._head = self._start("head", [sys.executable, str(self.root / "head.py"), str(self.root / "address")])
        try:
            self._wait_for(self._head, "head", self.root / "address", ":", 120)
        except BaseException:
            self._close()
            raise
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
        for left in reversed(range(TRIES)):
            self._number += 1
            name = f"node-{self._number}"
            node = self._start(name, words if hidden is None else slurm_cluster.hiding(hidden, *words))
            self.nodes.append(node)
            try:
                self._wait_for(node, name, self.root / f"{name}.log", STARTED, 120)
                return
            except ChildProcessError:
                self.nodes.remove(node)
                if not left:
                    raise

    def kill_node(self) -> None:
        """Kill the oldest node and all that runs on it, as a power cut would: they die with the one that began them."""
        node = self.nodes.pop(0)
        node.send_signal(signal.SIGKILL)
        node.wait(timeout=60)

    def check(self) -> None:
        """Fail if a node has ended by itself."""
        assert [node.poll() for node in self.nodes] == [None] * len(self.nodes)

    def _start(self, name: str, words: list[str]) -> subprocess.Popen[bytes]:
        with (self.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT)

    def _wait_for(self, process: subprocess.Popen[bytes], name: str, file: Path, text: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not file.exists() or text not in file.read_text(errors="replace"):
            printed = (self.root / f"{name}.log").read_text(errors="replace")[-3000:]
            if process.poll() is not None:
                raise ChildProcessError(f"the {name} of the Ray cluster ended with {process.returncode}:\n{printed}")
            assert time.monotonic() < end, f"no {name} of the Ray cluster within {seconds:.0f} s:\n{printed}"
            time.sleep(0.2)

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
