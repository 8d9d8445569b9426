"""Is a stage's consumer group alive? The broker knows: a worker that hangs or has died is no member any more.

Usage: ``python healthcheck.py STAGE``; exits with 0 if the group has members, else with 1. It speaks of the group, so
with several workers of one stage it fails when the last one is gone.
"""

from __future__ import annotations

import sys

from confluent_kafka import ConsumerGroupState, KafkaException

from pipeline.kafka import make_admin
from pipeline.settings import load_settings

TIMEOUT_S = 5.0


def is_alive(stage: str) -> bool:
    """Whether the consumer group of ``stage`` has members."""
    settings = load_settings()
    group = f"{settings.application}.{stage}"
    admin = make_admin(settings)  # the future dies with it
    try:
        found = admin.describe_consumer_groups([group], request_timeout=TIMEOUT_S)[group]
        state = found.result(timeout=TIMEOUT_S).state
    except (KafkaException, TimeoutError):
        return False
    return state not in (ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD)


if __name__ == "__main__":
    sys.exit(0 if is_alive(sys.argv[1]) else 1)
