"""Did a system that was disturbed tell the truth? Each row beside an undisturbed run and a backfill, bit for bit.

The undisturbed run is the chain of stages over the events as the source sent them, in one process and without Kafka;
the backfill is the same chain over the raw rows that reached the lake.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import polars as pl
from confluent_kafka import TopicPartition
from msgspec import structs

from features.errors import BadInputError
from features.events import EventBatch
from hedger.decide import Decider
from hedger.decision import Decision, decode_decision, encode_decision
from hedger.inputs import CancelInput, FillInput, Input, KillInput, SignalInput, TimerInput, decode_input
from hedger.paper import PaperGateway
from hedger.policy import load_policy
from hedger.profit import signal_inputs
from pipeline.backfill import backfill
from pipeline.backfill_own_activity import backfill_own_activity
from pipeline.compare import compare
from pipeline.kafka import make_reader, read_to_end
from pipeline.lake import Lake
from pipeline.model_folders import POLICY_FOLDER
from pipeline.portfolios import DEFAULT_LIMITS, read_portfolio
from pipeline.query import open_lake
from pipeline.raw_reader import read_log
from pipeline.settings import Settings
from pipeline.tables import TABLES
from pipeline.topics import DECISIONS, ORDERS

COMPUTED: Final = ("features", "universe", "signals")


@dataclass(frozen=True)
class Rows:
    """Of a table: rows in the lake, how many lack an equal in the reference, and the other way round."""

    rows: int
    lost: int
    twice: int


@dataclass
class Truth:
    """By table and reference; ``complaints`` say what else is not as it should be."""

    tables: dict[str, dict[str, Rows]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        """Rows that some reference has and the lake has not, over all tables."""
        return sum(each.lost for found in self.tables.values() for each in found.values())

    @property
    def twice(self) -> int:
        """Rows that the lake has beyond some reference: repeated or wrong ones, over all tables."""
        return sum(each.twice for found in self.tables.values() for each in found.values())

    @property
    def holds(self) -> bool:
        """Nothing lost, nothing twice, nothing else."""
        return not self.lost and not self.twice and not self.complaints

    def summary(self) -> str:
        """One line."""
        rows = ", ".join(f"{name} {next(iter(found.values())).rows:,}" for name, found in self.tables.items())
        return f"lost {self.lost}, twice {self.twice}, other complaints {len(self.complaints)} ({rows} rows)"

    def report(self) -> str:
        """A table for people."""
        lines = [f"{'table':<16}{'beside':<14}{'rows':>9}{'lost':>7}{'twice':>7}"]
        for name, found in self.tables.items():
            lines += [f"{name:<16}{ref:<14}{r.rows:>9,}{r.lost:>7}{r.twice:>7}" for ref, r in found.items()]
        lines += [f"{name}: {count:,}" for name, count in self.counts.items()]
        return "\n".join([*lines, *(f"WRONG: {complaint}" for complaint in self.complaints)])


def truth_of(
    settings: Settings,
    folder: Path,
    sent: Iterable[EventBatch] | None,
    *,
    signals: bool = True,
    decisions: bool = True,
) -> Truth:
    """Check everything that the lake of ``settings`` holds; its broker has to run still where decisions were made.

    Args:
        folder: for the lakes of the references; empty.
        sent: the events as the source sent them; ``None`` where what the log holds is not that, because it was
            tampered with on purpose: then only the backfill is a reference.
        signals: whether the system had a stage ``signals``.
        decisions: whether it had the workers ``decisions`` and ``own``.
    """
    truth, lake = Truth(), Lake(settings.lake)
    references: dict[str, Lake] = {"backfill": Lake(folder / "backfill")}
    backfill(read_log(settings.lake), references["backfill"], settings, with_signals=signals)
    if sent is not None:
        batches = list(sent)
        references = {"undisturbed": Lake(folder / "undisturbed"), **references}
        backfill(batches, references["undisturbed"], settings, with_signals=signals)
        _raw(lake, batches, truth)
    for name in COMPUTED if signals else COMPUTED[:2]:
        truth.tables[name] = {ref: _beside(lake, other, name) for ref, other in references.items()}
    if decisions:
        own = Lake(folder / "own")
        backfill_own_activity(lake, own, settings)
        truth.tables["own_activity"] = {"backfill": _beside(lake, own, "own_activity")}
        _decisions(settings, next(iter(references.values())), truth)
    return truth


def _beside(lake: Lake, reference: Lake, name: str) -> Rows:
    found = compare(lake, reference, name)
    same = max(found.left, found.right) - found.differing
    return Rows(found.left, found.right - same, found.left - same)


def _raw(lake: Lake, sent: list[EventBatch], truth: Truth) -> None:
    """Raw rows by (instrument, number): the edge numbers them 0, 1, 2 ... per instrument and kind."""
    numbers: dict[str, list[pl.DataFrame]] = {}
    for batch in sent:
        columns = {name: batch.data.column(name) for name in ("instrument", "seq")}
        frame = pl.DataFrame({"instrument": pl.Series(columns["instrument"].to_pylist()), "seq": columns["seq"]})
        numbers.setdefault(batch.kind.value, []).append(frame)
    for table in TABLES.values():
        if table.kind not in numbers:
            continue
        here = pl.read_parquet(lake.files(table), columns=["instrument", "seq"], hive_partitioning=False)
        there = pl.concat(numbers[table.kind])
        key = ["instrument", "seq"]
        lost = there.join(here.unique(), on=key, how="anti").height
        strangers = here.join(there, on=key, how="anti").height
        truth.tables[table.name] = {"sent": Rows(here.height, lost, here.height - here.unique().height + strangers)}


# -- decisions ----------------------------------------------------------------------------------------------------


def _decisions(settings: Settings, reference: Lake, truth: Truth) -> None:
    """The log of inputs explains every decision, fill and order; and it holds every bar of the reference's signals."""
    inputs = list(_inputs(settings))
    remade, reports = _replayed(settings, inputs)
    logged = _topic(settings, DECISIONS)
    first = list(dict.fromkeys(logged))
    made = [encode_decision(each) for each in remade]
    truth.tables["decisions"] = {"replay": _listed(first, made)}
    if first != made and set(first) == set(made):
        truth.complaints.append("decisions are not in the order of their inputs")
    in_log = {item.input_id: item for item in inputs if isinstance(item, FillInput | CancelInput)}
    truth.tables["fills"] = {"replay": _listed(list(in_log.items()), list(reports.items()))}
    market = _market(settings, reference)
    truth.tables["decision_inputs"] = {
        "signals": _listed(
            sorted({item.input_id: item for item in inputs if isinstance(item, SignalInput)}.items()),
            sorted((item.input_id, item) for item in market),
        )
    }
    timers, killed = (sum(isinstance(item, kind) for item in inputs) for kind in (TimerInput, KillInput))
    if timers + killed == 0:  # neither a clock nor a person had a say
        expected, filled = _undisturbed(settings, market)
        mine = [_without_repeats(decode_decision(each)) for each in first]
        truth.tables["decisions"]["undisturbed"] = _listed(mine, [_without_repeats(each) for each in expected])
        truth.tables["fills"]["undisturbed"] = _listed(list(in_log.items()), list(filled.items()))
    _lake_of_decisions(settings, first, in_log, truth)
    orders = _topic(settings, ORDERS)
    wanted = sum(len(each.orders) for each in remade)
    if len(set(orders)) != wanted:
        truth.complaints.append(f"{len(set(orders))} orders were sent, {wanted} were decided")
    truth.counts |= {
        "timer ticks": timers,
        "inputs appended again, dropped by the decider": len(inputs) - len({item.input_id for item in inputs}),
        "decisions sent again, dropped by readers": len(logged) - len(first),
        "orders sent again, dropped by the gateway by their id": len(orders) - len(set(orders)),
    }


def fresh_decider(settings: Settings) -> Decider:
    """As the worker makes it."""
    policy = load_policy(settings.models / POLICY_FOLDER, None)
    return Decider(read_portfolio(settings.portfolio), DEFAULT_LIMITS, policy)


def _inputs(settings: Settings) -> Iterator[Input]:
    with open_lake(settings.lake) as lake:
        rows = lake.sql(
            "SELECT document, portfolio FROM decision_inputs ORDER BY topic_partition, topic_offset, topic_row"
        ).fetchall()
    name = read_portfolio(settings.portfolio).name
    for document, portfolio in rows:
        if portfolio != name:
            continue
        try:
            yield decode_input(document.encode())
        except BadInputError:
            continue  # poison: the decider makes a dead letter of it


def _replayed(settings: Settings, inputs: list[Input]) -> tuple[list[Decision], Mapping[str, FillInput | CancelInput]]:
    """What decider and gateway make of the log, from nothing."""
    decider, gateway = fresh_decider(settings), PaperGateway()
    decisions: list[Decision] = []
    reports: dict[str, FillInput | CancelInput] = {}
    for item in inputs:
        if isinstance(item, SignalInput):
            reports |= {report.input_id: report for report in gateway.on_market(item)}
        decision = decider.apply(item)
        if decision is not None:
            decisions.append(decision)
            gateway.submit(decision.orders)
            cancelled = gateway.cancel(decision.cancels, decision.bar_ts, "the decision cancels it")
            reports |= {report.input_id: report for report in cancelled}
    return decisions, reports


def _undisturbed(
    settings: Settings, market: list[SignalInput]
) -> tuple[list[Decision], Mapping[str, FillInput | CancelInput]]:
    """What is decided and filled if every bar comes once: as the worker appends it, a bar's reports before its rows."""
    decider, gateway = fresh_decider(settings), PaperGateway()
    decisions: list[Decision] = []
    reports: dict[str, FillInput | CancelInput] = {}
    names = read_portfolio(settings.portfolio).underlyings
    ordered = sorted(market, key=lambda signal: (signal.bar_ts, names.index(signal.underlying)))
    for _, group in groupby(ordered, key=lambda signal: signal.bar_ts):
        bar = list(group)
        told: list[Input] = [report for signal in bar for report in gateway.on_market(signal)]
        for item in [*told, *bar]:
            if isinstance(item, FillInput | CancelInput):
                reports[item.input_id] = item
            decision = decider.apply(item)
            if decision is not None:
                decisions.append(decision)
                gateway.submit(decision.orders)
    return decisions, reports


def _without_repeats(decision: Decision) -> bytes:
    """A crash may append an input again: the decider drops it and notes that, which is all that may differ."""
    noted = tuple(notice for notice in decision.notices if "was dropped" not in notice)
    return encode_decision(structs.replace(decision, notices=noted))


def _market(settings: Settings, reference: Lake) -> list[SignalInput]:
    """The reference's signals that are decided upon: bars that all underlyings have."""
    frame = pl.read_parquet(reference.files(TABLES["signals"]), hive_partitioning=True)
    frame = frame.filter(pl.col("bar_ts") >= settings.active_from_bar_ts)
    underlyings = read_portfolio(settings.portfolio).underlyings
    whole = pl.len().over("bar_ts") == len(underlyings)
    return list(signal_inputs(frame.filter(whole)))


def _lake_of_decisions(
    settings: Settings, decisions: list[bytes], reports: Mapping[str, FillInput | CancelInput], truth: Truth
) -> None:
    """The lake's tables hold what the topics hold, each once."""
    with open_lake(settings.lake) as lake:
        documents = lake.sql("SELECT document, count(*) FROM decisions GROUP BY 1").fetchall()
        fills = lake.sql("SELECT order_id, quantity, price, fee_usd FROM fills ORDER BY ALL").fetchall()
    stored = {document.encode(): count for document, count in documents}
    legs = {each: len(decode_decision(each).legs) for each in decisions}
    wanted = {document: count for document, count in legs.items() if count}
    missing = sum(document not in stored for document in wanted)
    extra = sum(count != wanted.get(document) for document, count in stored.items())
    truth.tables["decisions"]["lake"] = Rows(len(stored), missing, extra)
    mine = sorted((f.order_id, f.quantity, f.price, f.fee_usd) for f in reports.values() if isinstance(f, FillInput))
    truth.tables["fills"]["lake"] = _listed(fills, mine)


def _listed(mine: list[Any], theirs: list[Any]) -> Rows:
    """Two lists as multisets."""
    here, there = Counter(mine), Counter(theirs)
    return Rows(len(mine), (there - here).total(), (here - there).total())


def _topic(settings: Settings, topic: str) -> list[bytes]:
    """The values of a topic of one partition; poison is passed over."""
    reader = make_reader(settings)
    name = read_portfolio(settings.portfolio).name.encode()
    try:
        messages = list(read_to_end(reader, [TopicPartition(topic, 0, 0)]))
    finally:
        reader.close()
    return [message.value() for message in messages if message.key() == name and message.value()]
