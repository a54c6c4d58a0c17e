"""Streams of accelerators, which belong to a thread, taken along to another one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import torch

#: A stream, and what makes it the current one of a thread.
Entry = tuple[Any, Any]


def current(devices: Iterable[torch.device]) -> list[Entry]:
    """Return the streams that the calling thread works in on devices; on a CPU there is none.

    Another thread begins with a device's default stream, which does not wait for these.
    """
    streams = []
    for device in devices:
        module: Any = getattr(torch, device.type, None)
        if device.type != "cpu" and hasattr(module, "current_stream") and hasattr(module, "stream"):
            streams.append((module.stream, module.current_stream(device)))
    return streams


def entered(streams: Iterable[Entry]) -> contextlib.ExitStack:
    """Make streams the current ones of this thread: for a ``with`` statement."""
    stack = contextlib.ExitStack()
    for enter, stream in streams:
        stack.enter_context(enter(stream))
    return stack
