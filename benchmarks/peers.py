"""The peers' environment: made by ``python -m benchmarks.peers install``, used by file and by process only.

A peer never shares our interpreter. Its script in ``benchmarks/peer_scripts`` reads what :mod:`benchmarks` wrote to a
file, and prints one JSON object as its last line. Ours and the peer's processes run in alternation, so that whatever
else the machine does meets both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

ROOT: Final = Path(__file__).parent.parent
ENVIRONMENT: Final = ROOT / ".venv-peers"
REQUIREMENTS: Final = Path(__file__).parent / "peers.txt"
SCRIPTS: Final = Path(__file__).parent / "peer_scripts"

MISSING: Final = "The peers are not installed: only our figures, ratio null. `python -m benchmarks.peers install`."

ONE_THREAD: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "POLARS_MAX_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
}
"""So that a process that is timed uses one core."""


def peer_python() -> Path | None:
    """The interpreter of the peers; None where they are not installed."""
    python = ENVIRONMENT / "bin" / "python"
    return python if python.exists() else None


def peer(script: str, *arguments: str | Path) -> list[str] | None:
    """The command that runs a peer's script; None where the peers are not installed."""
    python = peer_python()
    return None if python is None else [str(python), str(SCRIPTS / script), *map(str, arguments)]


def ours(module: str, *arguments: str | Path) -> list[str]:
    """The command that runs a benchmark's own part in a process of its own."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run(command: Sequence[str], **environment: str) -> dict[str, Any]:
    """Run a command from the root of the repository; return the JSON object of its last line.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    settings = os.environ | ONE_THREAD | environment
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=settings)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with {done.returncode}:\n{done.stderr[-4_000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def alternate(
    our_command: Sequence[str], peer_command: Sequence[str] | None, pairs: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results of ``pairs`` runs each, in alternation; none of the peer's where it is missing."""
    mine: list[dict[str, Any]] = []
    theirs: list[dict[str, Any]] = []
    for _ in range(pairs):
        mine.append(run(our_command))
        if peer_command is not None:
            theirs.append(run(peer_command))
    return mine, theirs


def spread(values: Sequence[float], rounded: Callable[[float], float] = round) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": rounded(median(values)), "min": rounded(min(values)), "max": rounded(max(values))}


def install() -> None:
    """Make the environment, or bring it to ``peers.txt``."""
    if peer_python() is None:
        venv.EnvBuilder(with_pip=True).create(ENVIRONMENT)
    python = str(ENVIRONMENT / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-r", REQUIREMENTS], check=True
    )


def main() -> None:
    """``python -m benchmarks.peers install``."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["install"])
    parser.parse_args()
    install()
    print(f"The peers are in {ENVIRONMENT}.")


if __name__ == "__main__":
    main()
