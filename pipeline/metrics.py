"""What a worker measures about itself, for Prometheus.

Calls come once a micro-batch from the worker's thread, and from those that write its tables.
"""

from __future__ import annotations

import time
from typing import Final

from pipeline.process_metrics import ProcessMetrics

BATCH_BUCKETS: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
DECISION_BUCKETS: Final = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.010, 0.0125, 0.015, 0.020, 0.025, 0.030, 0.040, 0.050),
    *(0.075, 0.100, 0.150, 0.250, 0.500, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

REPLAY_S: Final = 86_400.0


class WorkerMetrics(ProcessMetrics):
    """The metrics of one worker.

    Args:
        stage: the worker's stage, or stages joined with ``-``.
    """

    def __init__(self, stage: str) -> None:
        super().__init__(stage)
        self._declare_flow()
        self._declare_state()
        self._declare_lake()
        self._paused_since: float | None = None
        self._scraped.covered_at = time.monotonic()
        for what in ("assigned", "revoked", "lost"):
            self._rebalances.add(0, what)

    def _declare_flow(self) -> None:
        count, level, spread = self._count, self._level, self._spread
        self._messages = count("hedgeflow_messages", "Messages taken.", ["topic"])
        self._bytes = count("hedgeflow_bytes", "Bytes of the messages taken.", ["topic"])
        self._rows = count("hedgeflow_rows", "Rows decoded.", ["topic"])
        self._sent_rows = count("hedgeflow_sent_rows", "Rows sent.", ["topic"])
        self._batch = spread("hedgeflow_batch_messages", "Messages taken at once.", BATCH_BUCKETS)
        self._lag = level("hedgeflow_lag_messages", "Messages not taken yet.", ["topic", "partition"])
        self._paused = level("hedgeflow_paused", "1 while a slow sink keeps the worker from taking messages.")
        self._queue = level("hedgeflow_queue_messages", "Messages sent that the broker has not acknowledged.")
        self._decision = spread(
            "hedgeflow_event_to_decision_seconds",
            "From the edge's receiving what completes a bar to its decision.",
            DECISION_BUCKETS,
        )

    def _declare_state(self) -> None:
        count, level, spread = self._count, self._level, self._spread
        self._state = level("hedgeflow_state_bytes", "Size of a task's state at its last checkpoint.", ["task"])
        self._checkpoint = spread("hedgeflow_checkpoint_seconds", "How long a checkpoint took.", DURATION_BUCKETS)
        self._rebalances = count("hedgeflow_rebalances", "Partitions assigned, revoked or lost.", ["what"])
        self._refused = count("hedgeflow_commits_refused", "Commits of offsets that the broker refused.")

    def _declare_lake(self) -> None:
        count, level, spread = self._count, self._level, self._spread
        self._lake_seconds = spread(
            "hedgeflow_lake_commit_seconds", "How long a commit took.", DURATION_BUCKETS, ["table"]
        )
        self._lake_rows = count("hedgeflow_lake_rows", "Rows committed to the lake.", ["table"])
        self._lake_failures = count("hedgeflow_lake_failures", "Commits to the lake that failed.", ["table"])
        self._lake_waiting = level("hedgeflow_lake_waiting_rows", "Rows that wait for their commit to the lake.")

    # -- the flow ------------------------------------------------------------------------------------------------------

    def took(self, topic: str, messages: int, size: int) -> None:
        """Count messages of ``topic`` and their ``size`` in bytes."""
        self._messages.add(messages, topic)
        self._bytes.add(size, topic)

    def batch(self, messages: int) -> None:
        """Messages that one turn of the loop took."""
        self._batch.observe(messages)

    def rows(self, topic: str, rows: int) -> None:
        """Count rows decoded."""
        self._rows.add(rows, topic)

    def sent(self, topic: str, rows: int) -> None:
        """Count rows sent."""
        self._sent_rows.add(rows, topic)

    # -- time ----------------------------------------------------------------------------------------------------------

    def lag(self, topic: str, partition: int, messages: int) -> None:
        """Messages of a partition that wait to be taken."""
        self._lag.set(messages, topic, str(partition))

    def released(self, topic: str, partition: int) -> None:
        """A partition is no longer ours: its lag is the next owner's to tell."""
        self._lag.forget(topic, str(partition))

    def event_to_decision(self, seconds: float) -> None:
        """From the edge's receiving what completes a bar to its decision; a replay of another day says nothing."""
        if seconds < REPLAY_S:
            self._decision.observe(seconds)

    # -- state ---------------------------------------------------------------------------------------------------------

    def checkpoint(self, task: str, size: int, seconds: float) -> None:
        """A task's state of ``size`` bytes became durable; the age of the checkpoint counts from here."""
        self._state.set(size, task)
        self._checkpoint.observe(seconds)
        self._scraped.covered_at = time.monotonic()

    def forgot(self, task: str) -> None:
        """A task's state is no longer ours."""
        self._state.forget(task)

    def rebalance(self, what: str) -> None:
        """Partitions were ``assigned``, ``revoked`` or ``lost``."""
        self._rebalances.add(1, what)

    def commit_refused(self) -> None:
        """The broker refused offsets."""
        self._refused.add(1)

    def paused(self, paused: bool) -> None:
        """Whether a slow sink keeps the worker from taking messages."""
        if paused != (self._paused_since is not None):
            self._paused_since = time.monotonic() if paused else None
            self._paused.set(paused)

    def paused_s(self) -> float:
        """For how many seconds the worker has been paused; 0 when it takes messages."""
        since = self._paused_since
        return 0.0 if since is None else time.monotonic() - since

    def queue(self, messages: int) -> None:
        """Messages sent that are not acknowledged yet."""
        self._queue.set(messages)

    # -- the lake ------------------------------------------------------------------------------------------------------

    def lake_commit(self, table: str, rows: int, seconds: float) -> None:
        """Rows of a table became durable."""
        self._lake_rows.add(rows, table)
        self._lake_seconds.observe(seconds, table)
        self._scraped.covered_at = time.monotonic()

    def lake_failure(self, table: str) -> None:
        """A commit failed; it is tried again."""
        self._lake_failures.add(1, table)

    def lake_waiting(self, rows: int) -> None:
        """Rows that wait for a commit."""
        self._lake_waiting.set(rows)
