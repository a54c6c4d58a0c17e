"""One index on two devices: copies that share the queries, or parts that share the vectors."""

import numpy as np
import torch

import faiss_torch as faiss

# two GPUs where there are some, otherwise the CPU stands for two
if faiss.get_num_gpus() < 2:
    faiss.set_gpu_devices(["cuda", "cuda"] if torch.cuda.is_available() else ["cpu", "cpu"])
print("GPUs:", faiss.get_num_gpus())

rng = np.random.default_rng(0)
xb = rng.standard_normal((20_000, 64), dtype="float32")
index = faiss.IndexIVFFlat(faiss.IndexFlatL2(64), 64, 64)
index.train(xb)
index.add(xb)
index.nprobe = 8
D, I = index.search(xb[:5], 4)

one = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
copies = faiss.index_cpu_to_all_gpus(index)
options = faiss.GpuMultipleClonerOptions()
options.shard = True
options.useFloat16 = True
parts = faiss.index_cpu_to_all_gpus(index, co=options)
for each in (one, copies, parts):
    print(type(each).__name__, (each.search(xb[:5], 4)[1] == I).mean())

print("vectors on each:", *(parts.at(i).ntotal for i in range(parts.count())))
print("together again:", type(faiss.index_gpu_to_cpu(parts)).__name__)
