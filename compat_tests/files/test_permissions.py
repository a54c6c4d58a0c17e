"""Owners, modes, names and folders of the files that are written."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest

import faiss_torch

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
NOBODY = 65534


@pytest.fixture
def index(samples):
    return samples.ivf(faiss_torch)


@pytest.fixture
def folder():
    """A folder that any user can reach."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o777)
    yield path
    path.chmod(0o700)
    shutil.rmtree(path)


@contextlib.contextmanager
def as_nobody():
    """Run a block without the rights of root; for who has none, as it is."""
    if os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    try:
        os.setgroups([])
        os.setegid(NOBODY)
        os.seteuid(NOBODY)
    except OSError:
        pytest.skip("this root may not become another user")
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


needs_root = pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="files of two users need root")


def mode(path) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


@contextlib.contextmanager
def umask(mask):
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def test_a_file_that_may_not_be_written_is_not_replaced(index, folder):
    path = folder / "index"
    path.write_bytes(b"the old one")
    path.chmod(0o444)
    with as_nobody(), pytest.raises(RuntimeError, match=f"could not open {path} for writing: Permission denied"):
        faiss_torch.write_index(index, str(path))
    assert path.read_bytes() == b"the old one"
    assert os.listdir(folder) == ["index"]


def test_a_folder_in_which_nothing_may_be_made(index, folder, written):
    path = folder / "index"
    path.write_bytes(bytes(10_000))
    path.chmod(0o666)
    folder.chmod(0o555)
    with as_nobody():
        faiss_torch.write_index(index, str(path))
        with pytest.raises(RuntimeError, match=f"could not open {folder}/new for writing: Permission denied"):
            faiss_torch.write_index(index, str(folder / "new"))
    assert path.read_bytes() == written(index)
    assert os.listdir(folder) == ["index"]


def test_what_cannot_be_replaced_is_not_written_by_half(index, folder):
    path = folder / "index"
    path.write_bytes(b"the old one")
    path.chmod(0o666)
    folder.chmod(0o555)
    index.quantizer = faiss_torch.IndexRandom(index.d)
    with as_nobody(), pytest.raises(RuntimeError, match="IndexRandom cannot be written"):
        faiss_torch.write_index(index, str(path))
    assert path.read_bytes() == b"the old one"


def test_an_index_is_written_over_the_file_it_is_mapped_from(index, folder, written):
    path = folder / "index"
    faiss_torch.write_index(index, str(path))
    os.link(path, folder / "other name")  # so that it is not replaced
    mapped = faiss_torch.read_index(str(path), faiss_torch.IO_FLAG_MMAP)
    faiss_torch.write_index(mapped, str(path))
    assert path.read_bytes() == written(index)


@needs_root
def test_another_users_file_in_a_sticky_folder(index, folder, written):
    folder.chmod(0o1777)
    path = folder / "index"
    path.write_bytes(b"")
    path.chmod(0o666)
    with as_nobody():
        faiss_torch.write_index(index, str(path))
    assert path.read_bytes() == written(index)
    assert (path.stat().st_uid, mode(path)) == (0, 0o666)
    assert os.listdir(folder) == ["index"]


@needs_root
@pytest.mark.parametrize("writer", ["root", "nobody"])
def test_owner_and_group_stay(index, folder, written, writer):
    path = folder / "index"
    path.write_bytes(b"")
    os.chown(path, 1234, 1235)
    path.chmod(0o666)
    with contextlib.nullcontext() if writer == "root" else as_nobody():
        faiss_torch.write_index(index, str(path))
    assert path.read_bytes() == written(index)
    assert (path.stat().st_uid, path.stat().st_gid, mode(path)) == (1234, 1235, 0o666)
    assert os.listdir(folder) == ["index"]


def test_hard_links_stay(index, folder, written):
    path, other = folder / "index", folder / "other name"
    path.write_bytes(bytes(10_000))
    os.link(path, other)
    faiss_torch.write_index(index, str(path))
    assert other.read_bytes() == path.read_bytes() == written(index)
    assert os.path.samefile(path, other)
    assert sorted(os.listdir(folder)) == ["index", "other name"]


def test_extended_attributes_stay(index, folder):
    path = folder / "index"
    path.write_bytes(b"")
    try:
        os.setxattr(path, "user.origin", b"x")
    except (AttributeError, OSError):
        pytest.skip("no extended attributes here")
    faiss_torch.write_index(index, str(path))
    assert os.getxattr(path, "user.origin") == b"x"


@pytest.mark.parametrize("mask", [0o222, 0o277, 0o777])
def test_a_umask_that_takes_the_writers_own_rights(index, folder, written, mask):
    path = folder / "index"
    with as_nobody(), umask(mask):
        faiss_torch.write_index(index, str(path))
    assert mode(path) == 0o666 & ~mask
    path.chmod(0o666)
    with as_nobody(), umask(mask):
        faiss_torch.write_index(index, str(path))
    assert mode(path) == 0o666
    assert path.read_bytes() == written(index)
    assert os.listdir(folder) == ["index"]


def test_lists_on_disk_whose_file_may_not_be_opened_again(folder):
    path = folder / "lists"
    lists = faiss_torch.OnDiskInvertedLists(3, 4, str(path))
    with (
        as_nobody(),
        umask(0o222),  # it may be made, and then only be read
        pytest.raises(RuntimeError, match=f"could not open {path} for reading and writing"),
    ):
        lists.add_entry(0, 1, np.zeros(4, "uint8"))
    assert (lists.compute_ntotal(), lists.totsize, lists.slots.offsets) == (0, 0, [])
    path.unlink()
    lists.add_entry(0, 1, np.zeros(4, "uint8"))
    assert (lists.compute_ntotal(), lists.totsize) == (1, 32)


@pytest.mark.parametrize("before", [0o600, 0o640, 0o777])
def test_others_may_not_read_what_is_being_written(index, folder, monkeypatch, before):
    path = folder / "index"
    path.write_bytes(b"")
    path.chmod(before)
    seen = []
    write_bytes = faiss_torch.FileIOWriter.write_bytes

    def watched(self, data):
        seen.extend(mode(folder / name) for name in os.listdir(folder) if name != "index")
        write_bytes(self, data)

    monkeypatch.setattr(faiss_torch.FileIOWriter, "write_bytes", watched)
    with umask(0):
        faiss_torch.write_index(index, str(path))
    assert set(seen) == {0o600}
    assert mode(path) == before


def test_the_mode_of_a_new_file(index, folder):
    with umask(0o027):
        faiss_torch.write_index(index, str(folder / "index"))
    assert mode(folder / "index") == 0o640


def test_a_folder_below_one_that_may_not_be_entered(index, folder, monkeypatch, written):
    inner = folder / "inner"
    inner.mkdir()
    inner.chmod(0o777)
    (inner / "link").symlink_to("index")
    monkeypatch.chdir(inner)
    folder.chmod(0o700 if os.geteuid() == 0 else 0)
    with as_nobody():
        faiss_torch.write_index(index, "link")
    folder.chmod(0o700)
    assert (inner / "index").read_bytes() == written(index)


def test_links_that_lead_nowhere(index, folder, written):
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    with pytest.raises(RuntimeError, match=r"could not open .*a for writing: Too many levels"):
        faiss_torch.write_index(index, str(folder / "a"))
    assert sorted(os.listdir(folder)) == ["a", "b"]
    (folder / "inner").mkdir()
    (folder / "inner" / "first").symlink_to("../second")
    (folder / "second").symlink_to("new")
    faiss_torch.write_index(index, str(folder / "inner" / "first"))
    assert (folder / "new").read_bytes() == written(index)
