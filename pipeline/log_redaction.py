"""Keeps secrets out of the log, whoever wrote them there: the last thing that happens to a line."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any, Final

import structlog

from pipeline.secrets import is_secret

MASK: Final = "***"
SHORTEST: Final = 4
"""A shorter secret would take every line apart; it is masked where it stands under its name."""

_SECRET_NAME: Final = re.compile(
    r"pass(word|wd|phrase)|secret|token|credential|oauthbearer|signature|(account|access|service|client)_key|key_id"
    r"|(^|[._-])(sas|pem)($|[._-])",
    re.IGNORECASE,
)
_USER_OF_URL: Final = re.compile(r'(://[^/\s:@"]*:)[^/\s@"]+@')


def secret_values(*options: Mapping[str, str]) -> frozenset[str]:
    """The values of options whose names say that they are secret."""
    return frozenset(value for each in options for name, value in each.items() if _is_secret(name) and value)


def _is_secret(name: str) -> bool:
    return is_secret(name) or _SECRET_NAME.search(name) is not None


class Redacted:
    """A renderer whose lines show no secret.

    Fields with the name of a secret are masked whole; so are the secrets that are known, wherever they stand, in
    tracebacks too, and passwords in URLs.

    Args:
        renderer: what makes the line.
        secrets: values that no line may show.
    """

    def __init__(self, renderer: structlog.typing.Processor, secrets: Collection[str] = ()) -> None:
        self._renderer = renderer
        spelled = {
            form
            for each in secrets
            if len(each) >= SHORTEST
            for form in (each, json.dumps(each)[1:-1], repr(each)[1:-1])
        }
        # The longest first: one secret may be part of another.
        self._secrets = re.compile(
            "|".join(re.escape(each) for each in sorted(spelled, key=len, reverse=True)) or r"(?!)"
        )

    def __call__(self, logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        line = str(self._renderer(logger, method, _masked(event)))
        return _USER_OF_URL.sub(rf"\g<1>{MASK}@", self._secrets.sub(MASK, line))


def _masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            name: MASK if _is_secret(str(name)) and each is not None else _masked(each) for name, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked(each) for each in value]
    return value
