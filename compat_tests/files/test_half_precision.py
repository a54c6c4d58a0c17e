"""Indexes that store float16 or bfloat16 write faiss's float32 files."""

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["flat", "ivf", "ivf_with_ids", "dedup"])
def test_faiss_reads_them(samples, ours, reference, tmp_path, name, dtype):
    index = getattr(samples, name)(ours).to("cpu", dtype)
    path = str(tmp_path / "half.index")
    ours.write_index(index, path)
    read, back = reference.read_index(path), ours.read_index(path)
    assert back.storage_dtype == torch.float32
    assert read.ntotal == back.ntotal == index.ntotal
    queries = samples.vectors(5, seed=9, d=index.d)
    D, I = index.search(queries, 3)
    for other in (read, back):
        if name != "flat":
            other.nprobe = index.nprobe
        other_D, other_I = other.search(queries, 3)
        np.testing.assert_allclose(other_D, D, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(other_I, I)
