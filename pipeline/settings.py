"""Settings of a running system: defaults, then a TOML file, then ``HEDGEFLOW_*`` from the environment."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from features.errors import ConfigError
from pipeline.lake_location import LakeLocation, Place
from pipeline.secrets import read_secrets, refuse_secrets

_COMMAND_LINE: ContextVar[Mapping[str, Any]] = ContextVar("_COMMAND_LINE", default={})  # noqa: B039 (never mutated)


def _located(place: Place, info: ValidationInfo) -> LakeLocation:
    return LakeLocation.of(place, info.data.get("lake_storage_options"))


class Settings(BaseSettings):
    """What a worker needs to know.

    Secrets belong into ``kafka`` and ``lake_storage_options`` through the environment, never into the log.
    """

    model_config = SettingsConfigDict(env_prefix="HEDGEFLOW_", extra="forbid", frozen=True, hide_input_in_errors=True)

    bootstrap: str = Field("127.0.0.1:9092", description="host:port of the Kafka broker")
    application: str = Field("hedgeflow", description="prefix of consumer groups and checkpoints")
    partitions: int = Field(2, ge=1, le=1024, description="partitions of the topics keyed by underlying")
    member: str = Field("", description="name of this worker in its group: started again, it takes its own place")
    # Before ``lake``, which takes them along.
    lake_storage_options: dict[str, str] = Field(
        {}, description="what opens the lake's object store, e.g. AWS_REGION", repr=False
    )
    lake: Annotated[InstanceOf[LakeLocation], NoDecode, BeforeValidator(_located), PlainSerializer(str)] = Field(
        LakeLocation("lake"), description="folder or URL (s3://bucket/prefix) of the Delta tables"
    )
    models: Path = Field(Path("models"), description="folder of the model artifacts")
    portfolio: Path = Field(Path("portfolio.json"), description="the portfolio that the decisions worker hedges")
    limits: Path | None = Field(None, description="risk limits as JSON; without it those of the demo's portfolio")
    reference: dict[str, str] = Field(
        {"BTC": "sim:BTC-PERP", "ETH": "sim:ETH-PERP"}, description="underlying -> instrument that stands for it"
    )
    features: tuple[Path, ...] = Field((), description="files of your own features, read in this order")
    forecast_inputs: tuple[str, ...] = Field((), description="further columns that the forecast's trees read")
    drop_crossing_levels: bool = Field(False, description="let a newer book level remove stale ones that it crosses")
    interval_ns: int = Field(1_000_000_000, description="length of a bar")
    active_from_bar_ts: int = Field(0, description="first bar (ns) at which decisions are made")
    processing_guarantee: Literal["at_least_once", "exactly_once"] = Field(
        "at_least_once", description="exactly_once: outputs, checkpoint and offsets in one Kafka transaction"
    )
    checkpoint_interval_ms: int = Field(5_000, ge=10, description="time between checkpoints of a worker's state")
    checkpoint_bytes: int = Field(256 << 20, ge=1, description="bytes of input after which a checkpoint does not wait")
    lake_commit_interval_ms: int = Field(2_000, ge=10, description="time between commits of the lake writer")
    lake_commit_rows: int = Field(200_000, ge=1, description="rows after which the lake writer commits at once")
    lake_waiting_bytes: int = Field(
        256 << 20, ge=1, description="bytes that wait for the lake at which its writer takes no more"
    )
    fetch_wait_max_ms: int = Field(50, ge=1, description="librdkafka fetch.wait.max.ms (docs/guarantees.md)")
    session_timeout_ms: int = Field(10_000, ge=1_000, description="after this silence a worker counts as dead")
    batch_messages: int = Field(500, ge=1, description="messages taken at once from a backlog")
    queue_messages: int = Field(50_000, ge=1, description="unacknowledged outputs at which a worker takes no more")
    broker_patience_ms: int = Field(120_000, ge=1_000, description="how long a worker waits for a broker that hangs")
    monitor_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    monitor_port: int = Field(0, ge=-1, le=65_535, description="its port; 0 takes a free one and logs it, -1 is off")
    kafka: dict[str, str] = Field({}, description="further librdkafka settings, e.g. SASL and SSL", repr=False)
    kafka_secrets_file: Path | None = Field(None, description="file of further ones that are secret, name=value a line")
    replication_factor: int = Field(1, ge=1, le=16, description="brokers that hold a copy of each topic's messages")

    @model_validator(mode="before")
    @classmethod
    def _with_secrets(cls, values: Any) -> Any:
        """What stands in ``kafka`` wins over the file of secrets."""
        path = values.get("kafka_secrets_file") if isinstance(values, dict) else None
        given = values.get("kafka", {}) if path else None
        return {**values, "kafka": read_secrets(Path(path)) | given} if path and isinstance(given, dict) else values

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The command line wins over the environment, the environment over the file."""
        given = InitSettingsSource(settings_cls, init_kwargs=dict(_COMMAND_LINE.get()))
        return given, env_settings, init_settings


def load_settings(config: Path | None = None, **overrides: Any) -> Settings:
    """Read the settings; ``overrides`` (the command line's options) win over everything, unless ``None``.

    Raises:
        ConfigError: the file is missing, is no TOML or holds a secret, or a key is unknown or out of range.
    """
    values: dict[str, Any] = {}
    if config is not None:
        try:
            values = tomllib.loads(config.read_text())
        except FileNotFoundError:
            raise ConfigError(f"There is no configuration file {config}.", "Check --config.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{config} is not TOML: {error}.", "See docs/configuration.md.") from error
        refuse_secrets(values, config)
    given = _COMMAND_LINE.set({name: value for name, value in overrides.items() if value is not None})
    try:
        return Settings(**values)
    except ValidationError as error:
        raise _explained(error, config) from error
    except SettingsError as error:
        # Its cause holds the variable's text, and that may be a secret.
        raise ConfigError(f"HEDGEFLOW_* is not as expected: {error}.", "Tables and lists are JSON there.") from None
    finally:
        _COMMAND_LINE.reset(given)


def _explained(error: ValidationError, config: Path | None) -> ConfigError:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    where = f" in {config}" if config else ""
    if first["type"] == "extra_forbidden":
        return ConfigError(f"Unknown setting {key!r}{where}.", f"Known are: {', '.join(Settings.model_fields)}.")
    return ConfigError(f"Setting {key!r}{where}: {first['msg']}.", "`hedgeflow doctor` prints the settings in force.")
