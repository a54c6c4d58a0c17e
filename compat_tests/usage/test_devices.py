"""Which devices are GPUs, and what a program sees where there are some and where there are none."""

import copy
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import faiss_torch

NAMES = ["StandardGpuResources", "index_cpu_to_gpu", "index_gpu_to_cpu", "GpuClonerOptions", "GpuIndexFlatL2"]
ALWAYS = ["get_num_gpus", "index_cpu_to_all_gpus", "index_cpu_to_gpus_list", "knn_gpu", "pairwise_distance_gpu"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_seen_only_with_gpus(no_gpus, name):
    assert not hasattr(no_gpus, name)
    assert name not in dir(no_gpus)
    with pytest.raises(AttributeError, match=rf"{name}.*set_gpu_devices\(\[\"cpu\"\]\)"):
        getattr(no_gpus, name)
    no_gpus.set_gpu_devices(["cpu"])
    assert hasattr(no_gpus, name)
    assert name in dir(no_gpus)


@pytest.mark.parametrize("name", ALWAYS)
def test_names_that_are_always_there(no_gpus, name):
    assert callable(getattr(no_gpus, name))
    assert name in dir(no_gpus)


def test_import_by_name(gpus):
    from faiss_torch import GpuIndexFlatL2, StandardGpuResources

    assert StandardGpuResources is gpus.StandardGpuResources
    assert issubclass(GpuIndexFlatL2, gpus.GpuIndex)
    gpus.set_gpu_devices([])
    with pytest.raises(ImportError):
        from faiss_torch import GpuIndexFlatIP  # noqa: F401


def test_names_through_the_alias(gpus):
    gpus.install()
    try:
        from faiss import swigfaiss
        from faiss.gpu_wrappers import index_cpu_to_gpu

        assert swigfaiss.GpuIndexFlatL2 is gpus.GpuIndexFlatL2
        assert index_cpu_to_gpu is gpus.index_cpu_to_gpu
    finally:
        gpus.uninstall()


def test_numbers_of_gpus(gpus):
    assert gpus.get_num_gpus() == 2
    assert "GPU" in gpus.get_compile_options().split()
    gpus.set_gpu_devices(["cpu"] * 5)
    assert gpus.get_num_gpus() == 5
    gpus.set_gpu_devices([])
    assert gpus.get_num_gpus() == 0
    assert "GPU" not in gpus.get_compile_options().split()
    gpus.set_gpu_devices(None)
    assert gpus.get_num_gpus() == len(faiss_torch.torch_devices.accelerators())


def test_accelerators(monkeypatch, tmp_path):
    """CUDA's and ROCm's devices, Apple's, and those of an installed torch_directml, in this order."""
    from faiss_torch import torch_devices

    (tmp_path / "torch_directml.py").write_text(
        "import torch\ndef device_count(): return 2\ndef device(i): return torch.device('privateuseone', i)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.xpu, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    torch_devices._directml_devices.cache_clear()
    try:
        found = [str(device) for device in torch_devices.accelerators()]
    finally:
        torch_devices._directml_devices.cache_clear()
        sys.modules.pop("torch_directml", None)
    assert found == ["cuda:0", "cuda:1", "cuda:2", "mps:0", "privateuseone:0", "privateuseone:1"]


def run(code, **variables):
    """Run a program that has `faiss`, and return what it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "FAISS_TORCH_DEVICES"}
    paths = str(pathlib.Path(faiss_torch.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "faiss_torch", "-c", code],
        env={**environment, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


SHOW = "import faiss; print(faiss.get_num_gpus(), hasattr(faiss, 'StandardGpuResources'))"


def test_an_empty_list_in_the_environment_names_no_devices(monkeypatch):
    monkeypatch.setenv("FAISS_TORCH_DEVICES", "")
    there = len(faiss_torch.torch_devices.accelerators())
    assert faiss_torch.get_num_gpus() == there
    assert hasattr(faiss_torch, "StandardGpuResources") == (there > 0)


@pytest.mark.parametrize("value", ["cpu", "cpu,cpu", " cpu , cpu:0"])
def test_devices_of_the_environment(monkeypatch, value):
    monkeypatch.setenv("FAISS_TORCH_DEVICES", value)
    assert faiss_torch.get_num_gpus() == value.count("cpu")
    assert hasattr(faiss_torch, "StandardGpuResources")
    faiss_torch.set_gpu_devices(["cpu"] * 3)
    assert faiss_torch.get_num_gpus() == 3
    faiss_torch.set_gpu_devices(None)
    assert faiss_torch.get_num_gpus() == value.count("cpu")


@pytest.mark.slow
def test_a_program_with_devices_of_the_environment():
    assert run(SHOW, FAISS_TORCH_DEVICES="cpu,cpu") == "2 True\n"
    assert "FAISS_TORCH_DEVICES=nonsense" in run(SHOW, FAISS_TORCH_DEVICES="nonsense")


@pytest.mark.parametrize("device", ["nonsense", "cuda:99", "meta", "xpu:77", 3.5])
def test_a_device_that_does_not_exist(ours, device):
    ours.set_gpu_devices(["cpu"])
    try:
        with pytest.raises(RuntimeError, match=r"cannot be used .*: torch has cpu"):
            ours.set_gpu_devices(["cpu", device])
        assert ours.get_num_gpus() == 1
    finally:
        ours.set_gpu_devices(None)
    index = ours.IndexFlatL2(2)
    index.add(np.eye(2, dtype="float32"))
    with pytest.raises(RuntimeError, match=r"cannot be used .*: torch has cpu"):
        index.to(device)
    assert index.search(np.eye(2, dtype="float32"), 1)[1].tolist() == [[0], [1]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is CUDA")
def test_cuda_without_cuda(ours):
    with pytest.raises(RuntimeError, match="'cuda' cannot be used"):
        ours.set_gpu_devices(["cuda"])
    with pytest.raises(RuntimeError, match="'cuda:1' cannot be used"):
        ours.IndexFlatL2(2).to(torch.device("cuda", 1))


def test_one_device_is_no_list(ours):
    with pytest.raises(TypeError, match=r"write \['cpu'\]"):
        ours.set_gpu_devices("cpu")


@pytest.mark.parametrize("number", [2, -1, 99])
def test_a_gpu_that_does_not_exist(gpus, number):
    index = gpus.IndexFlatL2(4)
    with pytest.raises(RuntimeError, match=rf"no GPU {number}: expected one of 0 \("):
        gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), number, index)
    config = gpus.GpuIndexFlatConfig()
    config.device = number
    with pytest.raises(RuntimeError, match=rf"no GPU {number}"):
        gpus.GpuIndexFlatL2(gpus.StandardGpuResources(), 4, config)
    with pytest.raises(RuntimeError, match=rf"no GPU {number}"):
        gpus.index_cpu_to_gpus_list(index, gpus=[0, number])


@pytest.mark.parametrize("number", ["0", 1.0, None])
def test_a_gpu_number_is_an_integer(gpus, number):
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        gpus.index_cpu_to_gpu(gpus.StandardGpuResources(), number, gpus.IndexFlatL2(4))


def test_functions_for_gpus_without_gpus(no_gpus):
    x = np.eye(3, dtype="float32")
    for call in (
        lambda: no_gpus.index_cpu_to_all_gpus(no_gpus.IndexFlatL2(3)),
        lambda: no_gpus.index_cpu_to_gpus_list(no_gpus.IndexFlatL2(3), gpus=[]),
    ):
        with pytest.raises(RuntimeError, match=r"there are no GPUs: call set_gpu_devices"):
            call()
    for function in (lambda res: no_gpus.knn_gpu(res, x, x, 1), lambda res: no_gpus.pairwise_distance_gpu(res, x, x)):
        no_gpus.set_gpu_devices(["cpu"])
        resources = no_gpus.StandardGpuResources()
        no_gpus.set_gpu_devices([])
        with pytest.raises(RuntimeError, match="there are no GPUs"):
            function(resources)
        with pytest.raises(TypeError, match="GPU resources"):
            function(None)


# resources and options


def test_settings_of_resources_are_accepted(gpus):
    res = gpus.StandardGpuResources()
    res.setTempMemory(1 << 20)
    res.noTempMemory()
    res.setPinnedMemory(1 << 20)
    res.setDefaultNullStreamAllDevices()
    res.setDefaultStream(1, None)
    res.revertDefaultStream(1)
    res.setLogMemoryAllocations(False)
    res.syncDefaultStreamCurrentDevice()
    gpus.gpu_sync_all_devices()
    assert res.getTempMemoryAvailable(0) >= 0
    assert isinstance(res.supportsBFloat16(1), bool)
    assert res.supportsBFloat16CurrentDevice() == res.supportsBFloat16(0)
    assert res.getResources().getDefaultStream(0) == res.getDefaultStream(0)
    with pytest.raises(RuntimeError, match="no GPU 7"):
        res.setDefaultStream(7, None)


def test_resources_may_be_a_temporary(gpus):
    index = gpus.GpuIndexFlatL2(gpus.StandardGpuResources(), 4)
    index.add(np.eye(4, dtype="float32"))
    assert isinstance(index.getResources(), gpus.StandardGpuResourcesImpl)
    provider = gpus.GpuResourcesProviderFromInstance(index.getResources())
    assert gpus.GpuIndexFlatL2(provider, 4).getResources() is index.getResources()
    with pytest.raises(RuntimeError, match="use StandardGpuResources"):
        gpus.GpuIndexFlatL2(gpus.GpuResourcesProvider(), 4)


@pytest.mark.parametrize("wrong", [None, 0, "resources"])
def test_what_is_no_resources(gpus, wrong):
    with pytest.raises(TypeError, match="GPU resources"):
        gpus.index_cpu_to_gpu(wrong, 0, gpus.IndexFlatL2(4))
    with pytest.raises(TypeError, match="GPU resources"):
        gpus.GpuIndexFlatL2(wrong, 4)


def test_memory_info(gpus):
    res = gpus.StandardGpuResources()
    assert res.getMemoryInfo() == {}
    flat = gpus.index_cpu_to_gpu(res, 1, gpus.IndexFlatL2(8))
    flat.add(np.zeros((160, 8), dtype="float32"))
    info = res.getMemoryInfo()
    pieces, held = info[1]["FlatData"]
    assert pieces == 1
    assert held >= 160 * 8 * 4
    assert 0 not in info
    ivf = gpus.GpuIndexIVFFlat(res, 8, 2)
    ivf.train(np.random.rand(100, 8).astype("float32"))
    ivf.add(np.random.rand(100, 8).astype("float32"))
    assert res.getMemoryInfo()[0]["IVFLists"] == (1, 100 * (8 * 4 + 8))
    assert res.getMemoryInfo()[0]["FlatData"][0] == 1  # its quantizer
    del flat
    assert 1 not in res.getMemoryInfo()


def test_resources_are_shared_by_copies(gpus):
    res = gpus.StandardGpuResources()
    index = gpus.GpuIndexFlatL2(res, 4)
    assert copy.deepcopy(index).getResources() is res
    assert isinstance(pickle.loads(pickle.dumps(res)), gpus.StandardGpuResources)


def test_options_have_faiss_defaults(gpus):
    options = gpus.GpuMultipleClonerOptions()
    assert isinstance(options, gpus.GpuClonerOptions)
    assert (options.shard, options.shard_type, options.common_ivf_quantizer) == (False, 1, False)
    assert (options.useFloat16, options.useFloat16CoarseQuantizer, options.reserveVecs) == (False, False, 0)
    assert options.indicesOptions == gpus.INDICES_64_BIT == 3
    config = gpus.GpuIndexIVFFlatConfig()
    assert isinstance(config, gpus.GpuIndexIVFConfig)
    assert isinstance(config.flatConfig, gpus.GpuIndexFlatConfig)
    assert config.flatConfig is not gpus.GpuIndexIVFFlatConfig().flatConfig
    assert (config.device, config.memorySpace, config.interleavedLayout) == (0, gpus.Device, True)
    with pytest.raises(AttributeError):
        options.sharded = True
    with pytest.raises(AttributeError):
        config.useFloat16 = True


def test_a_vector_of_resources(gpus):
    resources, numbers = gpus.GpuResourcesVector(), gpus.Int32Vector()
    for number in range(2):
        resources.push_back(gpus.StandardGpuResources())
        numbers.push_back(number)
    index = gpus.index_cpu_to_gpu_multiple(resources, numbers, gpus.IndexFlatL2(4))
    assert [index.at(i).getDevice() for i in range(index.count())] == [0, 1]
    numbers.push_back(0)
    with pytest.raises(RuntimeError, match="2 resources for 3 GPUs"):
        gpus.index_cpu_to_gpu_multiple(resources, numbers, gpus.IndexFlatL2(4))
