"""Which dask scheduler is meant: worker processes here, an address, a scheduler's file, or a client that is open already."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numerics.domain import DomainError
from numerics.store import versions

__all__ = ["connected", "scheduler_text"]

ALLOWED = (
    "local:N for N worker processes here, the address of a running dask scheduler (tcp://host:8786), or the .json file that "
    "`dask scheduler --scheduler-file` writes"
)
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^\s/:]+:\d{1,5}|\[?[\w.:-]+\]?:\d{1,5}")
TIMEOUT = 10.0  # seconds until a scheduler must have answered


def scheduler_text(text: str, *, argument: str = "scheduler") -> str:
    """`text` where it can name a scheduler, or `DomainError`; nothing is started or asked.

    >>> scheduler_text("local:2")
    'local:2'
    >>> scheduler_text("local:0")
    Traceback (most recent call last):
    ...
    numerics.domain.DomainError: scheduler = local:0 is outside its domain: it must be local:N for N worker processes here, ...
    """
    if text.startswith("local:"):
        count = text.removeprefix("local:")
        if not re.fullmatch(r"[1-9]\d{0,3}", count):
            raise DomainError(argument, text, ALLOWED)
    elif text.endswith(".json"):
        try:
            told = json.loads(Path(text).read_text())
            if not isinstance(told, dict) or "address" not in told:
                raise ValueError("no address in it")
        except (OSError, ValueError) as error:
            raise DomainError(argument, text, ALLOWED, f"({type(error).__name__}: {error})") from error
    elif not _ADDRESS.fullmatch(text):
        raise DomainError(argument, text, ALLOWED)
    return text


@contextmanager
def connected(scheduler: Any, *, argument: str = "scheduler") -> Iterator[Any]:
    """An open client of `distributed`; what was opened for it is closed at the end.

    scheduler : text, see `scheduler_text`, or a `distributed.Client`, which stays open; argument : its name in errors

    Raises
    ------
    DomainError : dask is not installed, nobody answers within ten seconds, or workers whose packages have other versions than
        this process: their numbers would differ
    """
    if not isinstance(scheduler, str):
        if not (hasattr(scheduler, "submit") and hasattr(scheduler, "scatter")):
            raise DomainError(argument, scheduler, f"{ALLOWED}, or a distributed.Client")
        yield scheduler
        return
    scheduler_text(scheduler, argument=argument)
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        allowed = "left out where dask is not installed"
        raise DomainError(argument, scheduler, allowed, "`pip install distributed`") from error
    if scheduler.startswith("local:"):
        count = int(scheduler.removeprefix("local:"))
        with (
            LocalCluster(
                n_workers=count,
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
                memory_limit=0,
                silence_logs=logging.ERROR,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client
        return
    where = {"scheduler_file": scheduler} if scheduler.endswith(".json") else {"address": scheduler}
    try:
        client = Client(**where, timeout=TIMEOUT)
    except (OSError, ValueError) as error:
        remedy = f"Nobody answers there ({type(error).__name__})"
        raise DomainError(argument, scheduler, ALLOWED, remedy) from error
    with client:
        _same_versions(client, scheduler, argument)
        yield client


def _same_versions(client: Any, scheduler: str, argument: str) -> None:
    """Every worker that is there has the versions of this process."""
    here = versions()
    try:
        found = client.run(versions)
    except ImportError as error:
        raise DomainError(argument, scheduler, f"a scheduler whose workers have geomem installed ({error})") from error
    for worker, there in found.items():
        names = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        if names:
            told = ", ".join(f"{n} {there.get(n, 'none')} (here {here.get(n, 'none')})" for n in names)
            allowed = f"a scheduler whose workers have the packages of this process: {worker} has {told}"
            raise DomainError(argument, scheduler, allowed, "Start the workers from the same environment")
