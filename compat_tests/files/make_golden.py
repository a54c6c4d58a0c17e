"""Writes golden/*.bin with faiss-cpu: ``python compat_tests/files/make_golden.py`` (made with faiss-cpu
1.15.1).

The committed files hold the format still: a test reads each of them and writes it again, byte by byte, on
machines without faiss too. Legacy files are put together here by hand, because no faiss of today writes
them; faiss-cpu reads them before they are kept.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
from samples import SAMPLES, D, vectors

GOLDEN = Path(__file__).parent / "golden"


def vector(array: np.ndarray) -> bytes:
    """A vector as it stands in a file: number of elements, elements."""
    return struct.pack("<Q", array.size) + array.tobytes()


def header(ntotal: int) -> bytes:
    """The header of an index with the L2 metric."""
    return struct.pack("<iqqq?i", D, ntotal, 1 << 20, 1 << 20, True, 1)


def legacy_ivf(fourcc: bytes) -> bytes:
    """An IVF index of three lists as faiss wrote it before 2017; ``IvFl`` counts floats, ``IvFL`` bytes."""
    quantizer = b"IxF2" + header(3) + vector(vectors(3, seed=2).reshape(-1))
    ids = [np.array(numbers, dtype="int64") for numbers in ([4, 1], [], [0, 2, 3])]
    codes = [vectors(len(numbers), seed=3 + i).reshape(-1) for i, numbers in enumerate(ids)]
    codes_type = "float32" if fourcc == b"IvFl" else "uint8"
    direct_map = b"\0" + vector(np.empty(0, "int64"))
    lists = b"".join(vector(numbers) for numbers in ids)
    tail = b"".join(vector(part.view(codes_type)) for part in codes)
    return fourcc + header(5) + struct.pack("<QQ", 3, 2) + quantizer + lists + direct_map + tail


def main() -> None:
    """Write all golden files."""
    import faiss

    for path in GOLDEN.glob("*.bin"):
        path.unlink()
    for name, build in SAMPLES.items():
        (GOLDEN / f"{name}.bin").write_bytes(faiss.serialize_index(build(faiss)).tobytes())
    for fourcc in (b"IvFl", b"IvFL"):
        data = legacy_ivf(fourcc)
        assert faiss.deserialize_index(np.frombuffer(data, "uint8")).search(vectors(1), 2)[1].min() >= 0
        # on a case-insensitive disk the fourccs are one name
        (GOLDEN / f"legacy_{'floats' if fourcc == b'IvFl' else 'bytes'}.bin").write_bytes(data)
    sys.stdout.write(f"{len(list(GOLDEN.glob('*.bin')))} files in {GOLDEN}\n")


if __name__ == "__main__":
    main()
