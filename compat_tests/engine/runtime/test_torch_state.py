"""torch's settings of the program around a call: what a call sees of them, and what the program has afterwards."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch.overrides import TorchFunctionMode

from faiss_torch.ops.runtime import pools, torch_state, workers

CPU = torch.device("cpu")


class PassesOn(TorchFunctionMode):
    """A function mode that counts what it sees."""

    seen = 0

    def __torch_function__(self, function, types, arguments=(), named=None):
        PassesOn.seen += 1
        return function(*arguments, **(named or {}))


@contextlib.contextmanager
def flushing_denormal() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextlib.contextmanager
def rounding(precision: str = "medium") -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def seen_settings() -> tuple[object, ...]:
    """The settings of this thread, by what they do."""
    half_of_the_smallest = torch.full((1,), 2.0**-126, dtype=torch.float32, device="cpu") * 0.5
    before = PassesOn.seen
    torch.abs(half_of_the_smallest)
    return (
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.bfloat16 == torch.mm(*(torch.ones(2, 2, dtype=torch.float32, device="cpu"),) * 2).dtype,
        PassesOn.seen > before,
        bool(half_of_the_smallest == 0),
        torch_state.bits_of_factors(CPU),
        torch.empty(0, dtype=torch.float32).device,
    )


ORDINARY = (False, False, False, False, False, 24, CPU)
SETTINGS = {
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "function mode": PassesOn,
    "default device": lambda: torch.device("meta"),
    "flushed denormal numbers": flushing_denormal,
    "rounded factors": rounding,
    "less rounded factors": lambda: rounding("high"),
}


@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("setting", SETTINGS)
def test_a_call_sees_none_of_the_settings_and_leaves_them(setting: str, threads: int, brief: bool, ours) -> None:
    before, ours_before = torch.get_num_threads(), ours.omp_get_max_threads()
    torch.set_num_threads(threads)
    ours.omp_set_num_threads(threads)
    try:
        with SETTINGS[setting]():
            around = seen_settings()
            assert around != ORDINARY
            assert workers.conduct(seen_settings, CPU, brief=brief) == ORDINARY
            inside = workers.conduct(lambda: workers.map_over_workers(lambda _: seen_settings(), range(4), 2), CPU)
            assert inside == [ORDINARY] * 4
            with pytest.raises(ZeroDivisionError):
                workers.conduct(lambda: 1 // 0, CPU, brief=brief)
            assert seen_settings() == around
    finally:
        torch.set_num_threads(before)
        ours.omp_set_num_threads(ours_before)
    assert seen_settings() == ORDINARY


def test_a_thread_that_starts_while_denormal_numbers_are_flushed_does_not_flush_them() -> None:
    with flushing_denormal():
        pool = pools.Pool(1, lambda: None, "worker of a test")
    found: list[object] = []
    ended = threading.Event()
    pool.jobs.put(lambda: (found.append(seen_settings()), ended.set()))
    assert ended.wait(10)
    assert found == [ORDINARY]


def test_all_bits_are_kept_until_the_last_call_ends() -> None:
    products = torch_state._products_on("cpu")
    with rounding(), contextlib.ExitStack() as first, contextlib.ExitStack() as second:
        first.enter_context(products.of_all_bits())
        assert not torch_state.is_ordinary(CPU)  # a call that comes now has to keep the first from putting it back
        second.enter_context(products.of_all_bits())
        first.close()
        assert torch_state.bits_of_factors(CPU) == 24
        second.close()
        assert torch_state.bits_of_factors(CPU) == 8
    assert torch_state.is_ordinary(CPU)


def test_what_the_program_sets_during_a_call_stays() -> None:
    with rounding("medium"):
        with torch_state.ordinary(CPU):
            assert torch_state.bits_of_factors(CPU) == 24
            torch.set_float32_matmul_precision("high")
        assert torch_state.bits_of_factors(CPU) == 11
        assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this torch has one setting for all")
def test_a_more_general_setting_is_followed_again() -> None:
    torch.backends.mkldnn.matmul.fp32_precision = "none"  # as it is in a new process
    before = torch.backends.fp32_precision
    torch.backends.fp32_precision = "bf16"
    try:
        assert torch_state.bits_of_factors(CPU) == 8
        assert workers.conduct(seen_settings, CPU) == ORDINARY
        assert torch_state.bits_of_factors(CPU) == 8
    finally:
        torch.backends.fp32_precision = before
    assert torch_state.bits_of_factors(CPU) == 24


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_a_fork_has_the_program_s_setting() -> None:
    with rounding(), torch_state.ordinary(CPU), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child does without
        child = os.fork()
        if child == 0:
            os._exit(torch_state.bits_of_factors(CPU))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 8
