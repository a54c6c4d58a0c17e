"""Semantic search over the descriptions of Debian's packages: an ordinary faiss program.

    python -m faiss_torch docs/examples/semantic_search.py     # faiss is faiss_torch
    python docs/examples/semantic_search.py                    # faiss is the installed faiss

It trains an IVF index, adds the vectors, writes the index, reads it back and searches it with more and more
probes. Run the first way it also runs itself the second way, in a process of its own, and prints both results
side by side.

The vectors are those of the folder debian_minilm below FAISS_TORCH_DATA or ../shared/data; without it, random
clustered vectors of the same shape stand in.
"""

import argparse
import contextlib
import gzip
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import faiss
import numpy as np

K = 10
NPROBES = (1, 2, 4, 8, 16, 32, 64)
ROOT = pathlib.Path(__file__).resolve().parents[2]


def progress(steps, title):
    """Show a bar while going through the steps, if tqdm is installed and a person is watching."""
    if sys.stderr.isatty():
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            return tqdm(steps, desc=title, leave=False)
    return steps


def clustered_vectors(nb, nq, d, seed):
    """Random unit vectors near a curved surface of 24 dimensions, around a thousand centers that overlap."""
    random = np.random.RandomState(seed)
    centers = random.randn(1000, 24)
    x = centers[random.randint(len(centers), size=nb + nq)] + 0.6 * random.randn(nb + nq, 24)
    x = np.sin(x @ random.randn(24, d) / 5).astype("float32")
    faiss.normalize_L2(x)
    return x[:nb], x[nb:]


def read_lines(path):
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return lines.read().splitlines()


def load(nb, nq):
    """Return xb, xq, ground truth, and the texts of both (None for vectors that stand for nothing)."""
    folder = pathlib.Path(os.environ.get("FAISS_TORCH_DATA", ROOT.parent / "shared" / "data")) / "debian_minilm"
    if not folder.is_dir():
        print(f"{folder} is absent: these are synthetic clustered vectors")
        xb, xq = clustered_vectors(nb or 58004, nq or 2000, 384, seed=123)
        texts = None
    else:
        xb = np.load(folder / "base.npy").astype("float32")[:nb]
        xq = np.load(folder / "query.npy").astype("float32")[:nq]
        texts = read_lines(folder / "base.txt.gz"), read_lines(folder / "query.txt.gz")
    if texts and nb is None:
        truth = np.load(folder / "groundtruth_l2.npy")[: len(xq), :K]
    else:
        exact = faiss.IndexFlatL2(xb.shape[1])
        exact.add(xb)
        truth = exact.search(xq, K)[1]
    return xb, xq, truth, texts


def build(xb, nlist, path):
    """Make and write an index; return it as it is read back, and the seconds of training and adding."""
    index = faiss.index_factory(xb.shape[1], f"IVF{nlist},Flat")
    start = time.perf_counter()
    for _ in progress(range(1), "training"):
        index.train(xb)
    trained = time.perf_counter()
    for i in progress(range(0, len(xb), 4096), "adding"):
        index.add(xb[i : i + 4096])
    added = time.perf_counter()
    faiss.write_index(index, path)
    return faiss.read_index(path), trained - start, added - trained


def measure(index, xq, repeats):
    """Return the ids found at each number of probes, and the queries per second (median)."""
    ids, qps = [], []
    for nprobe in progress([n for n in NPROBES if n <= index.nlist], "searching"):
        index.nprobe = nprobe
        I = index.search(xq, K)[1]
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            index.search(xq, K)
            times.append(time.perf_counter() - start)
        ids.append(I)
        qps.append(len(xq) / np.median(times))
    return np.array(ids), np.array(qps)


def recalls(ids, truth):
    return [faiss.eval_intersection(I, truth) / truth.size for I in ids]


def run_by_plain_python(options):
    """Run this program with the installed faiss and return its figures, or None where there is none."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "figures.npz")
        command = [sys.executable, os.path.abspath(__file__), "--save", path]
        for name in ("nb", "nq", "nlist", "repeats"):
            value = getattr(options, name)
            command += [f"--{name}", str(value)] if value is not None else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return dict(np.load(path))
    last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
    print(f"without faiss's own figures: {last_line}")
    return None


def print_table(truth, ids, qps, other):
    print(f"\n{'':6} {faiss.__name__:^22}" + (f" {'faiss ' + str(other['version']):^22} {'same':>6}" if other else ""))
    print(
        f"{'nprobe':>6} {'recall@10':>11} {'QPS':>10}" + (f" {'recall@10':>11} {'QPS':>10} {'ids':>6}" if other else "")
    )
    for i, recall in enumerate(recalls(ids, truth)):
        line = f"{NPROBES[i]:6} {recall:11.4f} {qps[i]:10,.0f}"
        if other:
            theirs = recalls(other["ids"], truth)[i]
            line += f" {theirs:11.4f} {other['qps'][i]:10,.0f} {np.mean(other['ids'][i] == ids[i]):6.1%}"
        print(line)


def print_answers(index, xq, texts, count=4):
    base_texts, query_texts = texts
    index.nprobe = 16
    D, I = index.search(xq[:count], 3)
    for q in range(len(I)):
        print(f"\n{query_texts[q]}")
        for distance, i in zip(D[q], I[q], strict=True):
            print(f"   {distance:.3f}  {base_texts[i]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nb", type=int, help="use only so many database vectors")
    parser.add_argument("--nq", type=int, help="use only so many queries")
    parser.add_argument("--nlist", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3, help="timed searches at each nprobe")
    parser.add_argument("--save", help="write the figures to this .npz file and print nothing more")
    options = parser.parse_args()

    xb, xq, truth, texts = load(options.nb, options.nq)
    with tempfile.TemporaryDirectory() as folder:
        index, train_time, add_time = build(xb, options.nlist, os.path.join(folder, "packages.index"))
    ids, qps = measure(index, xq, options.repeats)
    if options.save:
        np.savez(options.save, ids=ids, qps=qps, times=[train_time, add_time], version=faiss.__version__)
        return

    other = run_by_plain_python(options) if faiss.__name__ != "faiss" else None
    print(f"{len(xb):,} vectors of {xb.shape[1]} dimensions, {len(xq):,} queries, IVF{options.nlist},Flat")
    print(f"trained in {train_time:.2f} s, added in {add_time:.2f} s", end="")
    print(" (faiss {:.2f} s and {:.2f} s)".format(*other["times"]) if other else "")
    print_table(truth, ids, qps, other)
    if texts:
        print_answers(index, xq, texts)


if __name__ == "__main__":
    main()
