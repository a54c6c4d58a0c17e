"""Build and search an inverted file whose lists take more memory than this process may use.

    python docs/examples/lists_on_disk.py                                   # 2,000,000 vectors, 450 MiB for everything
    python docs/examples/lists_on_disk.py --nb 200000 --nlist 512 --memory 320

The lists stand in a file that is mapped. The limit is the system's (RLIMIT_DATA): it counts all memory that belongs to
the process, the interpreter and torch included, but not the pages of files, which the system can take back. At last the
limit is lifted, and the same search is done with the lists in memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time

import numpy as np

import faiss_torch as faiss

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--nb", type=int, default=2_000_000, help="vectors")
parser.add_argument("--nq", type=int, default=10_000, help="queries")
parser.add_argument("--d", type=int, default=64, help="dimensions")
parser.add_argument("--nlist", type=int, default=2048, help="inverted lists")
parser.add_argument("--nprobe", type=int, default=16, help="lists that a query looks at")
parser.add_argument("--batch", type=int, default=20_000, help="vectors of one call of add")
parser.add_argument("--memory", type=int, default=450, help="memory for the whole process, in MiB")
parser.add_argument("--folder", help="where the files go; the default is a temporary folder")
arguments = parser.parse_args()

MIB = 1 << 20
centers = np.random.RandomState(1).rand(1000, arguments.d).astype("float32")


def vectors(n: int, seed: int) -> np.ndarray:
    """Clustered vectors: (n, d)."""
    random = np.random.RandomState(seed)
    return centers[random.randint(len(centers), size=n)] + 0.1 * random.randn(n, arguments.d).astype("float32")


def memory_in_use() -> int:
    """What counts for the limit, in bytes, where the system tells."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))


def build(folder: str) -> None:
    """Train, add batch by batch to lists on disk, and write the index file."""
    index = faiss.index_factory(arguments.d, f"IVF{arguments.nlist},Flat")
    index.train(vectors(min(arguments.nb, 50 * arguments.nlist), seed=2))
    lists = faiss.OnDiskInvertedLists(arguments.nlist, index.code_size, os.path.join(folder, "index.ivfdata"))
    index.replace_invlists(lists, True)
    start = time.perf_counter()
    for begin in range(0, arguments.nb, arguments.batch):
        index.add(vectors(min(arguments.batch, arguments.nb - begin), seed=3 + begin))
    seconds = time.perf_counter() - start
    print(f"added {index.ntotal} vectors in {seconds:.1f} s ({index.ntotal / seconds:.0f} a second)")
    faiss.write_index(index, os.path.join(folder, "index"))


def search(index: faiss.Index, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Search, and print the rate."""
    start = time.perf_counter()
    D, I = index.search(vectors(arguments.nq, seed=1), 10)
    print(f"searched with the lists {where}: {arguments.nq / (time.perf_counter() - start):.0f} queries a second")
    return D, I


unlimited = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (arguments.memory * MIB, unlimited[1]))
with tempfile.TemporaryDirectory() as temporary:
    folder = arguments.folder or temporary
    build(folder)
    index = faiss.read_index(os.path.join(folder, "index"), faiss.IO_FLAG_READ_ONLY)
    index.nprobe = arguments.nprobe
    size = index.ntotal * (index.code_size + 8)
    D, I = search(index, "on disk")
    print(f"lists of {size / MIB:.0f} MiB; {memory_in_use() / MIB:.0f} of {arguments.memory} MiB of memory in use")

    resource.setrlimit(resource.RLIMIT_DATA, unlimited)
    in_memory = faiss.ArrayInvertedLists(index.nlist, index.code_size)
    index.invlists.copy_subset_to(in_memory, faiss.InvertedLists.SUBSET_TYPE_INVLIST, 0, index.nlist)
    index.replace_invlists(in_memory, True)
    D2, I2 = search(index, "in memory")
    same = np.array_equal(I, I2) and np.array_equal(D, D2)
    print(f"results are {'the same' if same else 'different'}")
