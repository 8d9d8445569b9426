"""Secrets come from the environment or a file of their own, and no error repeats them."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from features.errors import ConfigError
from pipeline.kafka import make_admin
from pipeline.secrets import is_secret, read_secrets
from pipeline.settings import Settings, load_settings

MARKER = "hunter2-MARKER"


@pytest.mark.parametrize(
    "name",
    [
        "sasl.password",
        "ssl.key.password",
        "ssl.keystore.password",
        "ssl.key.pem",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.config",
        "AWS_SECRET_ACCESS_KEY",
        "aws_session_token",
        "azure_storage_account_key",
        "google_service_account_key",
    ],
)
def test_what_is_a_secret(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    [
        "sasl.username",
        "sasl.mechanism",
        "ssl.ca.location",
        "ssl.key.location",
        "sasl.oauthbearer.token.endpoint.url",
        "AWS_REGION",
        "client.id",
    ],
)
def test_what_is_none(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "text",
    [
        f'[kafka]\n"sasl.password" = "{MARKER}"\n',
        f'[kafka]\nsasl.password = "{MARKER}"\n',
        f'kafka = {{ "ssl.key.pem" = "{MARKER}" }}\n',
        f'[lake_storage_options]\nAWS_SECRET_ACCESS_KEY = "{MARKER}"\n',
    ],
)
def test_a_secret_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hedgeflow.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"holds the secret .* HEDGEFLOW_(KAFKA|LAKE_STORAGE_OPTIONS)=") as caught:
        load_settings(path)
    assert MARKER not in told(caught.value)


def told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("secrets", f"# the broker's\nsasl.password={MARKER}=0x1F\n\nssl.key.password = other\n"),
        ("secrets.toml", f"'sasl.password' = '{MARKER}=0x1F'\nssl.key.password = 'other'\n"),
    ],
)
def test_a_file_of_secrets_joins_what_is_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    path, config = tmp_path / name, tmp_path / "hedgeflow.toml"
    path.write_text(text)
    path.chmod(0o600)
    config.write_text(f'kafka_secrets_file = "{path}"\n[kafka]\n"sasl.username" = "me"\n')
    settings = load_settings(config)
    assert settings.kafka == {
        "sasl.username": "me",
        "sasl.password": f"{MARKER}=0x1F",
        "ssl.key.password": "other",
    }
    assert MARKER not in repr(settings)
    monkeypatch.setenv("HEDGEFLOW_KAFKA", '{"sasl.password": "newer"}')
    assert load_settings(config).kafka["sasl.password"] == "newer"


@pytest.mark.parametrize(
    ("name", "text", "mode", "message"),
    [
        ("secrets", f"sasl.password={MARKER}", 0o644, "Everybody can read"),
        ("secrets", f"sasl.password={MARKER}\n{MARKER}", 0o600, "Line 2 .* is no setting"),
        ("secrets.toml", f"sasl.password = {MARKER}", 0o600, "is not TOML"),
        ("secrets.toml", "'sasl.password' = 5", 0o600, "is no text"),
        ("secrets", f"sasl.password={MARKER}\udcff", 0o600, "cannot be read"),
        ("missing", "", 0, "cannot be read"),
    ],
)
def test_a_bad_file_of_secrets_is_explained_without_them(
    tmp_path: Path, name: str, text: str, mode: int, message: str
) -> None:
    path = tmp_path / name
    if mode:
        path.write_bytes(text.encode(errors="surrogateescape"))
        path.chmod(mode)
    with pytest.raises(ConfigError, match=message) as caught:
        read_secrets(path)
    assert MARKER not in told(caught.value)


@pytest.mark.parametrize(
    "value", [f'{{"sasl.password": "{MARKER}', f'{{"sasl.password": ["{MARKER}"]}}', f'["{MARKER}"]']
)
def test_a_broken_environment_is_explained_without_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("HEDGEFLOW_KAFKA", value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert MARKER not in told(caught.value)


def test_what_librdkafka_refuses_is_named_without_values() -> None:
    for kafka in ({"sasl.pasword": MARKER}, {"security.protocol": "ssl", "ssl.key.pem": MARKER}):
        with pytest.raises(ConfigError, match="librdkafka refuses the setting `kafka`") as caught:
            make_admin(Settings(kafka=kafka))
        assert MARKER not in told(caught.value)
