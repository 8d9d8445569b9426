"""A Python file of the user's, run as a module."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType


def run_file(path: Path, name: str) -> ModuleType:
    """Run ``path`` as the module ``name``.

    Compiled from what the file holds now: Python's own cache knows a file by its size and second, and would run the old
    one after two edits in a second.

    Raises:
        OSError: it cannot be read.
        SyntaxError: it is no Python.
        Exception: whatever it raises.
    """
    module = ModuleType(name)
    module.__file__ = str(path)
    code = compile(path.read_bytes(), str(path), "exec")
    sys.modules[name] = module
    exec(code, module.__dict__)  # noqa: S102 (the user's own file is what is asked for)
    return module
