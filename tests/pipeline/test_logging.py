"""The log: one JSON object a line, with what an operator greps for, and without secrets wherever they come from."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from pipeline.log_redaction import MASK, Redacted, secret_values
from pipeline.logging import configure_logging
from pipeline.settings import Settings

PASSWORD, KEY = 'hunter2 "quoted" ß', "AKIA/abc+def=="
SETTINGS = Settings(
    member="desk-1",
    kafka={
        "sasl.username": "hedgeflow",
        "sasl.password": PASSWORD,
        "security.protocol": "SASL_SSL",
        "ssl.key.pem": "PEM",
    },
    lake_storage_options={"AWS_SECRET_ACCESS_KEY": KEY, "AWS_REGION": "eu-west-1"},
)


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_every_line_says_who_speaks_in_every_thread(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(SETTINGS, stage="features-universe")
    structlog.get_logger().info("started", sources=["md.events"])
    thread = threading.Thread(target=lambda: structlog.get_logger().bind(stage="lake").warning("commit failed"))
    thread.start()
    thread.join()
    first, second = lines(capsys)
    assert (first["event"], first["stage"], first["member"], first["level"]) == (
        "started",
        "features-universe",
        "desk-1",
        "info",
    )
    assert first["pid"] > 0
    assert first["timestamp"].endswith("Z")
    assert (second["stage"], second["member"]) == ("lake", "desk-1")  # what a line says itself, it knows better


def test_without_settings_it_is_set_up_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging()
    structlog.get_logger().info("hello")
    structlog.get_logger().debug("not shown")
    (line,) = lines(capsys)
    assert set(line) == {"event", "level", "timestamp", "pid"}


def test_secrets_are_masked_wherever_they_stand(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(SETTINGS)
    log = structlog.get_logger()
    log.warning(f"refused {PASSWORD}", detail=f"user hedgeflow, {PASSWORD!r}", options=[{"x": KEY}, (KEY,)])
    log.info("settings", kafka=SETTINGS.kafka, lake_storage_options=SETTINGS.lake_storage_options)
    log.info("connecting", url="https://me:s3cret@proxy:8080/", **{KEY: 1})
    try:
        raise ValueError(f"cannot open with {KEY}")
    except ValueError:
        log.exception("failed", connection=SETTINGS.kafka.get)
    text = capsys.readouterr().err
    assert len(text.splitlines()) == 4
    for secret in ("hunter2", "quoted", KEY, "s3cret", "PEM"):
        assert secret not in text
    refused, settings, connecting, failed = (json.loads(line) for line in text.splitlines())
    assert refused["event"] == f"refused {MASK}"
    assert refused["options"] == [{"x": MASK}, [MASK]]
    assert settings["kafka"]["sasl.username"] == "hedgeflow"  # a name is no secret
    assert settings["lake_storage_options"] == {"AWS_SECRET_ACCESS_KEY": MASK, "AWS_REGION": "eu-west-1"}
    assert connecting["url"] == f"https://me:{MASK}@proxy:8080/"
    assert f"ValueError: cannot open with {MASK}" in failed["exception"]


def test_fields_named_like_secrets_are_masked_whatever_they_hold() -> None:
    render = Redacted(lambda _logger, _method, event: json.dumps(event))
    line = render(
        None, "info", {"api_token": 7, "client_secret": None, "key": "BTC", "keys": 2, "nested": {"passwd": "x"}}
    )
    assert json.loads(str(line)) == {
        "api_token": MASK,
        "client_secret": None,
        "key": "BTC",
        "keys": 2,
        "nested": {"passwd": MASK},
    }


def test_what_is_secret_is_known_by_its_name() -> None:
    options = {
        "sasl.password": "a1",
        "ssl.key.password": "a2",
        "ssl.key.pem": "a3",
        "sasl.oauthbearer.client.secret": "a4",
        "AWS_SESSION_TOKEN": "a5",
        "azure_storage_account_key": "a6",
        "AZURE_STORAGE_SAS_TOKEN": "a7",
        "google_service_account_key": "a8",
        "aws_access_key_id": "a9",
        "sasl.mechanism": "PLAIN",
        "security.protocol": "SASL_SSL",
        "ssl.ca.location": "/etc/ca.crt",
        "aws_region": "eu-west-1",
        "ssl.key.location": "/etc/key",
        "empty.password": "",
    }
    assert secret_values(options) == {f"a{number}" for number in range(1, 10)}


def test_a_secret_inside_another_leaves_nothing_of_either() -> None:
    render = Redacted(lambda _logger, _method, event: str(event["event"]), {"pass", "password"})
    assert render(None, "info", {"event": "the password pass"}) == f"the {MASK} {MASK}"
