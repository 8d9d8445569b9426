"""The deployment: every name in docker-compose.yml and deploy/ exists in the code, and what runs is locked down."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.settings import Settings
from pipeline.topics import TOPICS
from pipeline.worker_specs import STAGE_NAMES

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()

Services = dict[str, dict[str, Any]]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions and their arguments, comments and line continuations taken out."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [(name, rest) for name, rest in (line.split(maxsplit=1) for line in text.splitlines() if line.strip())]


# -- names -------------------------------------------------------------------------------------------------------------


def _commands(service: dict[str, Any]) -> Iterator[list[str]]:
    """What a service runs: its command and its health check, as words."""
    for command in (service.get("command"), service.get("healthcheck", {}).get("test")):
        if command:
            yield command.split() if isinstance(command, str) else [word for part in command for word in part.split()]


def unknown_names(services: Services) -> list[str]:
    """Every command, stage, topic, setting and volume that the code or the file does not have."""
    found = []
    for name, service in services.items():
        for words in _commands(service):
            if words[0] == "hedgeflow" and CliRunner().invoke(app, [*words[1:], "--help"]).exit_code:
                found.append(f"{name}: command {' '.join(words)}")
            stages = words[3:] if words[:3] == ["hedgeflow", "stream", "run"] else []
            found += [f"{name}: stage {stage}" for stage in stages if stage not in STAGE_NAMES]
            topics = [after for before, after in pairwise(words) if before in ("--topic", "--topics")]
            found += [f"{name}: topic {topic}" for topic in topics if topic not in TOPICS]
        for variable in service.get("environment", {}):
            if variable.startswith("HEDGEFLOW_") and variable[10:].lower() not in Settings.model_fields:
                found.append(f"{name}: setting {variable}")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./") and not (ROOT / source).is_dir():
                found.append(f"{name}: folder {source}")
            if re.fullmatch(r"\w+", source) and source not in COMPOSE["volumes"]:
                found.append(f"{name}: volume {source}")
    return found


def test_every_name_exists() -> None:
    assert unknown_names(COMPOSE["services"]) == []


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (lambda s: s["topics"].update(command="hedgeflow topics crate"), "topics: command hedgeflow topics crate"),
        (lambda s: s["topics"]["command"].append("--partition"), "topics: command hedgeflow topics create --partition"),
        (lambda s: s["lake"].update(command=["hedgeflow", "stream", "run", "lakes"]), "lake: stage lakes"),
        (lambda s: s["kafka"].update(command="kafka-topics.sh --topic md.event"), "kafka: topic md.event"),
        (lambda s: s["lake"]["environment"].update(HEDGEFLOW_LAKES="/lake"), "lake: setting HEDGEFLOW_LAKES"),
        (lambda s: s["lake"].update(volumes=["lakes:/lake"]), "lake: volume lakes"),
        (lambda s: s["lake"].update(volumes=["./deploy/lakes:/lake"]), "lake: folder ./deploy/lakes"),
    ],
)
def test_a_name_that_does_not_exist_is_found(spoil: Callable[[Services], None], problem: str) -> None:
    services: Services = copy.deepcopy(COMPOSE["services"])
    spoil(services)
    assert problem in unknown_names(services)


def test_the_settings_are_accepted_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [each for each in os.environ if each.startswith("HEDGEFLOW_")]:
        monkeypatch.delenv(name)
    for name, value in COMPOSE["services"]["features"]["environment"].items():
        if value is not None:
            monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value)))
    settings = Settings()
    assert (settings.bootstrap, str(settings.lake), settings.models) == ("kafka:9092", "/lake", Path("/models"))
    assert settings.partitions == Settings.model_fields["partitions"].default


def test_every_stage_has_its_worker_and_the_topics_come_first() -> None:
    services = COMPOSE["services"]
    for stage in STAGE_NAMES:
        assert services[stage]["command"] == ["hedgeflow", "stream", "run", stage]
        assert services[stage]["depends_on"]["topics"]["condition"] == "service_completed_successfully"
        assert services[stage]["healthcheck"]["test"] == ["CMD", "python", "/opt/hedgeflow/healthcheck.py"]
        assert services[stage]["build"]["dockerfile"] == "deploy/Dockerfile"
    assert services["topics"]["command"] == ["hedgeflow", "topics", "create"]
    assert services["topics"]["depends_on"]["kafka"]["condition"] == "service_healthy"


# -- locked down -------------------------------------------------------------------------------------------------------


def pinned(image: str) -> bool:
    """A tag that names a whole version."""
    return re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*(@sha256:[0-9a-f]{64})?", image) is not None


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_pinned_limited_and_watched(name: str) -> None:
    service = COMPOSE["services"][name]
    assert pinned(service["image"])
    limits = service["deploy"]["resources"]["limits"]
    assert 0 < float(limits["cpus"]) <= 2
    assert re.fullmatch(r"\d+[MG]", limits["memory"])
    if service["restart"] == "unless-stopped":
        assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    else:
        assert service["restart"] == "no"
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    if name != "kafka":
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "user" not in service  # the image's own


def test_images_that_move_are_not_pinned() -> None:
    for image in ("apache/kafka", "apache/kafka:latest", "python:3.11", "python:3.11-slim", "python:slim"):
        assert not pinned(image)


def test_what_must_survive_has_a_volume() -> None:
    services = COMPOSE["services"]
    assert "lake:/lake" in services["lake"]["volumes"]
    assert f"kafka:{services['kafka']['environment']['KAFKA_LOG_DIRS']}" in services["kafka"]["volumes"]
    for stage in ("signals", "decisions"):
        assert "models:/models:ro" in services[stage]["volumes"]


def test_kafka_is_one_kraft_node_that_hosts_reach_on_loopback() -> None:
    kafka = COMPOSE["services"]["kafka"]
    environment = kafka["environment"]
    assert kafka["image"].startswith("apache/kafka:")
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    listeners = dict(each.split("://") for each in environment["KAFKA_LISTENERS"].split(","))
    advertised = dict(each.split("://") for each in environment["KAFKA_ADVERTISED_LISTENERS"].split(","))
    protocols = dict(each.split(":") for each in environment["KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"].split(","))
    assert set(protocols) == set(listeners) == {*advertised, environment["KAFKA_CONTROLLER_LISTENER_NAMES"]}
    inside = COMPOSE["services"]["features"]["environment"]["HEDGEFLOW_BOOTSTRAP"]
    assert advertised[environment["KAFKA_INTER_BROKER_LISTENER_NAME"]] == inside
    assert kafka["ports"] == [f"127.0.0.1:{port}:{port}" for port in [advertised["HOST"].split(":")[1]]]


# -- the image ---------------------------------------------------------------------------------------------------------


def test_the_image_is_multi_stage_pinned_and_not_root() -> None:
    bases = [rest.split()[0] for name, rest in instructions() if name == "FROM"]
    assert len(bases) >= 2
    assert all(pinned(base) for base in bases)
    assert all(base.startswith("python:3.11.") for base in bases)
    users = [rest for name, rest in instructions() if name == "USER"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", users[-1])
    last = [name for name, _ in instructions()]
    assert last.index("USER") > len(last) - 1 - last[::-1].index("COPY")


def test_the_image_installs_what_the_constraints_name_without_the_developers_tools() -> None:
    installs = [line for line in DOCKERFILE.splitlines() if "pip install" in line]
    assert any("-c constraints.txt" in line for line in installs)
    assert all("[" not in line.split("pip install")[1] for line in installs)
    assert "ARG TORCH_INDEX=" in DOCKERFILE
    assert "TORCH_INDEX" in COMPOSE["services"]["features"]["build"]["args"]


def test_everything_that_the_image_copies_is_there_and_reaches_the_builder() -> None:
    allowed = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for name, rest in instructions()
        if name == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in allowed
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert {package.split(".")[0] for package in packages} <= set(copied)
    assert not any(fnmatch(".venv", line.removeprefix("!")) for line in allowed if line.startswith("!"))


def test_the_health_check_of_the_image_is_the_one_that_compose_calls() -> None:
    target = COMPOSE["services"]["features"]["healthcheck"]["test"][2]
    assert ("COPY", f"deploy/healthcheck.py {target}") in instructions()


# -- monitoring --------------------------------------------------------------------------------------------------------


def test_every_worker_answers_inside_the_network_only() -> None:
    for stage in STAGE_NAMES:
        service = COMPOSE["services"][stage]
        assert service["environment"]["HEDGEFLOW_MONITOR_HOST"] == "0.0.0.0"
        assert service["environment"]["HEDGEFLOW_MONITOR_PORT"] == 9464
        assert "ports" not in service


def test_monitoring_is_asked_for_and_changes_nothing_that_it_reads() -> None:
    for name in ("prometheus", "grafana"):
        service = COMPOSE["services"][name]
        assert service["profiles"] == ["monitoring"]
        assert service["ports"]
        for volume in service["volumes"]:
            assert volume.endswith(":ro") or volume.split(":")[0] in COMPOSE["volumes"]


def test_the_password_of_grafana_comes_from_the_environment_and_has_no_default() -> None:
    grafana = COMPOSE["services"]["grafana"]
    assert grafana["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "${GRAFANA_PASSWORD:-}"
    (script,) = grafana["command"]
    script = script.replace("$$", "$").replace("exec /run.sh", "echo started")
    for password, started in (("", False), ("a secret", True)):
        result = subprocess.run(
            [*grafana["entrypoint"], script],
            env={"PATH": os.environ["PATH"], "GF_SECURITY_ADMIN_PASSWORD": password},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (result.returncode == 0, "started" in result.stdout) == (started, started)
        assert ("GRAFANA_PASSWORD" in result.stderr) is not started


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n" in text
    assert "Copyright 2026 hedgeflow maintainers" in text
    assert len(text.splitlines()) > 190
