"""Why a broker cannot be reached, as librdkafka's errors tell it, in words that say what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import structlog
from confluent_kafka import KafkaError, KafkaException

from features.errors import ConfigError

SILENCE_S: Final = 2.0
"""Seconds after which a person is told that we wait."""

_LASTING: Final = {
    KafkaError._AUTHENTICATION: "Check `sasl.mechanism`, `sasl.username` and the secret `sasl.password` of `kafka`.",
    KafkaError.SASL_AUTHENTICATION_FAILED: "Check `sasl.username` and the secret `sasl.password` of `kafka`.",
    KafkaError._SSL: "Check `ssl.ca.location` of `kafka`, the broker's certificate, and `security.protocol`.",
}
"""Errors that waiting does not mend, and their remedies."""

Client = TypeVar("Client")


class ConnectionErrors:
    """Takes librdkafka's errors as they come (``error_cb``) and keeps the telling one."""

    def __init__(self) -> None:
        self._last: KafkaError | None = None
        self._told = False

    def __call__(self, error: KafkaError) -> None:
        """Note one."""
        # "All brokers are down" follows every reason and says less.
        if not self.lasting and (self._last is None or error.code() != KafkaError._ALL_BROKERS_DOWN):
            self._last = error

    @property
    def lasting(self) -> bool:
        """Whether it is one that waiting does not mend."""
        return self._last is not None and self._last.code() in _LASTING

    def explained(self, bootstrap: str) -> tuple[str, str]:
        """What is wrong, and what to do."""
        if self._last is not None and self.lasting:
            return f"The broker at {bootstrap} does not let us in: {self._reason()}.", _LASTING[self._last.code()]
        return (
            f"No Kafka broker answers at {bootstrap}.",
            "Start one with `hedgeflow broker`, or point --bootstrap at yours.",
        )

    def tell_waiting(self, bootstrap: str) -> None:
        """Say once that we wait: in the log where there is one, else to the person at the terminal."""
        if self._told:
            return
        self._told = True
        if structlog.is_configured():
            structlog.get_logger().warning("waiting for the broker", bootstrap=bootstrap, reason=self._reason())
        else:
            sys.stderr.write(f"hedgeflow: waiting for the broker at {bootstrap} ...\n")

    def _reason(self) -> str:
        """The error's text without librdkafka's names for its threads."""
        return "" if self._last is None else self._last.str().rsplit("]: ", 1)[-1].split(" (after ")[0].rstrip(".")


def made(client: Callable[[dict[str, Any]], Client], settings: Mapping[str, Any]) -> Client:
    """A client of librdkafka.

    Raises:
        ConfigError: it refuses a setting; its words name the setting, and never the value of a secret.
    """
    try:
        return client(dict(settings))
    except KafkaException as error:
        raise ConfigError(f"librdkafka refuses the setting `kafka`: {error.args[0].str()}.", _NAMES) from error


_NAMES: Final = "Names and values: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md"
