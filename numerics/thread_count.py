"""Parallel kernels leave torch's number of threads as it is.

numba's OpenMP layer sets the number of threads of the calling thread, and torch reads the same setting. The two numbers
differ where MKL counts cores and numba counts hyperthreads: torch would run on twice as many threads after the first kernel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["keep_thread_count"]


def keep_thread_count(kernel: Callable) -> Callable:
    """`kernel`, after which torch, where it is imported, has as many threads as before."""

    @wraps(kernel)
    def kept(*arguments: Any) -> Any:
        torch = sys.modules.get("torch")
        if not hasattr(torch, "get_num_threads"):  # not imported, or half: it asks MKL at its first use
            return kernel(*arguments)
        before = torch.get_num_threads()
        try:
            return kernel(*arguments)
        finally:
            if torch.get_num_threads() != before:
                torch.set_num_threads(before)

    return kept
