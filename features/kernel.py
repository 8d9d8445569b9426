"""The one way in which hedgeflow compiles a loop."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., Any])

_ROOT: Final = Path(__file__).parent.parent


def kernel(function: F) -> F:
    """Compile ``function`` with numba so that it gives the same bits everywhere in the house.

    Neither ``fastmath`` nor ``parallel``: both reorder float sums, and a sum in another order is another
    number (DESIGN 3). The compiled code is cached beside the source, so worker processes share it. Numba itself
    notices a change in the function's own file only; ours also covers every module of the house that this file
    imports, so that no kernel goes on with an old callee or an old constant, and the name under which its own module
    was imported, by which numba finds it again.
    """
    return _compiled(function, counts_references=True)


def row_kernel(function: F) -> F:
    """As :func:`kernel`, for what runs once a row of the log: without numba's reference counts.

    They cost more than the work itself where every access goes through a tuple of arrays (a book's row 370 ns, without
    them 44). Such a function must not make arrays, nor assign to a slice: numba refuses to compile it. It may call a
    :func:`kernel` that does, as long as that returns numbers.
    """
    return _compiled(function, counts_references=False)


def _compiled(function: F, counts_references: bool) -> F:
    compiled = numba.njit(cache=True, error_model="numpy", nogil=True, _nrt=counts_references)(function)
    compiled._cache._cache_file._source_stamp = (function.__module__, _stamp(Path(function.__code__.co_filename)))
    return cast(F, compiled)


@cache
def _stamp(path: Path) -> str:
    """Hash of the sources of ``path`` and of all modules of the house that it imports, at any depth."""
    found = {path}
    waiting = [path]
    while waiting:
        for imported in _imports(waiting.pop()):
            if imported not in found:
                found.add(imported)
                waiting.append(imported)
    digest = hashlib.sha256()
    for each in sorted(found):
        digest.update(_source(each))
    return digest.hexdigest()


@cache
def _source(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _imports(path: Path) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(_imported(ast.parse(_source(path)))))


def _imported(tree: ast.Module) -> Iterator[Path]:
    """Files of the house that a module's ``from a.b import c`` and ``import a.b`` name."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            file = _ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if file.is_file():
                yield file
