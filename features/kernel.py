"""The one way in which hedgeflow compiles a loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])


def kernel(function: F) -> F:
    """Compile ``function`` with numba so that it gives the same bits everywhere in the house.

    Neither ``fastmath`` nor ``parallel``: both reorder float sums, and a sum in another order is another
    number (DESIGN 3). The compiled code is cached beside the source, so worker processes share it.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy", nogil=True)(function))
