"""torch's settings of the program around a call, and a call without them.

A program may be in inference mode, in autocast or in a function mode (``torch.set_default_device`` is one), it may
flush denormal numbers to zero, and it may allow factors of float32 products to be rounded. The last setting belongs to
the process. The others belong to a thread, and reach a call in the caller's thread alone.

The default dtype belongs to the process too, but other threads of the program make tensors by it meanwhile, so no call
changes it: whatever makes a tensor here names its dtype and its device. Deterministic algorithms stay as the program
wants them, for results are the same with them and without.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Result = TypeVar("Result")
Function = TypeVar("Function", bound=Callable[..., Any])

#: Devices of which every torch says whether autocast is on there.
AUTOCAST_DEVICES = ("cpu", "cuda", "xpu")

#: Bits that the factors of float32 products keep, by torch's names of its settings, old and new; the others keep all.
_BITS_OF_FACTORS = {"bf16": 8, "medium": 8, "tf32": 11, "high": 11}
_ALL_BITS = 24

_CPU = torch.device("cpu")

#: Half of the smallest normal number is a denormal one.
_SMALLEST_NORMAL, _HALF = 2.0**-1022, 0.5


def is_ordinary(device: torch.device) -> bool:
    """Whether a call on a device may run in this thread as things are. The question costs half a microsecond."""
    kind = "cpu" if device == _CPU else device.type  # comparing is a sixth of asking
    return not (
        torch.is_inference_mode_enabled()
        or _is_autocast(kind)
        or torch._C._len_torch_function_stack()
        or _flushes_denormal()
        or _products_on(kind).may_round()
    )


@contextlib.contextmanager
def ordinary(device: torch.device) -> Iterator[None]:
    """Let this thread compute on a device as if the program had left torch's settings alone, and without gradients."""
    with contextlib.ExitStack() as settings:
        if torch.is_inference_mode_enabled():  # what is made in it cannot be changed outside
            settings.enter_context(torch.inference_mode(False))
        if _is_autocast(device.type):
            settings.enter_context(torch.autocast(device.type, enabled=False))
        if torch._C._len_torch_function_stack():
            settings.enter_context(torch._C.DisableTorchFunction())
        if _flushes_denormal():
            settings.callback(torch.set_flush_denormal, True)
            torch.set_flush_denormal(False)
        if _products_on(device.type).may_round():
            settings.enter_context(_products_on(device.type).of_all_bits())
        settings.enter_context(torch.no_grad())
        yield


def lasting(function: Function) -> Function:
    """Decorate what makes tensors that are kept: what is made in inference mode could not be changed outside of it."""

    @functools.wraps(function)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_inference_mode_enabled():
            return function(*args, **kwargs)
        with torch.inference_mode(False), torch.no_grad():
            return function(*args, **kwargs)

    return cast(Function, outside)


@lasting
def kept(tensor: Tensor) -> Tensor:
    """Return a tensor that can be kept: itself, or a copy of one that was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def in_inference_mode(task: Callable[[], Result]) -> Result:
    """Run a function in inference mode, which an interrupt ends too.

    Of ``with torch.inference_mode()`` an interrupt may leave the inner half: it would end whenever the error is
    forgotten, and then put back what the thread's settings were in the middle of the call.
    """
    mode = torch._C._InferenceMode(True)
    try:
        mode.__enter__()
        return task()
    finally:
        try:
            mode.__exit__(None, None, None)
        except BaseException:
            mode.__exit__(None, None, None)
            raise


def settle_thread() -> None:
    """Give a new thread of this library the settings that it keeps."""
    torch.set_grad_enabled(False)
    torch.set_flush_denormal(False)  # a thread inherits it from the one that starts it


def bits_of_factors(device: torch.device) -> int:
    """Return how many bits the factors of float32 products keep on a device: 24, or fewer if the program allows it."""
    return _products_on(device.type).bits()


def _is_autocast(kind: str) -> bool:
    return kind in AUTOCAST_DEVICES and torch.is_autocast_enabled(kind)


def _flushes_denormal() -> bool:
    return _SMALLEST_NORMAL * _HALF == 0.0


class _Products:
    """How float32 products are computed: a setting of the process, which calls at the same time change together.

    Parameters
    ----------
    get, change : callables
        Return the name of the setting, and set it.
    exact : str
        The name of the setting by which all bits are kept.
    inherited : str
        The name by which a more general setting is followed, where there is one.
    """

    def __init__(
        self, get: Callable[[], str], change: Callable[[str], object], exact: str, inherited: str | None = None
    ) -> None:
        self._get, self._change = get, change
        self._exact, self._inherited = exact, inherited
        self._calls, self._changes = 0, 0
        self._before: str | None = None
        self._lock = threading.Lock()

    def bits(self) -> int:
        return _BITS_OF_FACTORS.get(self._get(), _ALL_BITS)

    def may_round(self) -> bool:
        """Whether a call has to ask for all bits. It has to while another one does, which may end first."""
        changes = self._changes
        return bool(self._calls) or self.bits() < _ALL_BITS or changes != self._changes

    @contextlib.contextmanager
    def of_all_bits(self) -> Iterator[None]:
        """Keep all bits of factors, in all threads, until the last call that asked for it has ended."""
        with self._lock:
            self._calls += 1
            self._changes += 1
            if self.bits() < _ALL_BITS:
                self._before = self._get()
                self._change(self._exact)
        try:
            yield
        finally:
            with self._lock:
                if self._calls == 1:
                    self._put_back()
                self._calls -= 1

    def _put_back(self) -> None:
        before, self._before = self._before, None
        if before is None or self._get() != self._exact:  # the program has set it anew meanwhile
            return
        if self._inherited is not None:
            self._change(self._inherited)
        if self._get() != before:
            self._change(before)

    def after_fork(self) -> None:
        """In the child there are no other calls."""
        self._lock = threading.Lock()
        self._put_back()
        self._calls = 0


def _products_of(backend: str) -> _Products:
    """Products by a backend, which has a setting of its own from torch 2.9 on."""
    if not hasattr(torch._C, "_set_fp32_precision_setter"):
        return _by_one_setting
    get = functools.partial(torch._C._get_fp32_precision_getter, backend, "matmul")
    change = functools.partial(torch._C._set_fp32_precision_setter, backend, "matmul")
    return _Products(get, change, exact="ieee", inherited="none")


_by_one_setting = _Products(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, exact="highest")
_by_onednn, _by_cublas = _products_of("mkldnn"), _products_of("cuda")


def _products_on(kind: str) -> _Products:
    return _by_cublas if kind == "cuda" else _by_onednn


def _forget_calls() -> None:
    for products in {_by_one_setting, _by_onednn, _by_cublas}:
        products.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_calls)
