"""Parts of the work in plain threads, each with single-threaded torch: one wait a call instead of several a tile.

On a CPU that others use too, every small parallel region waits for its slowest thread; a part that runs alone from its
first tile to its last waits once. numba's kernels and the products both release the interpreter lock. OpenMP's own
threads spin for milliseconds after a parallel region, on the very cores the parts need: `alone` keeps torch from starting any,
and numpy's BLAS with it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from typing import TypeVar

import torch
from threadpoolctl import ThreadpoolController

__all__ = ["alone", "block_size", "in_threads", "thread_count"]

_place, _setting = threading.local(), threading.Lock()
Item, Result = TypeVar("Item"), TypeVar("Result")


def thread_count(device: torch.device) -> int:
    """How many parts may run side by side: torch's threads on a CPU, 1 elsewhere and inside a part."""
    if device.type != "cpu" or getattr(_place, "inside", False) or not _separable():
        return 1
    return getattr(_place, "threads", 0) or torch.get_num_threads()


@contextmanager
def alone(device: torch.device) -> Iterator[None]:
    """torch and numpy run this thread's own work on this thread, while `in_threads` still has as many parts as before."""
    threads = thread_count(device)
    with _one_blas_thread():
        if threads == 1 or getattr(_place, "threads", 0):
            yield
            return
        _place.threads = threads
        torch.set_num_threads(1)
        try:
            yield
        finally:
            _place.threads = 0
            torch.set_num_threads(threads)


def block_size(queries: int, device: torch.device, most: int, *, least: int | None = None) -> int:
    """Queries of a block: at most `most`; fewer, down to `least` (`most`), when that gives every thread a block."""
    threads, blocks = thread_count(device), -(-queries // most)
    if queries >= threads * (least or most):
        blocks = -(-blocks // threads) * threads
    return -(-queries // blocks)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item], device: torch.device) -> list[Result]:
    """`[function(item) for item in items]`, on a CPU over torch's threads when there is an item for each."""
    threads = thread_count(device)
    if not 1 < threads <= len(items):
        return [function(item) for item in items]
    with _one_blas_thread():
        return list(_pool(threads).map(function, items))


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    """numpy's BLAS has one thread, a number of the whole process: the first to ask sets it and sets it back; who asks
    meanwhile, from within or from another thread, computes with what it finds, at worst slower."""
    if not _setting.acquire(blocking=False):
        yield
        return
    try:
        with _libraries().limit(limits=1):
            yield
    finally:
        _setting.release()


@lru_cache(maxsize=1)
def _libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")


@lru_cache(maxsize=1)
def _separable() -> bool:
    """Whether threads may each have their own number of torch threads: true of OpenMP builds."""
    return "OpenMP" in torch.__config__.parallel_info()


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Threads that run torch on themselves alone; the caller's own number of threads stays as it is."""
    before, ready = torch.get_num_threads(), threading.Barrier(threads)

    def start() -> None:
        _place.inside = True
        torch.set_num_threads(1)
        torch.get_num_threads()  # a thread that has not asked yet would take over its maker's number later

    pool = ThreadPoolExecutor(threads, thread_name_prefix="queries", initializer=start)
    list(pool.map(lambda _: ready.wait(), range(threads)))  # all have started
    torch.set_num_threads(before)
    return pool


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads
