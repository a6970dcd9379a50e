"""The launcher for a Slurm cluster, by submitit: job arrays that train run folders on a shared file system."""

import contextlib
import io
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaleinv.errors import UserError, how_to_install
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.polled import Gone, Polled
from scaleinv.lab.launch.unit import Stopping, attempt
from scaleinv.runfolder.files import Lock, disk_errors, read_json, write_json

#: where it keeps its scripts, its logs and the numbers of its jobs, below the sweep's folder
FOLDER = ".slurm"
#: minutes a job may take where nobody says; it resumes in another one
TIME = 240
_OWN = {"runs_per_job", "time", "array_parallelism"}
_LIVING = {"PD", "R", "CF", "CG", "S", "ST", "RQ", "RS", "SI", "SO", "RH", "RD", "RF", "RV"}


class TrainFolders:
    """What a Slurm job does: train folders, one after the other. Pickled by submitit, so it is small."""

    def __init__(self, folders: Sequence[str]) -> None:
        self.folders = list(folders)

    def __call__(self) -> None:
        """Train what has not ended; one that fails leaves its error in its folder and does not stop the others."""
        with Stopping(leaving=_requeue) as stop:
            for folder in self.folders:
                if not attempt(Path(folder), stop=stop):
                    if stop.signal != signal.SIGTERM:  # which is the end of a cancelled job
                        _requeue()
                    return


def _requeue() -> None:
    """Put this job, which was pre-empted or is out of time, back into the queue under its number."""
    own = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        own = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    subprocess.run(["scontrol", "requeue", own], check=False)


class Slurm(Polled):
    """Trains jobs as Slurm job arrays. ``arguments``: ``runs_per_job`` (default 1), ``time`` in minutes (240),
    ``array_parallelism`` (jobs at a time), and any option of sbatch: ``partition=gpu``, ``gpus_per_node=1``, ``qos=``,
    ``account=``, ``mem=4G``, ``constraint=`` ...

    Jobs outlive this process: the same call finds them and waits on; :meth:`cancel_jobs` ends them.
    """

    engine = "Slurm"

    def __init__(self, out: Path, prepare: Callable[[Sequence[Job]], None], **arguments: Any) -> None:
        super().__init__(prepare)
        try:
            import submitit
        except ModuleNotFoundError:
            how = how_to_install("submitit", "slurm")
            raise UserError(f"the launcher slurm needs submitit, which is missing: {how}") from None
        self.submitit = submitit
        if shutil.which("sbatch") is None:
            raise UserError(
                "sbatch is not found: this machine does not submit to a Slurm cluster; use another --launcher"
            )
        self.folder = out.absolute() / FOLDER
        self.per_job = _count(arguments, "runs_per_job", 1)
        self.time = _count(arguments, "time", TIME)
        self.parallel = _count(arguments, "array_parallelism", 10_000)
        self.options = {name: value for name, value in arguments.items() if name not in _OWN}
        self._jobs = self._known()  # folder to job

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends."""
        try:
            yield from super().run(jobs, watch)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                "the jobs keep running in Slurm; the same command comes back to them, with --cancel it ends them"
            ) from None

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit the jobs as one array, ``runs_per_job`` runs in each of its elements."""
        folders = [str(job.folder.absolute()) for job in jobs]
        chunks = [folders[k : k + self.per_job] for k in range(0, len(folders), self.per_job)]
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        executor = self.submitit.SlurmExecutor(folder=self.folder)
        threads = {job.config.threads for job in jobs}
        executor.update_parameters(
            job_name="scaleinv",
            time=self.time,
            array_parallelism=self.parallel,
            ntasks_per_node=1,
            cpus_per_task=max(threads),
            stderr_to_stdout=True,
            setup=[f"export {name}={max(threads)}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")],
            additional_parameters=self.options,
        )
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # where submitit repeats what sbatch says
                submitted = executor.map_array(_call, [TrainFolders(chunk) for chunk in chunks])
        except (subprocess.CalledProcessError, self.submitit.core.utils.FailedJobError, OSError) as error:
            raise UserError(f"Slurm refuses the jobs: {_slurm_words(error)}; mend --launcher-args") from None
        for job, chunk in zip(submitted, chunks):
            for folder in chunk:
                self._jobs[folder] = str(job.job_id)
        with Lock(self.folder, wait=30.0):  # two checks of one `verify` may submit below one folder
            self._jobs = self._known() | self._jobs
            write_json(self.folder / "jobs.json", self._jobs)

    def held(self, jobs: Sequence[Job]) -> set[Path]:
        """Ask squeue which jobs are pending or running."""
        mine = {job.folder: self._jobs.get(str(job.folder.absolute())) for job in jobs}
        if not any(mine.values()):
            return set()
        living = _queue()
        return {folder for folder, number in mine.items() if number is not None and number in living}

    def why_gone(self, job: Job) -> Gone:
        """Name the log of the job; without one its node could not write here."""
        number = self._jobs.get(str(job.folder.absolute()), "")
        logs = sorted(self.folder.glob(f"{number}_*_log.out")) if number else []
        return Gone("", str(logs[-1])) if logs else Gone("", f"none (do the nodes see {self.folder}?)")

    def cancel_jobs(self) -> int:
        """Cancel all jobs of this folder that have not ended; how many there were."""
        living = _queue()
        numbers = sorted({number for number in self._jobs.values() if number in living})
        if numbers:
            subprocess.run(["scancel", *numbers], capture_output=True, check=False)
        return len(numbers)

    def _known(self) -> dict[str, str]:
        with suppress(UserError):
            content = read_json(self.folder / "jobs.json")
            if isinstance(content, Mapping):
                return {str(folder): str(number) for folder, number in content.items()}
        return {}


def _call(work: TrainFolders) -> None:
    work()


def _queue() -> set[str]:
    """Return the numbers of my jobs that Slurm still has: ``12_3`` for an element of an array."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %t"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"squeue fails: {_slurm_words(error)}; the jobs run on: the same command comes back") from None
    return {number for number, state in (line.split() for line in lines if line.strip()) if state in _LIVING}


def _slurm_words(error: BaseException) -> str:
    said = getattr(error, "stderr", None) or getattr(error, "output", None) or str(error)
    text = said.decode(errors="replace") if isinstance(said, bytes) else str(said)
    lines = [line.strip() for line in text.splitlines() if "error" in line.lower()] or [text.strip()]
    return "; ".join(re.sub(r"^sbatch: (error: )?", "", line) for line in lines)


def _count(arguments: Mapping[str, Any], name: str, default: int) -> int:
    value = arguments.get(name, default)
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1:
        raise UserError(f"--launcher-args {name}={value}: must be a whole number, at least 1")
    return number
