"""The launcher for a Ray cluster: tasks that train run folders; the data goes once into the object store."""

import logging
import os
import secrets
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scaleinv.errors import UserError, how_to_install
from scaleinv.lab.data import Dataset
from scaleinv.lab.data.sharing import TENSORS
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.carried import lay_out_needs, needs, pack, pack_to_return, unpack
from scaleinv.lab.launch.polled import TRIES, Gone, Polled
from scaleinv.lab.launch.task import is_task
from scaleinv.lab.launch.unit import attempt
from scaleinv.runfolder.files import write_bytes
from scaleinv.runfolder.layout import BEFORE_CONFIG, CONFIG, ERROR, TASK

#: what a node returns that has to be sent a folder as it is
_WHOLE = b"whole"
#: name of a file beside the runs: a node that does not see it with this content does not share the folder
TOKEN = ".ray-token"
#: minutes to wait for a node that offers what a run takes, where nobody says: a cloud's come within some
WAIT = 30.0


class Ray(Polled):
    """Trains jobs as Ray tasks. ``arguments``: ``address`` (of a cluster, ``auto``: the one on this machine; default:
    that of the environment variable RAY_ADDRESS, else one started here with ``workers`` CPUs), ``gpus`` (share of a
    GPU for each run: 0.25 for four at a time; default: 1 on ``cuda``), ``cpus`` (default: the threads of a run),
    ``wait`` (minutes, for a node that offers that; default: 30).

    Nodes that do not share the folder with this machine train on their own disk, and the run folder comes back whole
    when the run has ended. A task whose node dies is started again elsewhere, and resumes where the folder is shared.
    """

    engine = "Ray"

    def __init__(
        self,
        out: Path,
        prepare: Callable[[Sequence[Job]], None],
        dataset: Dataset | None = None,
        *,
        workers: int = 1,
        address: str | None = None,
        gpus: float | None = None,
        cpus: float | None = None,
        wait: float = WAIT,
    ) -> None:
        super().__init__(prepare)
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError(f"the launcher ray needs ray, which is missing: {how_to_install('ray', 'ray')}") from None
        self.ray: Any = ray
        self.out, self.dataset, self.gpus, self.cpus = out.absolute(), dataset, gpus, cpus
        self._task = ray.remote(max_retries=0)(_train)
        self._tasks: dict[Path, Any] = {}
        self._gone: dict[Path, Gone] = {}
        self._kept: dict[tuple[Path, ...], Any] = {}  # what runs need besides their folders, in the object store
        address = address or os.environ.get("RAY_ADDRESS")
        self._own = not ray.is_initialized()
        ours = self._own and address is None  # nobody adds nodes to that
        self._wait, self._hint = (0.0, ", or more --workers") if ours else (60.0 * wait, ", or add such a node")
        self._since: float | None = None  # when a node began to be missing
        if self._own:
            # "local": without it, Ray joins any cluster that it finds on this machine
            new: dict[str, Any] = {"address": "local", "num_cpus": workers}
            _connect(ray, address, new if address is None else {"address": address})

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends."""
        self.why_waiting(jobs)  # raises where a cluster of ours cannot train them
        self._token = secrets.token_hex(8)
        self._token_file = self.out / f"{TOKEN}-{self._token}"
        write_bytes(self._token_file, self._token.encode(), parents=True)
        self._data = self.ray.put(_packed(self.dataset)) if self.dataset is not None else None
        try:
            yield from super().run(jobs, watch)
        finally:
            self._token_file.unlink(missing_ok=True)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Make a task of each job."""
        for job in jobs:
            self._start_task(job, whole=not _begun(job.folder))

    def _start_task(self, job: Job, *, whole: bool) -> None:
        head = pack(job.folder) if whole else b""  # of one that was begun only where a node asks: checkpoints are large
        task = self._task.options(**self.resources(job))
        where = (str(job.folder.absolute()), str(self._token_file), self._token, self._data)
        self._tasks[job.folder] = task.remote(*where, head, needs(job, self._put))

    def _put(self, folder: Path, files: Iterable[Path] | None) -> Any:
        """Put a folder into the object store, once for all runs."""
        key = (folder, *(files or ()))
        if key not in self._kept:
            self._kept[key] = self.ray.put(pack(folder, files))
        return self._kept[key]

    def resources(self, job: Job) -> dict[str, float]:
        """Say what a job takes of its node: by default a CPU a thread, and one GPU where it trains on one."""
        cpus = self.cpus if self.cpus is not None else job.config.threads
        gpus = self.gpus if self.gpus is not None else float(job.config.device == "cuda")
        return {"num_cpus": cpus, "num_gpus": gpus}

    def why_waiting(self, jobs: Sequence[Job]) -> str:
        """Name what no living node offers. Raises :class:`UserError` where that has been so for too long."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        offers = sorted({(node.get("CPU", 0.0), node.get("GPU", 0.0)) for node in nodes})
        asked = sorted({(need["num_cpus"], need["num_gpus"]) for need in map(self.resources, jobs)})
        short = [(c, g) for c, g in asked if not any(c <= cpus and g <= gpus for cpus, gpus in offers)]
        if not short:
            self._since = None
            return ""
        has = "nodes of " + ", ".join(_amount(*one) for one in offers) if offers else "no node"
        lacks, now = f"no node of the Ray cluster offers {_amount(*short[0])}", time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._wait:
            raise UserError(f"{lacks}: it has {has}; give cpus= or gpus= in --launcher-args{self._hint}")
        return f"{lacks}: waiting; it has {has}"

    def held(self, jobs: Sequence[Job]) -> set[Path]:
        """Find the tasks that have not ended; what one brought back is put into its place."""
        living = set()
        for job in jobs:
            task = self._tasks.get(job.folder)
            if task is None:
                continue
            done, _ = self.ray.wait([task], timeout=0)
            if not done:
                living.add(job.folder)
                continue
            del self._tasks[job.folder]
            try:
                brought = self.ray.get(task)
            except Exception as error:  # the node died, the worker was killed, or a bug of ours: started again
                self._gone[job.folder] = Gone(log=(str(error).strip().splitlines() or ["?"])[-1][:200])
                continue
            if brought == _WHOLE:
                self._start_task(job, whole=True)
                living.add(job.folder)
            elif brought is not None:
                unpack(job.folder, brought)
        return living

    def why_gone(self, job: Job) -> Gone:
        """Say what Ray said of a task that failed."""
        return self._gone.pop(job.folder, Gone())

    def cancel(self) -> None:
        """Stop all tasks; they resume from their checkpoints."""
        super().cancel()
        for task in self._tasks.values():
            self.ray.cancel(task, force=True)
        self._tasks.clear()
        if self._own and self.ray.is_initialized():
            self.ray.shutdown()
            self._own = False


def _connect(ray: Any, address: str | None, options: Mapping[str, Any]) -> None:
    """Join the cluster at an address, or start one here, again where that takes too long: under load Ray gives its own
    parts up after fifteen seconds. Raises :class:`UserError` where there is none.
    """
    if address is not None:
        _answers(address)
    for left in reversed(range(1 if address is not None else TRIES)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **options)
            return
        except Exception as error:  # a bare Exception where a part did not start in time
            ray.shutdown()
            words = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if address is not None:
                raise UserError(
                    f"no Ray cluster answers at {address}: {words}; start one, or leave address= out"
                ) from None
            if not left:
                raise UserError(
                    f"Ray does not start on this machine: {words}; try again, or use another --launcher"
                ) from None


def _begun(folder: Path) -> bool:
    """Tell whether there is more in a folder than what was prepared."""
    return any(path.name not in (*BEFORE_CONFIG, CONFIG, TASK) for path in folder.iterdir())


def _amount(cpus: float, gpus: float) -> str:
    """Say resources in words: 1 CPU and 0.25 GPU."""
    words = f"{cpus:g} CPU{'s' if cpus != 1 else ''}"
    return f"{words} and {gpus:g} GPU{'s' if gpus > 1 else ''}" if gpus else words


def _answers(address: str) -> None:
    """Refuse an address at which nothing listens, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdigit() and "/" not in address:
        try:
            socket.create_connection((host, int(port)), timeout=10).close()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or error
            raise UserError(f"no Ray cluster answers at {address}: {why}; start one, or leave address= out") from None


def _packed(dataset: Dataset) -> dict[str, Any]:
    """Take a data set apart into arrays, which tasks of one node read from the same memory."""
    fields = {name: getattr(dataset, name) for name in ("name", "classes", "fingerprint", "pad_value")}
    return {**fields, **{name: getattr(dataset, name).numpy() for name in TENSORS}}


def _unpacked(fields: Mapping[str, Any]) -> Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the arrays are not writable, and nobody writes
        made: dict[str, Any] = {k: torch.from_numpy(v) if k in TENSORS else v for k, v in fields.items()}
    return Dataset(**made)


def _train(
    folder: str, token_file: str, token: str, data: Mapping[str, Any] | None, head: bytes, needed: Mapping[str, Any]
) -> bytes | None:
    """On a node: train a folder. Return None where the driver sees it, else the folder as it is then. ``head``: the
    folder before, of which one that was begun is asked for by :data:`_WHOLE`; ``needed``: what it reads besides.
    """
    dataset = None if data is None else _unpacked(data)
    place = Path(token_file)
    if place.is_file() and place.read_text() == token:
        attempt(Path(folder), dataset)
        return None
    if not head:
        return _WHOLE
    with tempfile.TemporaryDirectory(prefix="scaleinv-") as local:
        own = Path(local) / "sweep" / "runs" / Path(folder).name
        unpack(own, head)
        if is_task(own):
            told = f"UserError: the node {socket.gethostname()} does not see {place.parent}, which this needs; share it"
            write_bytes(own / ERROR, f"{told}\n".encode())
            return pack(own)
        lay_out_needs(own, _fetched(needed))
        attempt(own, dataset)
        return pack_to_return(own, head)


def _fetched(needed: Mapping[str, Any]) -> dict[str, bytes]:
    """Get from the object store what a node needs, there alone where it is needed."""
    import ray

    return {name: ray.get(one) if isinstance(one, ray.ObjectRef) else one for name, one in needed.items()}
