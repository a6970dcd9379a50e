"""The launcher for a Slurm cluster, by submitit: job arrays that train run folders on a shared file system."""

import contextlib
import hashlib
import io
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from scaleinv.errors import UserError, how_to_install
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.polled import TRIES, Gone, Polled
from scaleinv.lab.launch.unit import Stopping, attempt
from scaleinv.runfolder.files import Lock, disk_errors, json_text, read_json, write_bytes, write_json
from scaleinv.runfolder.layout import ERROR, RESULT

#: where it keeps its scripts, its logs and the numbers of its jobs, below the sweep's folder
FOLDER = ".slurm"
#: minutes a job may take where nobody says; it resumes in another one
TIME = 240
#: seconds before the end of its time at which Slurm warns a job, at most
WARNED = 90
#: elements of an array, below the MaxArraySize that Slurm has where nobody says, 1001; of more several are made
ELEMENTS = 1000
#: said at Ctrl-C
JOBS_RUN_ON = "the jobs keep running in Slurm; the same command comes back to them, with --cancel it ends them"
_OWN = {"runs_per_job", "time", "array_parallelism"}
#: what sbatch says where it finds no cluster, in place of refusing a job
_UNREACHED = ("failed to fetch config", "Unable to contact slurm controller")
#: why jobs wait as a matter of course, in squeue's words: told where none of ours runs
_USUAL = {"Resources", "Priority", "JobArrayTaskLimit", "BeginTime", "Dependency"}
_LIVING = {"PD", "R", "CF", "CG", "S", "ST", "RQ", "RS", "SI", "SO", "RH", "RD", "RF", "RV"}


class Queued(NamedTuple):
    """What squeue says of a job that has not ended."""

    state: str  # PD: pending, R: running, ...
    reason: str  # why it is pending


class TrainFolders:
    """What a Slurm job does: train its folders, one after the other, then what no other job of its array has begun.
    A start of Python costs seconds: so a sweep of short runs has as many as there are places, not one a run. Pickled by
    submitit, so it is small: ``array`` is a file that lists the folders of all jobs.
    """

    def __init__(self, folders: Sequence[str], array: str = "") -> None:
        self.folders, self.array = list(folders), array

    def __call__(self) -> None:
        """Train what has not ended; one that fails leaves its error in its folder and does not stop the others."""
        with Stopping(leaving=_requeue) as stop:
            if not self._trained(stop):
                _requeue()

    def _trained(self, stop: Stopping) -> bool:
        for folder in self.folders:
            gone = not Path(folder).exists()  # a task that another job of the array did, and whose result was taken
            if not gone and not attempt(Path(folder), stop=stop):
                return False
        for folder in reversed(self._others()):
            free = Path(folder).exists() and not any((Path(folder) / name).exists() for name in (RESULT, ERROR))
            if free and not attempt(Path(folder), stop=stop, wait=0.0) and stop():
                return False
        return True

    def _others(self) -> list[str]:
        if not self.array:
            return []
        folders = read_json(Path(self.array))
        return [folder for folder in folders if folder not in self.folders]


def _requeue() -> None:
    """Put this job, which is pre-empted or out of time, back into the queue under its number. Slurm warns of both while
    the job still counts as running; one that somebody has cancelled does not any more, and is left to end.
    """
    own = os.environ.get("SLURM_JOB_ID", "")
    if "SLURM_ARRAY_TASK_ID" in os.environ:
        own = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    ask = ["squeue", "--noheader", f"--jobs={own}", "--format=%T"]
    if subprocess.run(ask, capture_output=True, text=True, check=False).stdout.strip() == "RUNNING":
        subprocess.run(["scontrol", "requeue", own], check=False)


class Slurm(Polled):
    """Trains jobs as Slurm job arrays. ``arguments``: ``runs_per_job`` (default 1), ``time`` in minutes (240),
    ``array_parallelism`` (jobs at a time), and any option of sbatch: ``partition=gpu``, ``gpus_per_node=1``, ``qos=``,
    ``account=``, ``mem=4G``, ``constraint=`` ...; ``true`` for those without a value: ``exclusive=true``.

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
        self.options = {name: _flag(value) for name, value in arguments.items() if name not in _OWN}
        self._jobs = self._known()  # folder to job
        self._mine: set[str] = set()  # of the jobs this process has waited for
        self._living: dict[str, Queued] = {}  # what squeue said last

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends."""
        try:
            yield from super().run(jobs, watch)
            if self._mine:
                self._drop_spare(_queue())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(JOBS_RUN_ON) from None

    def submit(self, jobs: Sequence[Job]) -> None:
        """Submit the jobs as an array (very many as several), ``runs_per_job`` runs in each of its elements."""
        folders = [str(job.folder.absolute()) for job in jobs]
        chunks = [folders[k : k + self.per_job] for k in range(0, len(folders), self.per_job)]
        batches = [chunks[k : k + ELEMENTS] for k in range(0, len(chunks), ELEMENTS)]
        submitted: list[Any] = []
        refused: UserError | None = None
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        executor = self.submitit.SlurmExecutor(folder=self.folder)
        threads = {job.config.threads for job in jobs}
        exports = [f"export {name}={max(threads)}" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")]
        executor.update_parameters(
            job_name="scaleinv",
            time=self.time,
            signal_delay_s=min(WARNED, 20 * self.time),  # or a job of a minute would be stopped before it begins
            array_parallelism=max(1, self.parallel // len(batches)),
            ntasks_per_node=1,
            cpus_per_task=max(threads),
            stderr_to_stdout=True,
            additional_parameters={**_may_requeue(self.options), **_one_gpu(jobs, self.options), **self.options},
        )
        array = self.folder / f"array-{hashlib.sha256(json_text(folders).encode()).hexdigest()[:12]}.json"
        write_json(array, folders)
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # where submitit repeats what sbatch says
                for number, batch in enumerate(batches):
                    listed = array.with_name(f"{array.stem}-{number}.txt")
                    write_bytes(listed, "".join("\t".join(chunk) + "\n" for chunk in batch).encode())
                    executor.update_parameters(setup=[*exports, _leave_if_trained(listed)])
                    submitted += executor.map_array(_call, [TrainFolders(chunk, str(array)) for chunk in batch])
        except (subprocess.CalledProcessError, self.submitit.core.utils.FailedJobError, OSError) as error:
            refused = UserError(_refusal(_slurm_words(error)))
        for job, chunk in zip(submitted, chunks):
            for folder in chunk:
                self._jobs[folder] = str(job.job_id)
        with Lock(self.folder, wait=30.0):  # two checks of one `verify` may submit below one folder
            self._jobs = self._known() | self._jobs
            write_json(self.folder / "jobs.json", self._jobs)
        if refused is not None:  # --cancel knows those that it took
            raise refused

    def held(self, jobs: Sequence[Job]) -> set[Path]:
        """Ask squeue which jobs are pending or running."""
        mine = {job.folder: self._jobs.get(str(job.folder.absolute())) for job in jobs}
        if not any(mine.values()):
            return set()
        self._living = living = _queue()
        self._mine |= {number for number in mine.values() if number is not None}
        self._drop_spare(living, set(mine.values()))
        return {folder for folder, number in mine.items() if number is not None and number in living}

    def why_waiting(self, jobs: Sequence[Job]) -> str:
        """Name why jobs are pending: what is usual where none runs, anything else always."""
        ours = {number: one for number, one in self._living.items() if number in set(self._jobs.values())}
        numbers = {self._jobs.get(str(job.folder.absolute())) for job in jobs}
        pending = {number: one.reason for number, one in ours.items() if one.state == "PD" and number in numbers}
        held = sorted(number for number, reason in pending.items() if "held" in reason.lower())
        if held:
            shown = ",".join(held[:3]) + ("..." if len(held) > 3 else "")
            return f"Slurm holds jobs {shown} ({pending[held[0]]}): scontrol release {shown} lets them go"
        reasons = set(pending.values()) - {"None"}  # Slurm has not looked at it yet
        if any(one.state != "PD" for one in ours.values()):  # the others have their turn, or their runs trained there
            reasons -= _USUAL
        return f"jobs wait in Slurm: {'; '.join(sorted(reasons))}" if reasons else ""

    def _drop_spare(self, living: Mapping[str, Queued], needed: Set[str | None] = frozenset()) -> None:
        """Cancel jobs that wait for what other jobs of their array have trained meanwhile."""
        spare = {number for number in self._mine - needed if number in living and living[number].state == "PD"}
        if spare:
            begun = {number for folder, number in self._jobs.items() if not (Path(folder) / RESULT).exists()}
            _cancel(spare - begun)
            self._mine -= spare

    def why_gone(self, job: Job) -> Gone:
        """Name the log of the job, which is the first thing that it writes here. Raises :class:`UserError` where no job
        has written any: the nodes do not see the folder.
        """
        number = self._jobs.get(str(job.folder.absolute()), "")
        logs = sorted(self.folder.glob(f"{number}_*_log.out")) if number else []
        if not logs and self._tried.get(job.folder, 0) >= TRIES and not any(self.folder.glob("*_log.out")):
            raise UserError(
                f"the nodes do not see {self.folder}: {TRIES} jobs have left nothing there; give an --out on a file "
                "system that they share with this machine"
            )
        return Gone("", str(logs[-1]) if logs else "none")

    def cancel_jobs(self) -> int:
        """Cancel all jobs of this folder that have not ended; how many there were."""
        living = _queue()
        numbers = sorted({number for number in self._jobs.values() if number in living})
        _cancel(numbers)
        return len(numbers)

    def _known(self) -> dict[str, str]:
        with suppress(UserError):
            content = read_json(self.folder / "jobs.json")
            if isinstance(content, Mapping):
                return {str(folder): str(number) for folder, number in content.items()}
        return {}


def _leave_if_trained(listed: Path) -> str:
    """Write the line of a job's script that ends it where all its folders have a result: other jobs of its array have
    trained them, and a start of Python costs seconds. ``listed`` has a line for each element, its folders with tabs.
    """
    number = f'sed -n "$((${{SLURM_ARRAY_TASK_ID:-0}} + 1))p" {shlex.quote(str(listed))}'
    each = f'while IFS= read -r folder; do [ -e "$folder/{RESULT}" ] || exit 1; done'
    return f'mine=$({number}); if [ -n "$mine" ] && echo "$mine" | tr "\\t" "\\n" | ({each}); then exit 0; fi'


def _flag(value: Any) -> Any:
    """Read ``true``, for the options of sbatch that have no value: ``exclusive=true``."""
    return True if value == "true" else value


def _may_requeue(options: Mapping[str, Any]) -> dict[str, bool]:
    """Let Slurm put jobs back into the queue, which not every site does unasked."""
    return {} if "requeue" in options or "no_requeue" in options else {"requeue": True}


def _one_gpu(jobs: Sequence[Job], options: Mapping[str, Any]) -> dict[str, int]:
    """Ask for one GPU where runs train on one and nobody has said how many; a run is one process on one device."""
    said = any("gpu" in name or name in ("gres", "tres_per_task") for name in options)
    return {"gpus_per_node": 1} if not said and any(job.config.device == "cuda" for job in jobs) else {}


def _call(work: TrainFolders) -> None:
    work()


def _cancel(numbers: Iterable[str]) -> None:
    if some := sorted(numbers):
        subprocess.run(["scancel", *some], capture_output=True, check=False)


def _queue() -> dict[str, Queued]:
    """Return my jobs that Slurm still has by their number: ``12_3`` for an element of an array."""
    command = ["squeue", "--me", "--noheader", "--array", "--format=%i %t %r"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError) as error:
        raise UserError(f"squeue fails: {_slurm_words(error)}; the jobs run on: the same command comes back") from None
    found = {}
    for line in filter(str.strip, lines):
        number, state, *reason = line.split(maxsplit=2)
        if state in _LIVING:
            found[number] = Queued(state, "".join(reason).strip())
    return found


def _refusal(words: str) -> str:
    if any(part in words for part in _UNREACHED):
        return (
            f"no Slurm controller answers this machine: {words}; submit where squeue works, or use another --launcher"
        )
    return f"Slurm refuses the jobs: {words}; mend --launcher-args"


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
