"""The four characters that say what stands in a file, as text and as the number that they are in it."""

from __future__ import annotations

from .primitives import printable


def fourcc(sx: str) -> int:
    """The number that four characters are in a file, little-endian.

    Raises
    ------
    RuntimeError
        If they are not four.
    """
    if len(sx) != 4:
        raise RuntimeError(f"fourcc: expected 4 characters, got {len(sx)} in {sx!r}")
    return int.from_bytes(sx.encode("latin-1"), "little")


def fourcc_inv(x: int) -> str:
    """The four characters of a number."""
    return x.to_bytes(4, "little").decode("latin-1")


def fourcc_inv_printable(x: int) -> str:
    r"""The four characters of a number; those that cannot be printed as ``\x00``."""
    return printable(x.to_bytes(4, "little"))
