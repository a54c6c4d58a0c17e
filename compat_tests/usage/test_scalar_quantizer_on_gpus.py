"""IndexIVFScalarQuantizer on a GPU, or on a device that stands for one."""

import numpy as np
import pytest

D = 16
X = np.random.RandomState(0).rand(2000, D).astype("float32")


@pytest.mark.parametrize("name", ["SQ8", "SQ4", "SQ6", "SQfp16"])
def test_a_copy_and_back(gpus, name):
    index = gpus.index_factory(D, f"IVF16,{name}")
    index.train(X)
    index.add(X)
    index.nprobe = 4
    copy = gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), 0, index)
    assert type(copy) is gpus.GpuIndexIVFScalarQuantizer
    D_expected, I_expected = index.search(X[:50], 5)
    D_found, I_found = copy.search(X[:50], 5)
    np.testing.assert_allclose(D_found, D_expected, rtol=1e-5, atol=1e-5)
    assert (I_found == I_expected).mean() > 0.98
    back = gpus.index_gpu_to_cpu(copy)
    assert type(back) is gpus.IndexIVFScalarQuantizer
    np.testing.assert_array_equal(gpus.serialize_index(back), gpus.serialize_index(index))


def test_made_by_its_class(gpus):
    resources, metric = gpus.StandardGpuResources(), gpus.METRIC_INNER_PRODUCT
    config = gpus.GpuIndexIVFScalarQuantizerConfig()
    made = gpus.GpuIndexIVFScalarQuantizer(resources, D, 8, gpus.ScalarQuantizer.QT_4bit, metric, False, config)
    assert (made.by_residual, made.metric_type, made.code_size) == (False, metric, D // 2)
    made.train(X)
    made.add(X)
    made.nprobe = 8
    plain = gpus.IndexIVFScalarQuantizer(gpus.IndexFlatL2(D), D, 8, gpus.ScalarQuantizer.QT_8bit)
    made.copyTo(plain)
    assert plain.sq.qtype == gpus.ScalarQuantizer.QT_4bit
    np.testing.assert_allclose(plain.search(X[:9], 3)[0], made.search(X[:9], 3)[0], rtol=1e-5)
    with pytest.raises(TypeError):
        gpus.GpuIndexIVFScalarQuantizer(resources, D)
