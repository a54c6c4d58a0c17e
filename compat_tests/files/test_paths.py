"""Paths that cannot be read or written, and files that are replaced at once."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys

import pytest

import faiss_torch


@pytest.fixture
def index(samples):
    return samples.ivf(faiss_torch)


@pytest.fixture
def old(samples, tmp_path, written):
    """A file with an older index; afterwards its folder must hold nothing else."""
    path = tmp_path / "index"
    faiss_torch.write_index(samples.flat(faiss_torch), str(path))
    content = path.read_bytes()
    yield path
    assert path.read_bytes() == content
    assert os.listdir(tmp_path) == ["index"]


@pytest.mark.parametrize("kind", [str, pathlib.Path, os.fsencode])
def test_paths_of_every_kind(index, tmp_path, written, kind):
    path = kind(str(tmp_path / "index"))
    faiss_torch.write_index(index, path)
    assert written(faiss_torch.read_index(path)) == written(index)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file"),
        ("missing/index", "No such file"),
        ("", "directory"),
        ("file/index", "directory"),
    ],
)
def test_a_path_that_cannot_be_read(tmp_path, name, reason):
    (tmp_path / "file").write_bytes(b"")
    path = str(tmp_path / name)
    with pytest.raises(RuntimeError, match=f"could not open {path}.* for reading: .*{reason}"):
        faiss_torch.read_index(path)
    with pytest.raises(RuntimeError, match=f"could not open {path}.* for reading: .*{reason}"):
        faiss_torch.read_index(path, faiss_torch.IO_FLAG_MMAP)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/index", "No such file"),
        ("", "directory"),
        ("new/", "directory"),
        ("file/index", "directory"),
        ("x" * 300, "too long"),
    ],
)
def test_a_path_that_cannot_be_written(index, tmp_path, name, reason):
    (tmp_path / "file").write_bytes(b"")
    path = os.path.join(tmp_path, name)
    with pytest.raises(RuntimeError, match=f"could not open {path}.* for writing: .*{reason}"):
        faiss_torch.write_index(index, path)
    with pytest.raises(RuntimeError, match=f"could not open {path}.* for writing: .*{reason}"):
        faiss_torch.FileIOWriter(path)
    assert os.listdir(tmp_path) == ["file"]


def test_an_empty_path(index):
    with pytest.raises(RuntimeError, match="could not open a file for writing: the path is empty"):
        faiss_torch.write_index(index, "")
    with pytest.raises(RuntimeError, match="could not open a file for writing: the path is empty"):
        faiss_torch.FileIOWriter("")
    for io_flags in (0, faiss_torch.IO_FLAG_MMAP):
        with pytest.raises(RuntimeError, match="could not open a file for reading: the path is empty"):
            faiss_torch.read_index("", io_flags)


def test_a_zero_byte_in_a_path(index):
    with pytest.raises(RuntimeError, match="null"):
        faiss_torch.write_index(index, "a\0b")
    with pytest.raises(RuntimeError, match="null"):
        faiss_torch.read_index("a\0b")


def test_an_empty_file(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    for flags in (0, faiss_torch.IO_FLAG_MMAP):
        with pytest.raises(RuntimeError, match=r"empty: index\.fourcc: the data end here"):
            faiss_torch.read_index(str(tmp_path / "empty"), flags)


def test_a_damaged_file_is_named(index, tmp_path, written):
    path = tmp_path / "index"
    path.write_bytes(written(index)[:-1])
    with pytest.raises(RuntimeError, match=f"{path}: index.IwFl.invlists.entries: .* bytes are left"):
        faiss_torch.read_index(str(path))


def test_an_error_midway_leaves_the_old_file(index, old, monkeypatch):
    calls = []
    write_bytes = faiss_torch.FileIOWriter.write_bytes

    def failing(self, data):
        calls.append(len(data))
        if len(calls) == 12:
            raise OSError("simulated")
        write_bytes(self, data)

    monkeypatch.setattr(faiss_torch.FileIOWriter, "write_bytes", failing)
    with pytest.raises(OSError, match="simulated"):
        faiss_torch.write_index(index, str(old))
    assert len(calls) == 12


def test_an_error_at_the_last_moment_leaves_the_old_file(index, old, monkeypatch):
    def failing(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(RuntimeError, match=f"could not open {old} for writing: No space left"):
        faiss_torch.write_index(index, str(old))


def test_an_interruption_leaves_the_old_file(index, old, monkeypatch):
    def interrupted(self, data):
        raise KeyboardInterrupt

    monkeypatch.setattr(faiss_torch.FileIOWriter, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        faiss_torch.write_index(index, str(old))


def test_an_index_without_a_format_leaves_the_old_file(old):
    with pytest.raises(RuntimeError, match=f"{old}: index.fourcc: a dict cannot be written"):
        faiss_torch.write_index({}, str(old))


def test_a_value_that_does_not_fit_leaves_the_old_file(index, old):
    vars(index)["nprobe"] = -1  # past the check of the attribute
    with pytest.raises(RuntimeError, match="nprobe: -1 cannot be stored"):
        faiss_torch.write_index(index, str(old))


def test_permissions_stay(index, tmp_path):
    path = tmp_path / "index"
    path.write_bytes(b"")
    path.chmod(0o640)
    faiss_torch.write_index(index, str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    mask = os.umask(0o027)
    try:
        faiss_torch.write_index(index, str(tmp_path / "new"))
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_link_stays_a_link(index, tmp_path, written):
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to("real")
    faiss_torch.write_index(index, str(tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == written(index)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_devices_are_written_directly(index):
    faiss_torch.write_index(index, "/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(RuntimeError, match="write error in /dev/full: No space left"):
        faiss_torch.write_index(index, "/dev/full")


def test_an_index_may_be_written_over_the_file_it_is_mapped_from(index, tmp_path, written):
    path = str(tmp_path / "index")
    faiss_torch.write_index(index, path)
    mapped = faiss_torch.read_index(path, faiss_torch.IO_FLAG_MMAP)
    faiss_torch.write_index(mapped, path)
    assert (tmp_path / "index").read_bytes() == written(index)


AT_EXIT = """
import sys
import faiss_torch as faiss

class Keeper:
    def __init__(self, path):
        self.index, self.path = faiss.IndexFlatL2(4), path

    def __del__(self):
        for path in (self.path, "/dev/null"):
            faiss.write_index(self.index, path)

keeper = Keeper(sys.argv[1])
sys.modules["somewhere else"] = keeper  # so that it goes late
"""


@pytest.mark.slow
@pytest.mark.parametrize("late", [True, False])
def test_writing_when_the_interpreter_exits(tmp_path, late):
    program = AT_EXIT if late else AT_EXIT.rsplit("sys.modules", 1)[0]
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "index")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert os.listdir(tmp_path) == ["index"]
