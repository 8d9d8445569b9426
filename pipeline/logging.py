"""Structured logs on standard error: JSON for machines, plain lines on a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import structlog

from pipeline.log_redaction import Redacted, secret_values

if TYPE_CHECKING:
    from pipeline.settings import Settings


def configure_logging(settings: Settings | None = None, stage: str = "", verbose: bool = False) -> None:
    """Set up structlog once a process.

    Every line names ``stage``, ``member`` and ``pid``, and shows no secret of the settings.

    Args:
        settings: the secrets of ``kafka`` and ``lake_storage_options``, and who we are in our group.
        stage: what this process runs.
        verbose: show what only a developer wants to know.
    """
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    secrets = secret_values(settings.kafka, settings.lake_storage_options) if settings is not None else ()
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _Always(stage=stage, member=settings.member if settings is not None else "", pid=os.getpid()),
            structlog.processors.format_exc_info,
            Redacted(renderer, secrets),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


class _Always:
    """Fields of every line, where the line does not say otherwise; in every thread, which context variables are not."""

    def __init__(self, **fields: Any) -> None:
        self._fields = {name: value for name, value in fields.items() if value not in ("", None)}

    def __call__(
        self, _logger: Any, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.ProcessorReturnValue:
        return {**self._fields, **event}
