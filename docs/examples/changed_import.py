"""A faiss program whose import was changed: nothing else is different."""

import os
import tempfile

import numpy as np

import faiss_torch as faiss

d, nb, nq, k = 64, 10_000, 5, 4
random = np.random.RandomState(1234)
xb = random.random_sample((nb, d)).astype("float32")
xq = random.random_sample((nq, d)).astype("float32")

index = faiss.index_factory(d, "IVF64,Flat")
index.train(xb)
index.add(xb)
index.nprobe = 8
D, I = index.search(xq, k)
print(I)

with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "small.index")
    faiss.write_index(index, path)
    again = faiss.read_index(path)
assert (again.search(xq, k)[1] == I).all()
