"""k-means of vectors that several processes hold, beside that of one process that has them all.

torchrun --nproc-per-node 2 docs/examples/distributed_kmeans.py
"""

import numpy as np
import torch.distributed as dist

import faiss_torch as faiss
from faiss_torch.contrib.distributed_clustering import DistributedKmeans

dist.init_process_group("gloo")  # on GPUs "nccl", and gpu=1 below
rank, processes = dist.get_rank(), dist.get_world_size()

xt = np.random.default_rng(0).standard_normal((20_000, 32), dtype=np.float32)
kmeans = DistributedKmeans(32, 100, niter=10, seed=7)
kmeans.train(np.array_split(xt, processes)[rank])

if rank == 0:
    alone = faiss.Kmeans(32, 100, niter=10, seed=7)
    alone.train(xt)
    print(f"{processes} processes: objective {kmeans.obj[-1]:.1f}, one process: {alone.obj[-1]:.1f}")
    print(f"largest difference of the centroids: {np.abs(kmeans.centroids - alone.centroids).max():.1e}")
dist.barrier()
dist.destroy_process_group()
