"""Damaged and malicious files: a RuntimeError that names the field, little memory, no crash."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import faiss_torch

pytestmark = pytest.mark.slow

#: Files whose every byte is damaged.
VICTIMS = [
    "flat_lp",
    "flat_empty",
    "ivf_hashtable",
    "ivf_array_map",
    "ivf_sparse",
    "ivf_dedup_instances",
    "ivf_over_ivf",
    "ivf_untrained",
    "legacy_bytes",
    "legacy_floats",
    "id_map2",
]

#: Bytes that reading may take beyond a multiple of the file's: objects, buffers, room for empty lists.
FIXED_MEMORY = 200_000
TIMES_FILE = 20


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest storage that torch makes."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.nbytes = max(self.nbytes, result.untyped_storage().nbytes())
        return result


def read(data: bytes):
    return faiss_torch.deserialize_index(np.frombuffer(data, "uint8"))


def read_or_refuse(data: bytes):
    """The index, or None where it is refused as it should be."""
    try:
        return read(data)
    except RuntimeError as error:
        # torch's own allocation errors are RuntimeErrors too: only ours begin so
        if not str(error).startswith("memory: index."):
            raise
        return None


def damages(data: bytes):
    """Each byte with its lowest, a middle and its highest bit flipped, with all of them flipped, and as 0."""
    for position, byte in enumerate(data):
        others = {byte ^ 0x01, byte ^ 0x10, byte ^ 0x80, byte ^ 0xFF, 0}
        for other in sorted(others - {byte}):
            yield data[:position] + bytes([other]) + data[position + 1 :]


@pytest.mark.parametrize("name", VICTIMS)
def test_every_prefix_is_refused(golden, name):
    data = (golden / f"{name}.bin").read_bytes()
    read(data)
    for n in range(len(data)):
        with pytest.raises(RuntimeError, match=r"^memory: index\."):
            read(data[:n])


@pytest.mark.parametrize("name", VICTIMS)
def test_every_damaged_byte_is_refused_or_harmless(golden, name):
    for damaged in damages((golden / f"{name}.bin").read_bytes()):
        read_or_refuse(damaged)


@pytest.mark.parametrize("name", VICTIMS)
def test_memory_follows_the_length_of_the_file(golden, name):
    data = (golden / f"{name}.bin").read_bytes()
    worst = 0
    with LargestTensor():
        read(data)  # what torch and this library import at first use is not counted
    tracemalloc.start()
    try:
        for position in range(len(data)):
            damaged = data[:position] + bytes([data[position] ^ 0x7F]) + data[position + 1 :]
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with LargestTensor() as tensors:
                read_or_refuse(damaged)
            worst = max(worst, tracemalloc.get_traced_memory()[1] - before, tensors.nbytes)
    finally:
        tracemalloc.stop()
    assert worst < TIMES_FILE * len(data) + FIXED_MEMORY


@pytest.mark.parametrize("name", VICTIMS)
def test_a_damaged_index_that_is_read_can_be_used(golden, samples, name):
    """Search and reconstruct give results or a RuntimeError."""
    data = (golden / f"{name}.bin").read_bytes()
    for position in range(len(data)):
        index = read_or_refuse(data[:position] + bytes([data[position] ^ 0x41]) + data[position + 1 :])
        if index is None or index.d != samples.D:
            continue
        for use in (lambda i: i.search(samples.vectors(2), 2), lambda i: i.reconstruct(100)):
            try:
                use(index)
            except RuntimeError as error:
                if "allocate" in str(error):
                    raise


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_several_damages_at_once(golden, data):
    name = data.draw(st.sampled_from(VICTIMS))
    original = (golden / f"{name}.bin").read_bytes()
    damaged = bytearray(original)
    places = st.lists(st.integers(0, len(original) - 1), min_size=1, max_size=8)
    for position in data.draw(places):
        damaged[position] = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]))
    with LargestTensor() as tensors:
        read_or_refuse(bytes(damaged))
    assert tensors.nbytes < TIMES_FILE * len(original) + FIXED_MEMORY


@settings(max_examples=200, deadline=None)
@given(tail=st.binary(max_size=200), fourcc=st.sampled_from([b"IxF2", b"IwFl", b"IwFd", b"IvFL", b"IvFl", b""]))
def test_random_bytes(fourcc, tail):
    read_or_refuse(fourcc + tail)


def header(d=4, ntotal=0, trained=1, metric=1):
    return struct.pack("<iqqqBi", d, ntotal, 1 << 20, 1 << 20, trained, metric)


def flat(codes=b"", size=0, **kwargs):
    return b"IxF2" + header(**kwargs) + struct.pack("<Q", size) + codes


def ivf(nlist=3, lists_nlist=3, code_size=16, sizes=(0, 0, 0), form=b"full", quantizer=None, map_type=0, tail=b""):
    quantizer = flat() if quantizer is None else quantizer
    lists = b"ilar" + struct.pack("<QQ", lists_nlist, code_size) + form + struct.pack("<Q", len(sizes))
    lists += b"".join(struct.pack("<Q", size) for size in sizes)
    return (
        b"IwFl" + header() + struct.pack("<QQ", nlist, 1) + quantizer + struct.pack("<BQ", map_type, 0) + lists + tail
    )


def id_map(inner, ids=(), size=None, ntotal=0, d=4):
    ids = b"".join(struct.pack("<q", each) for each in ids)
    return (
        b"IxMp" + header(d=d, ntotal=ntotal) + inner + struct.pack("<Q", len(ids) // 8 if size is None else size) + ids
    )


def test_the_parts_here_make_valid_files():
    one = flat(bytes(16), size=4, ntotal=1)
    assert read(id_map(one, ids=[-7], ntotal=1)).search(np.zeros((1, 4), "float32"), 1)[1] == -7
    assert read(flat(bytes(32), size=8, ntotal=2)).ntotal == 2
    assert read(ivf()).nlist == 3
    assert read(ivf(sizes=(1, 2), form=b"sprs", tail=bytes(48))).invlists.list_size(1) == 2


@pytest.mark.parametrize(
    ("data", "field", "reason"),
    [
        (flat(d=-1), "d", "below"),
        (flat(d=(1 << 20) + 1), "d", "above"),
        (flat(d=0, ntotal=5), "d", "d > 0"),
        (flat(ntotal=-1), "ntotal", "below"),
        (flat(trained=2), "is_trained", "boolean"),
        (flat(metric=5), "metric_type", "metric"),
        (flat(metric=-1), "metric_type", "metric"),
        (flat(bytes(32), size=8, ntotal=3), "codes", "ntotal = 3"),
        (flat(bytes(32), size=7, ntotal=2), "codes", "ntotal = 2"),
        (flat(ntotal=1 << 60, size=1 << 62), "codes", "bytes are left"),
        (flat(ntotal=2, size=(1 << 64) - 1), "codes", "bytes are left"),
        (ivf(map_type=3), "type", "none of 0"),
        (ivf(quantizer=flat(d=5)), "quantizer", "the d of the index"),
        (ivf(lists_nlist=4, sizes=(0,) * 4), "nlist", "nlist = 3"),
        (ivf(code_size=20), "code_size", "code_size = 16"),
        (ivf(sizes=(0, 0)), "sizes", "2 sizes for 3 lists"),
        (ivf(sizes=(0, 1, 2), form=b"sprs"), "sizes", "pairs"),
        (ivf(sizes=(3, 1), form=b"sprs", tail=bytes(24)), "sizes", "list 3"),
        (ivf(sizes=(1 << 63, 1 << 63, 0)), "entries", "bytes are left"),
        (ivf(sizes=(2, 0, 0), tail=bytes(47)), "entries", "bytes are left"),
        (ivf(form=b"holy"), "list type", "holy"),
        (ivf(nlist=1 << 40, lists_nlist=1 << 40, sizes=(), form=b"sprs"), "nlist", "more than a file"),
        (id_map(b"null"), "index", "there is an index"),
        (id_map(flat(d=5)), "index", "of the same d"),
        (id_map(flat(), ntotal=1), "index", "ntotal"),
        (id_map(flat(), ids=[1]), "id_map", "1 ids for ntotal = 0"),
        (id_map(flat(bytes(16), size=4, ntotal=1), size=1, ntotal=1), "id_map", "bytes are left"),
        (b"IxF2", "d", "end here"),
        (b"\x00\xffIx", "fourcc", r"\\x00\\xffIx"),
        (b"", "fourcc", "end here"),
    ],
)
def test_what_is_wrong_is_named(data, field, reason):
    with pytest.raises(RuntimeError, match=f"{field}.*: .*{reason}"):
        read(data)


@pytest.mark.parametrize(
    ("fourcc", "name"), [(b"IwPQ", "IndexIVFPQ"), (b"IHNf", "IndexHNSWFlat"), (b"IBxF", "IndexBinaryFlat")]
)
def test_types_that_are_not_offered_are_named(fourcc, name):
    message = f"{fourcc.decode()} \\({name}\\) is not offered by faiss_torch yet"
    with pytest.raises(RuntimeError, match=message):
        read(fourcc + bytes(100))


def test_a_real_file_of_a_type_that_is_not_offered(faiss_cpu, samples):
    index = faiss_cpu.index_factory(samples.D, "PQ2x4np")
    index.train(samples.vectors(700))
    with pytest.raises(RuntimeError, match="IndexPQ"):
        faiss_torch.deserialize_index(faiss_cpu.serialize_index(index))


def test_lists_that_are_not_offered_are_named():
    with pytest.raises(RuntimeError, match="BlockInvertedLists"):
        read(ivf().replace(b"ilar", b"ilbl"))


def nested(levels):
    """An IVF index over an IVF index ..., `levels` indexes in all."""
    data = flat()
    for _ in range(levels - 1):
        data = ivf(quantizer=data)
    return data


def test_nesting_is_bounded(faiss_cpu):
    assert read(nested(50)).nlist == 3
    with pytest.raises(RuntimeError, match="nested more than 50 deep"):
        read(nested(51))
    faiss_cpu.deserialize_index(np.frombuffer(nested(50), "uint8"))
    with pytest.raises(RuntimeError, match="nesting"):
        faiss_cpu.deserialize_index(np.frombuffer(nested(51), "uint8"))


def test_an_index_inside_itself_is_not_written():
    index = read(ivf())
    index.quantizer = index
    with pytest.raises(RuntimeError, match="nested more than 50 deep"):
        faiss_torch.serialize_index(index)


def test_a_stream_that_promises_too_much_takes_little_memory():
    """A callback does not know how much it has left, so memory grows with what arrives."""
    promise = ivf(sizes=(1 << 20, 0, 0))
    stream = memoryview(promise + bytes(10_000))
    position = 0

    def callback(n):
        nonlocal position
        block = bytes(stream[position : position + n])
        position += len(block)
        return block

    tracemalloc.start()
    try:
        with LargestTensor() as tensors, pytest.raises(RuntimeError, match="end here"):
            faiss_torch.read_index(faiss_torch.PyCallbackIOReader(callback))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 << 20
    assert tensors.nbytes < 1 << 20


def test_limits_that_a_caller_sets():
    data = flat(bytes(32), size=8, ntotal=2)
    assert faiss_torch.get_deserialization_vector_byte_limit() == 1 << 40
    faiss_torch.set_deserialization_vector_byte_limit(32)
    try:
        with pytest.raises(RuntimeError, match="limit of 32"):
            read(data)
    finally:
        faiss_torch.set_deserialization_vector_byte_limit(1 << 40)
    assert faiss_torch.get_deserialization_loop_limit() == 0
    faiss_torch.set_deserialization_loop_limit(2)
    try:
        with pytest.raises(RuntimeError, match="deserialization_loop_limit of 2"):
            read(ivf())
    finally:
        faiss_torch.set_deserialization_loop_limit(0)


def test_wrong_arguments():
    with pytest.raises(AttributeError):
        faiss_torch.deserialize_index(flat())
    with pytest.raises(AssertionError):
        faiss_torch.deserialize_index(np.frombuffer(flat(), "int8"))
