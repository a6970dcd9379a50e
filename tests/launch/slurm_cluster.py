"""A Slurm cluster of one node with two CPUs on this machine: controller, slurmd and munge, all below one folder.

Jobs of the partition `urgent` pre-empt those of `main`. A requeued job may start again after 5 s (`cred_expire`), not
after the usual 120.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "srun")

CONF = """ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,requeue_delay=1,defer_batch=0
ReturnToService=2
KillWait=2
SlurmdTimeout=6
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=main Nodes=ALL Default=YES PriorityTier=1 GraceTime=60 MaxTime=INFINITE State=UP
PartitionName=urgent Nodes=ALL PriorityTier=2 MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    absent = [name for name in PROGRAMS if shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None]
    if absent:
        return f"{', '.join(absent)} not found: install slurm-wlm and munge"
    return "" if os.geteuid() == 0 else "slurmctld and slurmd are started by root only"


def hiding(folder: Path, *command: str) -> list[str]:
    """Give the command that starts ``command`` where an empty folder lies over ``folder``."""
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(folder), *command]


def cannot_hide() -> bool:
    """Whether this machine does not let us start a process with a view of its own."""
    if shutil.which("unshare") is None:
        return True
    return subprocess.run(hiding(Path("/mnt"), "true"), capture_output=True, check=False).returncode != 0


def _program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or name


def _ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class SlurmCluster:
    """Started when made; :meth:`close` ends it."""

    def __init__(self, root: Path) -> None:
        self.root, self.conf = root, root / "slurm.conf"
        for name in ("state", "spool", "munge"):
            (root / name).mkdir(parents=True)
        (root / "munge").chmod(0o700)
        key = root / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        self.host = socket.gethostname().partition(".")[0]
        self.conf.write_text(CONF.format(host=self.host, root=root, ports=_ports(2)))
        self.environment = {**os.environ, "SLURM_CONF": str(self.conf)}
        munge = [f"--{name}-file={root}/munge/{name}" for name in ("key", "pid", "log", "seed")]
        self._run("munged", *munge, f"--socket={root}/munge.socket", "--force")
        self._run("slurmctld", "-c")
        self.start_node()
        self.wait_for("the node is idle", lambda: "idle" in self.ask("sinfo", "--noheader", "--format=%T"))

    def _run(self, name: str, *arguments: str) -> None:
        subprocess.run([_program(name), *arguments], env=self.environment, check=True, capture_output=True, timeout=60)

    def ask(self, *command: str) -> str:
        """What a command of Slurm prints."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def wait_for(self, what: str, holds: object, seconds: float = 60.0) -> None:
        """Wait until ``holds()``."""
        end = time.monotonic() + seconds
        while not holds():  # type: ignore[operator]
            assert time.monotonic() < end, f"not within {seconds} s: {what}"
            time.sleep(0.2)

    def start_node(self, hidden: Path | None = None) -> None:
        """Start slurmd; one that sees an empty folder in place of ``hidden``, as a node that does not share it does."""
        if hidden is None:
            self._run("slurmd")
        else:
            subprocess.run(hiding(hidden, _program("slurmd")), env=self.environment, check=True, capture_output=True)

    def kill_node(self) -> None:
        """Kill slurmd and everything that runs on the node, as a power cut would."""
        self._kill("slurmd")
        own = self.root.as_posix()
        for stat in Path("/proc").glob("[0-9]*/environ"):
            with suppress(OSError):
                content = stat.read_bytes()
                if b"SLURM_JOB_ID=" in content and own.encode() in content:
                    os.kill(int(stat.parent.name), signal.SIGKILL)
        for stat in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                if stat.read_bytes().startswith(b"slurmstepd"):
                    os.kill(int(stat.parent.name), signal.SIGKILL)

    def give_node_up(self) -> None:
        """Have the controller see at once that the node is down; it would itself after some time without an answer."""
        self.ask("scontrol", "update", f"NodeName={self.host}", "State=DOWN", "Reason=no answer")
        self.wait_for("the node is down", lambda: "down" in self.ask("sinfo", "--noheader", "--format=%T"))

    def _kill(self, name: str) -> None:
        with suppress(OSError, ValueError):
            os.kill(int((self.root / f"{name}.pid").read_text()), signal.SIGKILL)

    def close(self) -> None:
        """Cancel all jobs and end all daemons."""
        self.ask("scancel", "--me")
        for name in ("slurmd", "slurmctld"):
            self._kill(name)
        with suppress(OSError, ValueError):
            os.kill(int((self.root / "munge" / "pid").read_text()), signal.SIGKILL)
