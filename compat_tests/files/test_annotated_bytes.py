"""One file, field by field, against the layout written out by hand."""

from __future__ import annotations

import struct

import numpy as np

import faiss_torch


def test_every_byte_of_an_ivf_file(golden):
    """ivf_hashtable.bin: twelve vectors of d = 4 in five lists over a flat quantizer, with a Hashtable."""
    data = (golden / "ivf_hashtable.bin").read_bytes()
    index = faiss_torch.read_index(str(golden / "ivf_hashtable.bin"))
    position = 0

    def take(layout):
        nonlocal position
        values = struct.unpack_from("<" + layout, data, position)
        position += struct.calcsize("<" + layout)
        return values

    assert take("4s") == (b"IwFl",)
    assert take("i q q q ? i") == (4, 12, 1 << 20, 1 << 20, True, 1)  # d ntotal - - is_trained metric_type
    assert take("Q Q") == (5, 1)  # nlist nprobe

    assert take("4s") == (b"IxF2",)  # the quantizer
    assert take("i q q q ? i") == (4, 5, 1 << 20, 1 << 20, True, 1)
    assert take("Q") == (20,)  # floats
    np.testing.assert_array_equal(take("20f"), index.quantizer.reconstruct_n(0, 5).reshape(-1))

    assert take("B Q") == (2, 0)  # direct map: Hashtable, no array
    assert take("Q") == (12,)  # pairs
    pairs = dict(take("2q") for _ in range(12))
    assert sorted(pairs) == [37 * i + 100 for i in range(12)]

    assert take("4s Q Q") == (b"ilar", 5, 16)  # nlist code_size
    assert take("4s Q") == (b"full", 5)
    sizes = take("5Q")
    assert sum(sizes) == 12
    vectors = {}
    for list_no, size in enumerate(sizes):
        codes = np.array(take(f"{4 * size}f"), "float32").reshape(size, 4)
        for offset, key in enumerate(take(f"{size}q")):
            assert pairs[key] == list_no << 32 | offset
            vectors[key] = codes[offset]
    assert position == len(data)
    for key, expected in vectors.items():
        np.testing.assert_array_equal(index.reconstruct(key), expected)


def test_every_byte_of_a_flat_file(golden, samples):
    """flat_lp.bin: the metric beyond L2 brings its argument."""
    expected = b"IxFl" + struct.pack("<i q q q ? i f", 4, 7, 1 << 20, 1 << 20, True, 4, 1.5)
    expected += struct.pack("<Q", 28) + samples.vectors(7).tobytes()
    assert (golden / "flat_lp.bin").read_bytes() == expected


def test_every_byte_of_sparse_lists(golden):
    """ivf_sparse.bin: two of nine lists hold something, so only those are named."""
    data = (golden / "ivf_sparse.bin").read_bytes()
    begin = data.index(b"ilar")
    assert struct.unpack_from("<4s Q Q 4s Q 4Q", data, begin) == (b"ilar", 9, 16, b"sprs", 4, 2, 2, 7, 1)
    assert len(data) == begin + struct.calcsize("<4s Q Q 4s Q 4Q") + 3 * (16 + 8)
