"""torch tensors in, torch tensors out, on the device they came from; and what calls leave untouched."""

import threading

import numpy as np
import pytest
import torch
from cases import CASES, IVF_CASES
from comparison import assert_same_neighbours

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
ROWS = [case for case in CASES if case.name in ("flat", "flat_ip", "flat_L1", "flat_1d", "ivf_flat", "ivf_flat_ip")]


@pytest.fixture(params=DEVICES)
def device(request):
    """Where the tensors live; the index lives on the CPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device(request.param)


def rows(cases=ROWS):
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def on(device, array):
    return torch.from_numpy(array).to(device)


@rows()
def test_search_gives_tensors_where_the_queries_are(ours, case, device):
    index = case.filled(ours)
    D, I = index.search(on(device, case.xq), 4)
    assert (D.dtype, I.dtype) == (torch.float32, torch.int64)
    assert D.device.type == I.device.type == device.type
    D_numpy, I_numpy = index.search(case.xq, 4)
    np.testing.assert_array_equal(I.cpu(), I_numpy)
    np.testing.assert_array_equal(D.cpu(), D_numpy)


@rows()
def test_train_and_add_take_tensors(ours, case, device):
    index = case.make(ours)
    if case.nlist:
        index.cp.min_points_per_centroid = 1
        index.nprobe = case.nlist
    index.train(on(device, case.xb))
    index.add(on(device, case.xb))
    np.testing.assert_array_equal(index.search(case.xq, 4)[1], case.filled(ours).search(case.xq, 4)[1])


@rows([case for case in ROWS if case.cls != "IndexFlat1D"])
def test_all_verbs_give_tensors(ours, case, device):
    index = case.filled(ours)
    xq = on(device, case.xq)
    lims, D, I = index.range_search(xq, 0.5)
    assert (lims.dtype, D.dtype, I.dtype) == (torch.int64, torch.float32, torch.int64)
    for tensor, array in zip((lims, D, I), index.range_search(case.xq, 0.5), strict=True):
        assert tensor.device.type == device.type
        np.testing.assert_array_equal(tensor.cpu(), array)
    D, I, R = index.search_and_reconstruct(xq, 3)
    assert R.device.type == device.type
    np.testing.assert_array_equal(R.cpu(), index.search_and_reconstruct(case.xq, 3)[2])
    assert torch.equal(index.assign(xq, 3), I)
    codes = index.sa_encode(xq)
    assert (codes.dtype, codes.device.type) == (torch.uint8, device.type)
    assert torch.equal(index.sa_decode(codes), xq)
    if case.nlist:
        index.make_direct_map()
    keys = torch.tensor([3, 1, 4], device=device)
    batch = index.reconstruct_batch(keys)
    assert batch.device.type == device.type
    np.testing.assert_array_equal(batch.cpu(), case.xb[[3, 1, 4]])
    residuals = torch.empty(3, case.d, device=device)
    index.compute_residual_n(3, xq[:3], residuals, keys)
    np.testing.assert_array_equal(residuals.cpu(), case.xq[:3] - case.xb[[3, 1, 4]])
    np.testing.assert_array_equal(index.compute_residual(xq[0], key=4).cpu(), case.xq[0] - case.xb[4])


@rows(IVF_CASES[:1])
def test_verbs_of_ivf_give_tensors(ours, case, device):
    index = case.trained(ours)
    index.nprobe = 2
    index.add_with_ids(on(device, case.xb), torch.arange(case.nb, device=device) + 10)
    xq = on(device, case.xq)
    Dq, Iq = index.quantizer.search(xq, 2)
    I = index.search_preassigned(xq, 3, Iq, Dq)[1]
    np.testing.assert_array_equal(I.cpu(), index.search(case.xq, 3)[1])
    assert I.device.type == device.type
    _, I, codes = index.search_and_return_codes(xq, 3)
    assert (codes.dtype, codes.device.type) == (torch.uint8, device.type)
    np.testing.assert_array_equal(codes.cpu().numpy().view("float32"), case.xb[I.cpu() - 10])
    I = index.range_search_preassigned(xq, 0.4, Iq, Dq)[2]
    np.testing.assert_array_equal(I.cpu(), index.range_search(case.xq, 0.4)[2])
    assert index.remove_ids(torch.tensor([10, 11], device=device)) == 2
    assert index.ntotal == case.nb - 2


@rows()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.int32])
def test_tensors_of_other_dtypes_are_cast(ours, case, dtype, device):
    xb, xq = (10 * on(device, case.xb)).to(dtype), (10 * on(device, case.xq)).to(dtype)
    index, exact = case.trained(ours), case.trained(ours)
    index.add(xb)
    exact.add(xb.float().cpu().numpy())
    D, I = index.search(xq, 4)
    D_exact, I_exact = exact.search(xq.float().cpu().numpy(), 4)
    assert D.dtype == torch.float32
    assert_same_neighbours(D.cpu(), I.cpu(), D_exact, I_exact)


@rows()
def test_layouts_and_gradients(ours, case, device):
    index = case.filled(ours)
    expected = index.search(case.xq, 4)[1]
    xq = on(device, case.xq)
    parameters = torch.nn.Parameter(xq)
    for given in (xq.T.contiguous().T, xq.repeat_interleave(2, 0)[::2], parameters, xq.clone().requires_grad_() * 1):
        D, I = index.search(given, 4)
        assert not D.requires_grad
        np.testing.assert_array_equal(I.cpu(), expected)
    assert parameters.grad is None
    index.add(parameters)
    assert index.ntotal == case.nb + case.nq


@rows()
def test_the_index_keeps_no_view_of_the_tensor(ours, case):
    xb = torch.from_numpy(case.xb)
    index = case.trained(ours)
    index.add(xb)
    expected = index.search(case.xq, 3)
    xb.zero_()
    np.testing.assert_array_equal(index.search(case.xq, 3)[1], expected[1])
    D, _ = index.search(torch.from_numpy(case.xq), 3)
    D.zero_()
    np.testing.assert_array_equal(index.search(case.xq, 3)[0], expected[0])


@rows()
def test_output_tensors(ours, case, device):
    index = case.filled(ours)
    D = torch.empty(case.nq, 3, device=device)
    I = torch.empty(case.nq, 3, dtype=torch.int64, device=device)
    D_out, I_out = index.search(on(device, case.xq), 3, D=D, I=I)
    assert D_out is D
    assert I_out is I
    np.testing.assert_array_equal(I.cpu(), index.search(case.xq, 3)[1])
    with pytest.raises(AssertionError, match="expected"):
        index.search(on(device, case.xq), 3, D=D[:, :2])
    with pytest.raises(TypeError, match="float64"):
        index.search(on(device, case.xq), 3, D=D.double())


@rows(IVF_CASES[:1])
def test_numpy_and_torch_in_one_call(ours, case):
    """The answer is of the kind of the main argument, or what was given for it."""
    index = case.filled(ours)
    xq, xb = torch.from_numpy(case.xq), torch.from_numpy(case.xb)
    expected = index.search(case.xq, 3)
    D = np.empty((case.nq, 3), "float32")
    found = index.search(xq, 3, D=D)
    assert found[0] is D
    assert isinstance(found[1], torch.Tensor)
    np.testing.assert_array_equal(D, expected[0])
    D = torch.empty(case.nq, 3)
    found = index.search(case.xq, 3, D=D)
    assert found[0] is D
    assert isinstance(found[1], np.ndarray)
    np.testing.assert_array_equal(D, expected[0])

    Iq = np.zeros((case.nq, index.nprobe), "int64")
    for result in (index.search_preassigned(xq, 3, Iq, None), index.range_search_preassigned(xq, 3, Iq, None)):
        assert all(isinstance(each, torch.Tensor) for each in result)
    index.make_direct_map()
    index.update_vectors(torch.arange(3), case.xb[3:6])
    residuals = np.empty((2, case.d), "float32")
    index.compute_residual_n(2, xq[:2], residuals, torch.arange(2))
    np.testing.assert_array_equal(residuals, case.xq[:2] - case.xb[3:5])

    for x, ids in ((xb, np.arange(case.nb)), (case.xb, torch.arange(case.nb))):
        index = case.trained(ours)
        index.add_with_ids(x, ids)
        np.testing.assert_array_equal(index.search(case.xq, 3)[1], expected[1])
    index.add_sa_codes(torch.from_numpy(index.sa_encode(case.xb)), np.arange(case.nb))
    assert index.ntotal == 2 * case.nb


@rows([IVF_CASES[0]])
def test_arrays_of_a_call_on_several_devices_are_refused(ours, case):
    index = case.filled(ours)
    elsewhere = torch.empty(case.nb, dtype=torch.int64, device="meta")
    with pytest.raises(TypeError, match="ids is on meta beside what is a numpy array"):
        index.add_with_ids(case.xb, elsewhere)
    with pytest.raises(TypeError, match="D is on meta"):
        index.search(case.xq, 3, D=torch.empty(case.nq, 3, device="meta"))
    assert index.ntotal == case.nb


@rows([case for case in CASES if case.cls != "IndexFlat1D"])
def test_moving_an_index(ours, case, device):
    index = case.filled(ours)
    D, I = index.search(case.xq, 4)
    assert index.to(device) is index
    assert index.device.type == device.type
    assert_same_neighbours(*index.search(case.xq, 4), D, I)
    index.add(case.xb[:5])
    assert index.to("cpu").device == torch.device("cpu")
    index.remove_ids(np.arange(case.nb, case.nb + 5))
    assert_same_neighbours(*index.search(case.xq, 4), D, I)


def test_inference_mode_and_enabled_gradients_change_nothing(ours):
    case = CASES[0]
    index = case.filled(ours)
    expected = index.search(case.xq, 3)[1]
    with torch.inference_mode():
        inside = index.search(torch.from_numpy(case.xq), 3)[1]
        index.add(case.xb)
    np.testing.assert_array_equal(inside, expected)
    index.add(case.xb)
    np.testing.assert_array_equal(index.search(case.xq, 1)[1], expected[:, :1])
    index.remove_ids(np.arange(10))
    assert index.ntotal == 3 * case.nb - 10
    assert torch.is_grad_enabled()


# --- threads -------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_threads(ours):
    """Puts the number of threads back."""
    before = ours.omp_get_max_threads()
    yield before
    ours.omp_set_num_threads(before)


def threads_of_a_new_thread():
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    return seen[0]


@rows(CASES[:1] + IVF_CASES[:1])
@pytest.mark.parametrize("number", [1, 3])
def test_the_programs_number_of_torch_threads_stays(ours, own_threads, case, number):
    before, before_in_new_thread = torch.get_num_threads(), threads_of_a_new_thread()
    ours.omp_set_num_threads(number)
    assert ours.omp_get_max_threads() == number
    index = case.filled(ours)
    expected = index.search(case.xq, 3)
    index.range_search(case.xq, 0.5)
    index.remove_ids(np.arange(3))
    with pytest.raises(AssertionError):
        index.search(case.xq[:, 1:], 3)
    assert torch.get_num_threads() == before
    assert threads_of_a_new_thread() == before_in_new_thread
    ours.omp_set_num_threads(own_threads)
    np.testing.assert_array_equal(case.filled(ours).search(case.xq, 3)[1], expected[1])


def test_less_than_one_thread_is_one(ours, own_threads):
    of_torch = torch.get_num_threads()
    ours.omp_set_num_threads(0)
    assert ours.omp_get_max_threads() == 1
    assert torch.get_num_threads() == of_torch


@pytest.mark.parametrize("case", [CASES[0], IVF_CASES[0]], ids=["flat", "ivf_flat"])
def test_the_first_searches_of_an_index_at_once(ours, own_threads, case):
    ours.omp_set_num_threads(1)
    xb = np.random.RandomState(5).rand(60000, case.d).astype("float32")
    index = case.trained(ours)
    index.add(xb)
    expected = ours.clone_index(index).search(case.xq, 5)[1]
    barrier = threading.Barrier(4)
    found = []

    def search():
        barrier.wait()
        found.append(index.search(case.xq, 5)[1])

    for _ in range(3):
        index = ours.clone_index(index)
        threads = [threading.Thread(target=search) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(found) == 12
    for labels in found:
        np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("case", [CASES[0], IVF_CASES[0]], ids=["flat", "ivf_flat"])
@pytest.mark.parametrize("number", [1, 2])
def test_several_python_threads_search_one_index(ours, own_threads, case, number):
    ours.omp_set_num_threads(number)
    index = case.trained(ours)
    rng = np.random.RandomState(5)
    index.add(rng.rand(3000, case.d).astype("float32"))
    batches = [rng.rand(64, case.d).astype("float32") for _ in range(6)]
    expected = [index.search(xq, 5) for xq in batches]
    found = {}

    def search(i):
        for repeat in range(3):
            found[i, repeat] = index.search(batches[i], 5)

    before = torch.get_num_threads()
    threads = [threading.Thread(target=search, args=(i,)) for i in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.get_num_threads() == before
    assert len(found) == 18
    for (i, _), (D, I) in found.items():
        np.testing.assert_array_equal(I, expected[i][1])
        np.testing.assert_array_equal(D, expected[i][0])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_tensors_are_read_in_the_stream_of_the_caller(ours):
    case = CASES[0]
    index = case.filled(ours)
    source = on("cuda", case.xq)
    xq = torch.zeros_like(source)
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(10**8)
        xq.copy_(source)
        I = index.search(xq, 3)[1]
    np.testing.assert_array_equal(I.cpu(), index.search(case.xq, 3)[1])


@pytest.mark.parametrize("device", DEVICES)
def test_the_device_of_the_environment_has_its_number(ours, monkeypatch, device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    monkeypatch.setenv("FAISS_TORCH_DEVICE", device)
    index = ours.IndexFlatL2(3)
    assert index.device == index.to(device).device == torch.empty(0, device=device).device


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_arrays_reach_a_gpu_whole(dtype):
    """They go there in pieces: every row arrives, in its place."""
    import faiss_torch

    x = np.random.default_rng(0).random((300_017, 50)).astype(dtype)
    index = faiss_torch.IndexFlatL2(50).to("cuda")
    for part in (x[:200_000], x[200_000:, :]):
        index.add(part)
    np.testing.assert_array_equal(index.reconstruct_n(0, len(x)), x.astype("float32"))
    assert (index.search(x[::30_000], 1)[1][:, 0] == np.arange(0, len(x), 30_000)).all()
