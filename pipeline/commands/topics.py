"""``hedgeflow topics``: create the topics, and look at them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, Format, Partitions, settings_of

app = typer.Typer(help="Create and describe the Kafka topics.", no_args_is_help=True)


@app.command(epilog="Example: [bold]hedgeflow topics create --bootstrap localhost:9092 --partitions 4[/bold]")
def create(
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    replication: Annotated[
        int | None,
        typer.Option("--replication-factor", help="Brokers that hold a copy of each message.", show_default=False),
    ] = None,
    config: Config = None,
) -> None:
    """Create the topics that are missing, with explicit settings."""
    from pipeline.kafka import create_topics

    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions, replication_factor=replication)
    created = create_topics(settings)
    typer.echo(f"created: {', '.join(created)}" if created else "all topics exist")


@app.command(epilog="Example: [bold]hedgeflow topics describe --bootstrap localhost:9092[/bold]")
def describe(
    bootstrap: Bootstrap = None,
    partitions: Partitions = None,
    output: Format = "table",
    config: Config = None,
) -> None:
    """What each topic holds and who reads it; settings that are not as configured are marked."""
    from pipeline.lag import read_lag
    from pipeline.topic_state import read_topics

    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions)
    states = read_topics(settings)
    readers: dict[str, list[str]] = {}
    for group in read_lag(settings):
        for topic in sorted({each.topic for each in group.partitions}):
            readers.setdefault(topic, []).append(group.stage)
    if output == "json":
        _as_json(states, readers)
    else:
        _as_table(states, readers, settings)


def _as_json(states: list[Any], readers: dict[str, list[str]]) -> None:
    import msgspec

    records = [
        {
            "topic": state.spec.name,
            "key": state.spec.key,
            "missing": state.missing,
            "messages": state.messages,
            "partitions": [{"partition": p, "begin": b, "end": e} for p, (b, e) in state.offsets.items()],
            "wanted": state.spec.settings(),
            "in_force": state.settings,
            "differences": state.differences,
            "groups": readers.get(state.spec.name, []),
        }
        for state in states
    ]
    typer.echo(msgspec.json.encode(records).decode())


def _as_table(states: list[Any], readers: dict[str, list[str]], settings: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("topic", "key", "partition: begin-end", "messages", "settings in force", "read by")
    for state in states:
        if state.missing:
            table.add_row(state.spec.name, state.spec.key, "[yellow]missing[/]", "", "", "")
            continue
        offsets = "\n".join(f"{p}: {begin}-{end}" for p, (begin, end) in state.offsets.items())
        marks = [f"[yellow]{each.name} {each.found}, wanted {each.wanted}[/]" for each in state.differences]
        differ = {each.name for each in state.differences}
        as_wanted = [f"{name}={value}" for name, value in state.settings.items() if name not in differ]
        in_force = "\n".join([*as_wanted, *marks])
        groups = "\n".join(readers.get(state.spec.name, []))
        table.add_row(state.spec.name, state.spec.key, offsets, f"{state.messages:,}", in_force, groups)
    Console().print(table)
    if any(state.missing for state in states):
        typer.echo(f"missing topics: `hedgeflow topics create --bootstrap {settings.bootstrap}`")
    if any(state.differences for state in states):
        typer.echo("marked settings are not as configured: your broker's own tools change them")
