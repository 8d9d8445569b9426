"""The base of every error that hedgeflow raises on purpose."""

from __future__ import annotations


class HedgeflowError(Exception):
    """Something the user can act on: what was got, what was expected, what to do.

    Args:
        problem: what was got and what was expected, in one line.
        remedy: what to do about it, in one line.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}".strip())
        self.problem = problem
        self.remedy = remedy


class BadInputError(HedgeflowError):
    """The data does not have the form that its schema promises."""

    exit_code = 3


class ConfigError(HedgeflowError):
    """A setting is unknown, missing or out of range."""

    exit_code = 4


class ArtifactError(HedgeflowError):
    """A model folder is damaged or belongs to another catalogue."""

    exit_code = 5
