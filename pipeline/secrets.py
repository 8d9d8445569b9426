"""Secrets: which settings are some, where they may come from, and that a configuration file holds none.

A configuration file is copied, committed and mailed. So what opens a broker or an object store comes from the
environment, or from a file of its own that only its owner can read.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from features.errors import ConfigError

TABLES: Final = ("kafka", "lake_storage_options")
"""Settings that are passed on to a client, and may hold secrets."""

_SECRET: Final = re.compile(
    r"(^|[._])(password|passphrase|secret|pem)$|secret_access_key|session_token|(account|shared|sas|service_account)_key"
    r"|sas_token|(oauthbearer|jaas)\.config$",
    re.IGNORECASE,
)


def is_secret(name: str) -> bool:
    """Whether the setting of a client holds a secret, by its name.

    >>> [is_secret(name) for name in ("sasl.password", "ssl.key.pem", "sasl.username", "ssl.ca.location")]
    [True, True, False, False]
    """
    return _SECRET.search(name) is not None


def refuse_secrets(values: Mapping[str, Any], path: Path) -> None:
    """Check a configuration file's settings.

    Raises:
        ConfigError: one of them is a secret; its value is not repeated.
    """
    for table in TABLES:
        for name, _value in _flat(values.get(table)):
            if is_secret(name):
                raise ConfigError(
                    f"{path} holds the secret {table}.{name}, and a configuration file gets copied.",
                    _remedy(table, name),
                )


def _remedy(table: str, name: str) -> str:
    variable = f'HEDGEFLOW_{table.upper()}=\'{{"{name}": "..."}}\' in the environment'
    other = ", or in a file of its own that the setting `kafka_secrets_file` names" if table == "kafka" else ""
    return f"Take it out and change it; give it as {variable}{other}."


def read_secrets(path: Path) -> dict[str, str]:
    """Settings of librdkafka from a file of secrets.

    Args:
        path: TOML if its name ends so; else a line a setting, ``name=value``, with ``#`` before a comment line.

    Raises:
        ConfigError: it is missing, others can read it, or a line is no setting. No value is repeated.
    """
    try:
        if path.stat().st_mode & stat.S_IROTH:
            raise ConfigError(f"Everybody can read the secrets in {path}.", f"`chmod 600 {path}`.")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The secrets in {path} cannot be read ({type(error).__name__}).", "Check `kafka_secrets_file`."
        ) from None  # the error of a decoder holds the bytes
    return dict(_toml(path, text) if path.suffix == ".toml" else _lines(path, text))


def _toml(path: Path, text: str) -> Iterator[tuple[str, str]]:
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"\(at .*\)", str(error))
        raise ConfigError(
            f"{path} is not TOML {where.group() if where else ''}.", "A line is: 'sasl.password' = '...'."
        ) from None
    for name, value in _flat(values):
        if not isinstance(value, str):
            raise ConfigError(f"{name} in {path} is no text.", "Put it in quotes.")
        yield name, value


def _lines(path: Path, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"Line {number} of {path} is no setting.", "A line is: sasl.password=...")
        yield name.strip(), value.strip()


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """TOML reads the key ``sasl.password`` without quotes as a table in a table."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from _flat(value, f"{prefix}.{name}" if prefix else str(name))
    elif prefix:
        yield prefix, values
