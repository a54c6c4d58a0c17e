"""The share of faiss's names that is offered, below the results of the tests."""

from __future__ import annotations

import pytest

from .api_pages import shares


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the share."""
    _, have, total = shares()[-1]
    terminalreporter.write_line(f"names of faiss that are offered: {have} of {total}, {100 * have / total:.0f} %")
