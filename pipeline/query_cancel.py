"""Ctrl-C ends a query. DuckDB computes outside Python, where no signal is heard: so it computes in another thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Final, TypeVar

import duckdb

T = TypeVar("T")

_AGAIN_S: Final = 0.1


def cancellable(connection: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """What ``work`` returns; upon Ctrl-C its query ends, and the connection can be used again.

    Raises:
        KeyboardInterrupt: it was cancelled.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except KeyboardInterrupt:
            # Again and again: between two statements there is nothing to interrupt. And whoever presses it twice means
            # it no less: leaving here would wait for a query that nobody ends any more.
            while not future.done():
                with suppress(KeyboardInterrupt):
                    connection.interrupt()
                    wait([future], _AGAIN_S)
            raise
