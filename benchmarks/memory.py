"""How much memory a benchmark's process has used."""

from __future__ import annotations

import resource
from pathlib import Path


def peak_rss_mb() -> float:
    """Of this program: on Linux the mark of its own memory, because ``ru_maxrss`` comes from the parent there."""
    status = Path("/proc/self/status")
    if status.exists():
        marks = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(marks[0][1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
