"""Torch tensors in, torch tensors out, on the device that they came from."""

import torch

import faiss_torch as faiss

device = "cuda" if torch.cuda.is_available() else "cpu"
xb = torch.randn(10_000, 64, device=device)
xq = torch.randn(5, 64, device=device, dtype=torch.float16)

index = faiss.IndexFlatIP(64)
index.to(device)
index.add(xb)
D, I = index.search(xq, 4)
print(D.device, D.dtype, I.dtype)
print(I)
