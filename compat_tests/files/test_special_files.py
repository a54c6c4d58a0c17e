"""Pipes, devices and the names of open files (``/dev/stdout``): written where they are, and read."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading

import pytest

import faiss_torch

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
needs_proc = pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="names of open files of Linux")


@pytest.fixture
def index(samples):
    return samples.ivf(faiss_torch)


def received(write) -> bytes:
    """What comes out of a pipe while a function writes to the descriptor that it is given."""
    read_end, write_end = os.pipe()
    parts = []

    def collect():
        with open(read_end, "rb") as file:
            parts.append(file.read())

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        write(write_end)
    finally:
        os.close(write_end)
        thread.join()
    return parts[0]


@pytest.mark.parametrize("folder", ["/proc/self/fd", "/dev/fd"])
def test_writing_to_an_open_pipe(index, written, folder):
    if not os.path.exists(folder):
        pytest.skip(f"there is no {folder}")
    assert received(lambda end: faiss_torch.write_index(index, f"{folder}/{end}")) == written(index)
    assert received(lambda end: faiss_torch.write_InvertedLists(index.invlists, f"{folder}/{end}"))[:4] == b"ilar"


PROGRAM = """
import faiss_torch
index = faiss_torch.read_index("/dev/stdin")
faiss_torch.write_index(index, "/dev/stdout")
print("and more")
"""


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("to", ["pipe", "file"])
def test_a_program_between_two_pipes(index, written, tmp_path, to):
    with open(tmp_path / "out", "wb") as file:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM if to == "pipe" else PROGRAM.replace('print("and more")', "")],
            input=written(index),
            stdout=subprocess.PIPE if to == "pipe" else file,
            check=True,
        )
    if to == "pipe":
        assert done.stdout == written(index) + b"and more\n"
    else:
        assert (tmp_path / "out").read_bytes() == written(index)
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("io_flags", [0, faiss_torch.IO_FLAG_READ_ONLY])
def test_a_named_pipe(index, written, tmp_path, io_flags):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    writer = threading.Thread(target=faiss_torch.write_index, args=(index, path))
    writer.start()
    got = faiss_torch.read_index(path, io_flags)
    writer.join()
    assert written(got) == written(index)
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_reader_that_goes_away(index):
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        with pytest.raises(RuntimeError, match=r"write error in .*: Broken pipe"):
            faiss_torch.write_index(index, f"/dev/fd/{write_end}")
    finally:
        os.close(write_end)


@needs_proc
def test_an_open_file_keeps_its_place(index, written, tmp_path):
    path = tmp_path / "index"
    with open(path, "wb+") as file:
        file.write(bytes(10_000))
        file.flush()
        faiss_torch.write_index(index, f"/proc/self/fd/{file.fileno()}")
        file.seek(0)
        assert file.read() == written(index)
    assert os.listdir(tmp_path) == ["index"]


@needs_proc
def test_an_open_file_without_a_name(index, written, tmp_path):
    with open(tmp_path / "index", "wb+") as file:
        os.unlink(tmp_path / "index")
        path = f"/proc/self/fd/{file.fileno()}"
        faiss_torch.write_index(index, path)
        assert written(faiss_torch.read_index(path)) == written(index)
        assert written(faiss_torch.read_index(path, faiss_torch.IO_FLAG_MMAP)) == written(index)
    assert os.listdir(tmp_path) == []


@needs_proc
def test_an_open_file_is_whole_or_as_it_was(index, tmp_path):
    with open(tmp_path / "index", "wb+") as file:
        file.write(b"the old one")
        file.flush()
        index.quantizer = faiss_torch.IndexRandom(index.d)
        with pytest.raises(RuntimeError, match="IndexRandom cannot be written"):
            faiss_torch.write_index(index, f"/proc/self/fd/{file.fileno()}")
    assert (tmp_path / "index").read_bytes() == b"the old one"


@needs_proc
def test_a_socket_cannot_be_opened_by_name(index):
    here, there = socket.socketpair()
    with here, there, pytest.raises(RuntimeError, match="for writing: No such device"):
        faiss_torch.write_index(index, f"/proc/self/fd/{here.fileno()}")


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero")
@pytest.mark.parametrize("io_flags", [faiss_torch.IO_FLAG_MMAP, faiss_torch.IO_FLAG_MMAP_IFC])
def test_a_device_cannot_be_mapped(io_flags):
    with pytest.raises(RuntimeError, match="could not open /dev/zero for reading: only a regular file can be mapped"):
        faiss_torch.read_index("/dev/zero", io_flags)
