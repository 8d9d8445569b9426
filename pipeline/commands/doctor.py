"""``hedgeflow doctor``: is everything there, and what to do if not."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.commands.doctor_broker import broker_findings
from pipeline.commands.options import Bootstrap, Config, LakePath, settings_of
from pipeline.commands.verdict import FAIL, FINE, WARN, Finding


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: [bold]hedgeflow doctor --bootstrap localhost:9092[/bold]")(doctor)


def doctor(
    bootstrap: Bootstrap = None,
    lake: LakePath = None,
    config: Config = None,
    gpu: Annotated[bool, typer.Option(help="Also load torch and look for a GPU (takes a few seconds).")] = True,
) -> None:
    """Check Python, libraries, GPU, broker, lake and clock; exits with 8 when something must be done."""
    from rich.console import Console
    from rich.table import Table

    settings = settings_of(config, bootstrap=bootstrap, lake=lake)
    findings = [_python(), _libraries(), *broker_findings(settings), _lake(settings), _monitor(settings), _clock()]
    if gpu:
        findings.insert(2, _gpu())
    table = Table("check", "", "found", "what to do", title="hedgeflow doctor")
    for name, verdict, found, remedy in findings:
        table.add_row(name, verdict, found, remedy)
    console = Console()
    console.print(table)
    console.print("[bold]settings in force[/]")
    console.print(_settings(settings), highlight=False)
    if any(verdict == FAIL for _, verdict, _, _ in findings):
        raise typer.Exit(8)


def _settings(settings: Any) -> str:
    hidden = ("kafka", "lake_storage_options")
    shown = settings.model_dump(mode="json", exclude=set(hidden))
    shown |= {name: sorted(getattr(settings, name)) for name in hidden}  # names only: the values may be secrets
    return "\n".join(f"{name} = {value}" for name, value in shown.items())


def _python() -> Finding:
    import platform
    import sys

    fine = sys.version_info >= (3, 11)
    return "python", FINE if fine else FAIL, platform.python_version(), "" if fine else "Install Python 3.11 or newer."


def _libraries() -> Finding:
    from importlib.metadata import PackageNotFoundError, requires, version

    missing, found = [], []
    for requirement in requires("hedgeflow") or ():
        name = requirement.split(";")[0].split(">")[0].split("=")[0].split("[")[0].strip()
        if "extra ==" in requirement:
            continue
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return "libraries", FAIL, f"missing: {', '.join(missing)}", "`make install`"
    return "libraries", FINE, ", ".join(found), ""


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return "gpu", FINE, f"{torch.cuda.get_device_name(0)}, torch {torch.__version__}", ""
    return (
        "gpu",
        WARN,
        f"none, torch {torch.__version__}",
        "Training runs on the CPU; `hedge train --device cuda` needs one.",
    )


def _lake(settings: Any) -> Finding:
    from pipeline.lake import LakeError, require_lake

    try:
        require_lake(settings.lake)
    except LakeError as error:
        return "lake", WARN, error.problem, error.remedy
    return "lake", FINE, str(settings.lake), ""


def _monitor(settings: Any) -> Finding:
    """Whether a worker could listen where it should: one that runs already is no mistake."""
    import socket

    host, port = settings.monitor_host, settings.monitor_port
    if port < 0:
        return "monitor", WARN, "off", "Set `monitor_port`: without it nobody sees whether a worker lives."
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        found = f"{host}:{port}: {error.strerror or error}"
        return "monitor", WARN, found, "A worker that runs has it; another one needs its own `monitor_port`, or 0."
    if host not in ("127.0.0.1", "::1", "localhost"):
        return "monitor", WARN, f"{host}:{port}, seen from outside", "It has no password: keep it behind a firewall."
    return "monitor", FINE, f"{host}:{port or 'any free port'}", ""


def _clock() -> Finding:
    import time

    resolution = time.get_clock_info("time").resolution
    year = time.gmtime().tm_year
    fine = resolution <= 1e-6 and 2024 <= year < 2100
    found = f"UTC {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())}, resolution {resolution:g} s"
    return "clock", FINE if fine else FAIL, found, "" if fine else "Set the clock (NTP); receive times come from it."
