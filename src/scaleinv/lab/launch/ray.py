"""The launcher for a Ray cluster: tasks that train run folders; the data goes once into the object store."""

import io
import logging
import secrets
import shutil
import socket
import tarfile
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from scaleinv.errors import UserError, how_to_install
from scaleinv.lab.data import Dataset
from scaleinv.lab.data.sharing import TENSORS
from scaleinv.lab.launch.base import Finished, Job, Watcher, unwatched
from scaleinv.lab.launch.polled import Gone, Polled
from scaleinv.lab.launch.unit import attempt
from scaleinv.runfolder.files import disk_errors
from scaleinv.runfolder.layout import LOCK

#: a file beside the runs: a node that does not see it with this content does not share the folder
TOKEN = ".ray-token"


class Ray(Polled):
    """Trains jobs as Ray tasks. ``arguments``: ``address`` (of a cluster; default: one started here with ``workers``
    CPUs), ``gpus`` (share of a GPU for each run, 0.25 for four at a time), ``cpus`` (default: the threads of a run).

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
        gpus: float = 0.0,
        cpus: float | None = None,
    ) -> None:
        super().__init__(prepare)
        try:
            import ray
        except ModuleNotFoundError:
            raise UserError(f"the launcher ray needs ray, which is missing: {how_to_install('ray', 'ray')}") from None
        self.ray: Any = ray
        self.out, self.dataset, self.gpus, self.cpus = out.absolute(), dataset, gpus, cpus
        self._tasks: dict[Path, Any] = {}
        self._gone: dict[Path, Gone] = {}
        self._own = not ray.is_initialized()
        if self._own:
            options: dict[str, Any] = {"num_cpus": workers} if address is None else {"address": address}
            if address is not None:
                _answers(address)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False, **options)
            except (ConnectionError, ValueError, RuntimeError, OSError) as error:
                words = (str(error).splitlines() or [type(error).__name__])[0]
                raise UserError(
                    f"no Ray cluster answers at {address}: {words}; start one, or leave address= out"
                ) from None

    def run(self, jobs: Sequence[Job], watch: Watcher = unwatched) -> Iterator[Finished]:
        """Yield every job as it ends."""
        token = secrets.token_hex(8)
        with disk_errors(self.out):
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / TOKEN).write_text(token)
        self._token = token
        self._data = self.ray.put(_packed(self.dataset)) if self.dataset is not None else None
        try:
            yield from super().run(jobs, watch)
        finally:
            (self.out / TOKEN).unlink(missing_ok=True)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Make a task of each job."""
        for job in jobs:
            cpus = self.cpus if self.cpus is not None else job.config.threads
            task = self.ray.remote(num_cpus=cpus, num_gpus=self.gpus, max_retries=0)(_train)
            head = _read_tree(job.folder)
            folder = str(job.folder.absolute())
            self._tasks[job.folder] = task.remote(folder, str(self.out / TOKEN), self._token, self._data, head)

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
            if brought is not None:
                _write_tree(job.folder, brought)
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


def _train(folder: str, token_file: str, token: str, data: Mapping[str, Any] | None, head: bytes) -> bytes | None:
    """On a node: train a folder. Return None where the driver sees it, else the folder as it is then."""
    dataset = None if data is None else _unpacked(data)
    place = Path(token_file)
    if place.is_file() and place.read_text() == token:
        attempt(Path(folder), dataset)
        return None
    with tempfile.TemporaryDirectory(prefix="scaleinv-") as local:
        own = Path(local) / Path(folder).name
        _write_tree(own, head)
        attempt(own, dataset)
        return _read_tree(own)


def _read_tree(folder: Path) -> bytes:
    """Pack a run folder, its lock aside."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for path in sorted(folder.rglob("*")):
            if path.name != LOCK and path.is_file() and not path.is_symlink():
                tar.add(path, arcname=str(path.relative_to(folder)))
    return stream.getvalue()


def _write_tree(folder: Path, packed: bytes) -> None:
    """Put a packed run folder into its place, whole or not at all."""
    part = folder.with_name(f".{folder.name}.{socket.gethostname()}.part")
    with disk_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
            for member in tar:  # files alone, below the folder: what _read_tree packs
                content = tar.extractfile(member) if member.isfile() else None
                target = part / member.name
                if content is not None and target.resolve().is_relative_to(part.resolve()):
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(content.read())
        before = part.with_suffix(".before")
        shutil.rmtree(before, ignore_errors=True)
        if folder.exists():
            folder.rename(before)
        part.rename(folder)
        shutil.rmtree(before, ignore_errors=True)
