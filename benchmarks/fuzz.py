"""What a million damaged messages do to the readers of the wire: nothing but count.

``python -m benchmarks.fuzz [--messages 1000000] [--seed 7] [--quick]``. Messages of every kind and topic are damaged
(:mod:`benchmarks.fuzz_messages`) and read (:mod:`benchmarks.fuzz_readers`) in a child process with bounded memory. A
child that dies is counted with the number of its message, and the next one goes on behind it. Asserted: none died, no
exception but a counted reject, ``accepted + rejected = sent``. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import mmap
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final

from benchmarks.fuzz_messages import Mutator, good_events
from benchmarks.fuzz_readers import Readers
from benchmarks.memory import peak_rss_mb
from benchmarks.where import where

ROOM_BYTES: Final = 2 << 30
"""Address space that a child may take beyond what it has when it begins."""

FRESH_EVERY: Final = 1_000
"""Messages after which the stages begin anew: hostile clocks would leave nothing in reach."""

SHOWN_ERRORS: Final = 5


def read_all(seed: int, begin: int, end: int, progress: mmap.mmap) -> dict[str, Any]:
    """Read messages ``begin`` to ``end`` of ``seed`` in this process, which may take ``ROOM_BYTES`` more from here."""
    events = good_events()
    mutator, readers = Mutator(seed, events), Readers(events)
    for number in range(300):  # compiles, and fills what is kept for good
        _guarded(readers, mutator.message(number))
    _limit_memory()
    counts: Counter[str] = Counter()
    later: Counter[str] = Counter()
    errors: list[str] = []
    slowest, before_mb = (0.0, -1), peak_rss_mb()
    started = time.perf_counter()
    for number in range(begin, end):
        progress[:8] = number.to_bytes(8, "little")
        if number % FRESH_EVERY == 0:
            readers.begin_anew()
        message = mutator.message(number)
        clock = time.perf_counter()
        reason, rows, error = _guarded(readers, message)
        slowest = max(slowest, (time.perf_counter() - clock, number))
        counts[f"{message.reader}:{reason or 'accepted'}"] += 1
        later += rows
        if error and len(errors) < SHOWN_ERRORS:
            errors.append(f"message {number} ({message.reader} {message.kind}): {error}")
    return {
        "counts": counts,
        "rows_refused_by_stages": later,
        "errors": errors,
        "slowest_ms": round(1e3 * slowest[0], 2),
        "slowest_message": slowest[1],
        "rss_before_mb": round(before_mb, 1),
        "rss_growth_mb": round(peak_rss_mb() - before_mb, 1),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _guarded(readers: Readers, message: Any) -> tuple[str, Counter[str], str]:
    try:
        return *readers.read(message), ""
    except Exception as error:  # noqa: BLE001 (to find those is what this is for)
        where_ = traceback.extract_tb(error.__traceback__)[-1]
        return "escaped", Counter(), f"{type(error).__name__}: {error} ({where_.filename}:{where_.lineno})"[:600]


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))


def fuzz(seed: int, messages: int) -> dict[str, Any]:
    """Read all in child processes; what they counted together."""
    parts: list[dict[str, Any]] = []
    deaths: list[dict[str, int]] = []
    begin = 0
    with tempfile.NamedTemporaryFile() as file:
        file.truncate(8)
        while begin < messages:
            command = [sys.executable, "-m", "benchmarks.fuzz", "--child", file.name, "--seed", str(seed)]
            done = subprocess.run(
                [*command, "--begin", str(begin), "--messages", str(messages)],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
            )
            if done.returncode == 0:
                parts.append(json.loads(done.stdout.splitlines()[-1]))
                break
            if done.returncode > 0:
                raise SystemExit(f"the reader itself failed with status {done.returncode}")
            died_at = int.from_bytes(Path(file.name).read_bytes(), "little")
            deaths.append({"message": died_at, "status": done.returncode})
            if len(deaths) > SHOWN_ERRORS:
                break
            begin = died_at + 1
    return _together(parts, deaths)


def _together(parts: list[dict[str, Any]], deaths: list[dict[str, int]]) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part["counts"])
    accepted = sum(number for name, number in counts.items() if name.endswith(":accepted"))
    escaped = sum(number for name, number in counts.items() if name.endswith(":escaped"))
    return {
        "read": counts.total(),
        "accepted": accepted,
        "rejected": counts.total() - accepted - escaped,
        "escaped": escaped,
        "deaths": deaths,
        **(parts[-1] if parts else {}),
    }


def _print(found: dict[str, Any]) -> None:
    for name, number in sorted(found.get("counts", {}).items(), key=lambda item: -item[1]):
        print(f"{number:>12,}  {name}")
    print(f"{found['accepted']:,} accepted, {found['rejected']:,} rejected, {found['escaped']:,} escaped")
    for error in found.get("errors", ()):
        print(f"  {error}")
    for death in found["deaths"]:
        print(f"  the reader died at message {death['message']} with status {death['status']}")


def main() -> None:
    """Print what became of the messages, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="three thousand messages")
    parser.add_argument("--begin", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        with Path(options.child).open("r+b") as file, mmap.mmap(file.fileno(), 8) as progress:
            print(json.dumps(read_all(options.seed, options.begin, options.messages, progress)))
        return
    messages = 3_000 if options.quick else options.messages
    found = fuzz(options.seed, messages)
    _print(found)
    how = {"benchmark": "fuzz", "messages": messages, "seed": options.seed, "room_mb": ROOM_BYTES >> 20}
    print(json.dumps(how | found | where(("pyarrow", "numpy", "numba", "msgspec"))))
    assert not found["deaths"], "a message ended the process"
    assert not found["escaped"], "a message raised what nobody catches"
    assert found["accepted"] + found["rejected"] == messages


if __name__ == "__main__":
    main()
