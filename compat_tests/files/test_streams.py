"""Readers and writers, alone and with an index going through them."""

from __future__ import annotations

import io
import os
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import faiss_torch


@pytest.fixture
def index(samples):
    return samples.ivf(faiss_torch)


def same(a, b, written):
    assert written(a) == written(b)


@pytest.mark.parametrize("bsz", [0, 1, 7, 123, 100_000])
def test_writing_through_callbacks(index, written, bsz):
    file = io.BytesIO()
    writer = faiss_torch.PyCallbackIOWriter(file.write, 50)
    if bsz:
        writer = faiss_torch.BufferedIOWriter(writer, bsz)
    faiss_torch.write_index(index, writer)
    assert file.getvalue() == written(index)


@pytest.mark.parametrize("bsz", [0, 1, 7, 123, 100_000])
def test_reading_through_callbacks(index, written, bsz):
    file = io.BytesIO(written(index))
    reader = faiss_torch.PyCallbackIOReader(file.read, 50)
    if bsz:
        reader = faiss_torch.BufferedIOReader(reader, bsz)
    same(faiss_torch.read_index(reader), index, written)
    assert file.read() == b"" or bsz > 1


def test_callbacks_get_no_more_than_the_block_size(index):
    asked = []
    faiss_torch.write_index(index, faiss_torch.PyCallbackIOWriter(lambda block: asked.append(len(block)), 10))
    assert max(asked) == 10
    assert all(type(n) is int for n in asked)


@pytest.mark.parametrize(
    "answer",
    [
        lambda block, total: None,
        lambda block, total: 0,
        lambda block, total: total,
        lambda block, total: 1,
        lambda block, total: -1,
        lambda block, total: True,
        lambda block, total: "text",
        lambda block, total: len(block),
    ],
)
def test_what_a_writer_callback_returns_is_not_looked_at(faiss_cpu, index, samples, written, answer):
    for faiss, one in ((faiss_torch, index), (faiss_cpu, samples.ivf(faiss_cpu))):
        parts = []

        def callback(block, parts=parts):
            parts.append(block)
            return answer(block, sum(map(len, parts)))

        faiss.write_index(one, faiss.PyCallbackIOWriter(callback, 50))
        assert b"".join(parts) == written(index)


class Raw(io.RawIOBase):
    """A raw file that takes three bytes at a time, and none after the first hundred."""

    def __init__(self, room):
        self.parts, self.room = [], room

    def write(self, block):
        if len(self.parts) >= self.room:
            return None
        self.parts.append(bytes(block[:3]))
        return len(self.parts[-1])


def test_a_raw_file_may_take_less_than_it_was_given(index, written):
    raw = Raw(room=1_000_000)
    faiss_torch.write_index(index, faiss_torch.PyCallbackIOWriter(raw.write))
    assert b"".join(raw.parts) == written(index)


def test_a_raw_file_that_takes_nothing_is_an_error(index):
    with pytest.raises(RuntimeError, match="took none of"):
        faiss_torch.write_index(index, faiss_torch.PyCallbackIOWriter(Raw(room=100).write))


def test_what_callbacks_raise_comes_through(index):
    def broken(argument):
        raise KeyError("the disk is gone")

    with pytest.raises(KeyError, match="the disk is gone"):
        faiss_torch.write_index(index, faiss_torch.PyCallbackIOWriter(broken))
    with pytest.raises(KeyError, match="the disk is gone"):
        faiss_torch.read_index(faiss_torch.PyCallbackIOReader(broken))


@pytest.mark.parametrize("answer", ["text", None, 5])
def test_a_reader_callback_must_return_bytes(answer):
    with pytest.raises(RuntimeError, match="did not return a bytes object"):
        faiss_torch.read_index(faiss_torch.PyCallbackIOReader(lambda n: answer))


def test_a_reader_callback_must_not_return_too_much():
    with pytest.raises(RuntimeError, match=r"returned 5 bytes \(asked 4\)"):
        faiss_torch.read_index(faiss_torch.PyCallbackIOReader(lambda n: bytes(n + 1)))


def test_what_is_no_function_is_an_error_at_its_use(index):
    with pytest.raises(TypeError):
        faiss_torch.write_index(index, faiss_torch.PyCallbackIOWriter("blabla"))
    with pytest.raises(TypeError):
        faiss_torch.read_index(faiss_torch.PyCallbackIOReader("blabla"))


def test_through_a_pipe(index, written):
    read_end, write_end = os.pipe()

    def write():
        faiss_torch.write_index(index, faiss_torch.PyCallbackIOWriter(lambda block: os.write(write_end, block)))
        os.close(write_end)

    thread = threading.Thread(target=write)
    thread.start()
    got = faiss_torch.read_index(faiss_torch.PyCallbackIOReader(lambda n: os.read(read_end, n)))
    thread.join()
    os.close(read_end)
    same(got, index, written)


def test_several_indexes_in_one_stream(index, samples, written):
    other = samples.flat(faiss_torch)
    writer = faiss_torch.VectorIOWriter()
    for one in (index, other, None, index):
        faiss_torch.write_index(one, writer)
    reader = faiss_torch.VectorIOReader()
    faiss_torch.copy_array_to_vector(faiss_torch.vector_to_array(writer.data), reader.data)
    for one in (index, other, None, index):
        same(faiss_torch.read_index(reader), one, written)
    with pytest.raises(RuntimeError, match="end here"):
        faiss_torch.read_index(reader)


def test_file_reader_and_writer(index, written, tmp_path):
    path = str(tmp_path / "index")
    writer = faiss_torch.FileIOWriter(path)
    assert writer.name == path
    faiss_torch.write_index(index, writer)
    faiss_torch.write_index(index, writer)
    del writer
    assert (tmp_path / "index").read_bytes() == 2 * written(index)
    reader = faiss_torch.FileIOReader(path)
    assert (reader.name, reader.filedescriptor() > 2) == (path, True)
    same(faiss_torch.read_index(reader), index, written)
    same(faiss_torch.read_index(faiss_torch.BufferedIOReader(reader, 100)), index, written)


def test_readers_without_a_file_have_no_descriptor():
    with pytest.raises(RuntimeError, match="VectorIOReader"):
        faiss_torch.VectorIOReader().filedescriptor()
    with pytest.raises(RuntimeError, match="VectorIOWriter"):
        faiss_torch.VectorIOWriter().filedescriptor()


def test_memory_without_a_copy(samples, written):
    flat = samples.flat(faiss_torch, n=32)
    data = faiss_torch.serialize_index(flat)
    reader = faiss_torch.ZeroCopyIOReader(faiss_torch.swig_ptr(data), data.size)
    got = faiss_torch.read_index(reader)
    same(got, flat, written)
    assert np.shares_memory(got.codes.array, data)
    reader.reset()
    same(faiss_torch.read_index(reader), flat, written)


def test_readers_are_called_with_pointers(tmp_path):
    x = np.random.RandomState(0).uniform(size=20)
    x.tofile(tmp_path / "numbers")
    with open(tmp_path / "numbers", "rb") as file:
        reader = faiss_torch.BufferedIOReader(faiss_torch.PyCallbackIOReader(file.read, 1234), 123)
        y = np.zeros_like(x)
        assert reader(faiss_torch.swig_ptr(y), 8, 20) == 20
        assert reader(faiss_torch.swig_ptr(y), 8, 20) == 0
    np.testing.assert_array_equal(x, y)
    writer = faiss_torch.VectorIOWriter()
    assert writer(faiss_torch.swig_ptr(y), 8, 20) == 20
    np.testing.assert_array_equal(faiss_torch.vector_to_array(writer.data).view("float64"), x)
    with pytest.raises(TypeError, match="pointer"):
        writer(y, 8, 20)


def test_an_incomplete_item_is_not_counted():
    reader = faiss_torch.VectorIOReader()
    faiss_torch.copy_array_to_vector(np.arange(10, dtype="uint8"), reader.data)
    y = np.zeros(3, "int32")
    assert reader(faiss_torch.swig_ptr(y), 4, 3) == 2


@settings(max_examples=100, deadline=None)
@given(
    blocks=st.lists(st.binary(max_size=40), max_size=12),
    bsz=st.integers(1, 50),
    reads=st.lists(st.integers(0, 60)),
)
def test_buffers_change_nothing(blocks, bsz, reads):
    data = b"".join(blocks)
    got = []
    writer = faiss_torch.BufferedIOWriter(faiss_torch.PyCallbackIOWriter(got.append), bsz)
    for block in blocks:
        writer.write_bytes(block)
    assert all(len(block) == bsz for block in got)
    writer.flush()
    assert b"".join(got) == data
    source = io.BytesIO(data)
    reader = faiss_torch.BufferedIOReader(faiss_torch.PyCallbackIOReader(source.read), bsz)
    plain = io.BytesIO(data)
    for n in reads:
        assert reader.read_bytes(n) == plain.read(n)


def test_a_buffered_writer_that_goes_away_writes_its_rest():
    got = []
    writer = faiss_torch.BufferedIOWriter(faiss_torch.PyCallbackIOWriter(got.append), 100)
    writer.write_bytes(b"abc")
    assert got == []
    del writer
    assert got == [b"abc"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
def test_through_a_named_pipe(index, written, tmp_path):
    """A path that is no regular file is written directly, and read without knowing how long it is."""
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    thread = threading.Thread(target=faiss_torch.write_index, args=(index, path))
    thread.start()
    same(faiss_torch.read_index(path), index, written)
    thread.join()


def test_a_file_is_closed_after_reading_and_after_an_error(tmp_path, golden):
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("open files are counted in /proc")
    path = str(tmp_path / "half")
    (tmp_path / "half").write_bytes((golden / "ivf_l2.bin").read_bytes()[:300])
    before = len(os.listdir("/proc/self/fd"))
    faiss_torch.read_index(str(golden / "ivf_l2.bin"))
    with pytest.raises(RuntimeError) as caught:
        faiss_torch.read_index(path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert caught.value is not None  # the traceback, which holds the reader, is alive
