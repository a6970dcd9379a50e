"""Downloads, from a server on this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import sys
import tarfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from scaleinv.errors import UserError
from scaleinv.lab.data import load_dataset
from scaleinv.lab.data.catalog import CATALOG
from scaleinv.lab.data.fetch import fetch
from scaleinv.lab.data.source import resolve


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """(the folder that is served, its address)."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,))
        thread.start()
        yield folder, f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def published(
    server: tuple[Path, str],
    make_batch: Callable[..., Any],
    write_idx: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Path, str]:
    """A small cifar10 (pickles in an archive) and mnist (.gz files) on the server, known to the catalog."""
    folder, address = server
    form = CATALOG["cifar10"][0]
    assert form.archive
    contents = [make_batch(6, seed).pickled() for seed in range(6)]
    with tarfile.open(folder / form.archive.name, "w:gz") as tar:
        for name, data in [
            *((f.name, c) for f, c in zip(form.files, contents)),
            ("readme.html", b"x"),
            ("../evil", b"x"),
        ]:
            member = tarfile.TarInfo(f"{form.folders[0]}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    packed = (folder / form.archive.name).read_bytes()
    files = tuple(file._replace(md5=md5(content)) for file, content in zip(form.files, contents))
    archive = form.archive._replace(md5=md5(packed), size=len(packed))
    monkeypatch.setitem(CATALOG, "cifar10", (form._replace(files=files, archive=archive, url=address),))

    form = CATALOG["mnist"][0]
    write_idx(folder, 1)
    plain = [(folder / file.name).read_bytes() for file in form.files]
    zipped = [gzip.compress(data) for data in plain]
    for file, data in zip(form.files, zipped):
        (folder / file.name).unlink()
        (folder / f"{file.name}.gz").write_bytes(data)
    files = tuple(f._replace(md5=md5(p), gz_md5=md5(z)) for f, p, z in zip(form.files, plain, zipped))
    monkeypatch.setitem(CATALOG, "mnist", (form._replace(files=files, gz_sizes=tuple(map(len, zipped)), url=address),))
    return server


@pytest.mark.parametrize(
    ("name", "count", "below"), [("cifar10", 30, "cifar-10-batches-py"), ("mnist", 20, "MNIST/raw")]
)
def test_fetch_then_load(name: str, count: int, below: str, published: tuple[Path, str], tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    target = tmp_path / "new" / "data"
    assert fetch(name, target, progress=lambda *args: seen.append(args)) == target / below
    assert len(load_dataset(name, data_dir=target).train_labels) == count
    files = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    gz = ".gz" if name == "mnist" else ""
    assert files == {f"{below}/{file.name}{gz}" for file in CATALOG[name][0].files}  # no archive, no part, no evil
    assert not (tmp_path / "new" / "evil").exists()
    assert seen[0][1] == 0
    assert seen[-1][1] == seen[-1][2] > 0
    assert all(done <= total for _, done, total in seen)


def test_what_is_intact_is_not_fetched_again(published: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = published
    fetch("mnist", tmp_path)
    for path in folder.iterdir():
        path.unlink()
    assert fetch("mnist", tmp_path) == tmp_path / "MNIST/raw"


@pytest.mark.parametrize("harm", ["damaged", "missing"])
def test_what_is_not_intact_is_mended(harm: str, published: tuple[Path, str], tmp_path: Path) -> None:
    fetch("cifar10", tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_2"
    path.unlink() if harm == "missing" else path.write_bytes(b"damaged")
    with pytest.raises(UserError, match="data_batch_2"):
        load_dataset("cifar10", data_dir=tmp_path)
    fetch("cifar10", tmp_path)
    assert len(load_dataset("cifar10", data_dir=tmp_path).train_labels) == 30


def test_a_damaged_plain_file_does_not_hide_the_download(published: tuple[Path, str], tmp_path: Path) -> None:
    fetch("mnist", tmp_path)
    (tmp_path / "MNIST/raw/train-images-idx3-ubyte").write_bytes(b"damaged")
    fetch("mnist", tmp_path)
    assert len(load_dataset("mnist", data_dir=tmp_path).train_labels) == 20


@pytest.mark.parametrize(
    ("harm", "words"), [("cut", "got 100 with MD5"), ("longer", "got more than"), ("other", "with MD5")]
)
def test_a_wrong_download_is_not_kept(harm: str, words: str, published: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = published
    path = folder / "cifar-10-python.tar.gz"
    data = path.read_bytes()
    path.write_bytes({"cut": data[:100], "longer": data + bytes(10**6), "other": data[:-1] + b"\x00\x01"[:1]}[harm])
    target = tmp_path / "data"
    if harm == "other" and path.read_bytes() == data:
        path.write_bytes(data[:-1] + b"\x01")
    with pytest.raises(UserError, match=f"is not the published file: .*{words}.*nothing was kept"):
        fetch("cifar10", target)
    assert not target.exists()
    target.mkdir()
    with pytest.raises(UserError, match="is not the published file"):
        fetch("cifar10", target)
    assert list(target.iterdir()) == []


def test_mirror(published: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, address = published
    form = CATALOG["mnist"][0]
    monkeypatch.setitem(CATALOG, "mnist", (form._replace(url="http://127.0.0.1:1/"),))
    with pytest.raises(
        UserError, match=r"cannot download http://127\.0\.0\.1:1/train-images.*; check the network"
    ) as caught:
        fetch("mnist", tmp_path)
    assert "\n" not in str(caught.value)
    fetch("mnist", tmp_path, mirror=f"{address}/")
    assert len(load_dataset("mnist", data_dir=tmp_path).train_labels) == 20


def test_not_there(published: tuple[Path, str], tmp_path: Path) -> None:
    _, address = published
    with pytest.raises(UserError, match="HTTP Error 404: File not found; check the network"):
        fetch("cifar10", tmp_path, mirror=f"{address}/elsewhere")


@pytest.mark.parametrize("mirror", ["notaurl", "", "/served", "https://", "htp://there", "http://["])
def test_a_mirror_that_is_no_address(mirror: str, published: tuple[Path, str], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--mirror '.*' is no address; write https://\.\.\.") as caught:
        fetch("mnist", tmp_path / "new" / "data", mirror=mirror)
    assert repr(mirror) in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_folder_made_for_nothing_is_removed(published: tuple[Path, str], tmp_path: Path) -> None:
    target = tmp_path / "new" / "data"
    with pytest.raises(UserError, match="cannot download"):
        fetch("mnist", target, mirror="http://127.0.0.1:1")
    assert not target.parent.exists()
    target.parent.mkdir()
    with pytest.raises(UserError, match="cannot download"):
        fetch("mnist", target, mirror="http://127.0.0.1:1")
    assert list(target.parent.iterdir()) == []  # and what was there before is left alone


def test_a_killed_download_leaves_nothing(published: tuple[Path, str], tmp_path: Path) -> None:
    target = tmp_path / "data"
    (target / ".fetch-mnist").mkdir(parents=True)
    (target / ".fetch-mnist" / "train-images-idx3-ubyte.gz").write_bytes(b"half")
    fetch("mnist", target)
    assert [path.name for path in target.iterdir()] == ["MNIST"]


def test_two_downloads_of_one_set(published: tuple[Path, str], tmp_path: Path) -> None:
    target = tmp_path / "data"
    refused: list[str] = []

    def second(_: str, done: int, __: int) -> None:
        if not refused:
            with pytest.raises(UserError, match="another process downloads into") as caught:
                fetch("mnist", target)
            refused.append(str(caught.value))

    fetch("mnist", target, progress=second)
    assert refused
    assert len(load_dataset("mnist", data_dir=target).train_labels) == 20


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_two_processes_download_at_once(published: tuple[Path, str], tmp_path: Path) -> None:
    """One downloads, the other is refused in a line or finds it done; what is there is whole."""
    target = tmp_path / "data"

    def child() -> int:
        try:
            fetch("mnist", target)
        except UserError as error:
            return 2 if "another process downloads into" in str(error) else 3
        except BaseException:
            return 1
        return 0

    codes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside the server's thread
        for _ in range(2):
            if (pid := os.fork()) == 0:
                os._exit(child())
            codes.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in codes]
    assert 0 in codes
    assert set(codes) <= {0, 2}
    assert [path.name for path in target.iterdir()] == ["MNIST"]
    assert len(load_dataset("mnist", data_dir=target).train_labels) == 20


@pytest.mark.parametrize("link", ["MNIST", "MNIST/raw", ".fetch-mnist"])
def test_nothing_is_written_or_removed_through_a_link(link: str, published: tuple[Path, str], tmp_path: Path) -> None:
    other = tmp_path / "other"
    (other / "raw").mkdir(parents=True)
    (other / "mine.txt").write_text("mine")
    (other / "train-images-idx3-ubyte").write_text("mine too")
    (tmp_path / "data" / link).parent.mkdir(parents=True)
    (tmp_path / "data" / link).symlink_to(other)
    before = {path: path.is_dir() or path.read_text() for path in other.rglob("*")}
    with pytest.raises(UserError, match="is a link, and nothing is written or removed through it; remove it"):
        fetch("mnist", tmp_path / "data")
    assert {path: path.is_dir() or path.read_text() for path in other.rglob("*")} == before
    assert not (tmp_path / "data" / ".fetch-mnist").exists() or link == ".fetch-mnist"


def test_the_data_folder_itself_may_be_a_link(published: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "mine.txt").write_text("mine")
    (tmp_path / "data").symlink_to("disk")
    fetch("mnist", tmp_path / "data")
    assert sorted(path.name for path in (tmp_path / "disk").iterdir()) == ["MNIST", "mine.txt"]


def test_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCALEINV_DATA", raising=False)
    with pytest.raises(UserError, match="digits comes with scikit-learn: there is nothing to download"):
        fetch("digits", tmp_path)
    with pytest.raises(UserError, match="unknown data set 'foo'; choose one of: mnist"):
        fetch("foo", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(UserError, match="cannot download"):  # into the cache directory, which it leaves as it was
        fetch("mnist", mirror="http://127.0.0.1:1")
    assert not (tmp_path / "cache").exists()
    assert resolve(None) is None
    (tmp_path / "cache" / "scaleinv" / "data").mkdir(parents=True)
    assert resolve(None) == tmp_path / "cache" / "scaleinv" / "data"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make data folder"):
        fetch("mnist", tmp_path / "file" / "below")


def test_the_catalog_can_be_fetched() -> None:
    for name, forms in CATALOG.items():
        form = next(form for form in forms if form.url)
        assert form is forms[0], name  # what is fetched is what is read first
        assert form.url.startswith("https://")
        assert form.archive or len(form.gz_sizes) == len(form.files)
