"""``hedgeflow topics``: create and describe the topics."""

from __future__ import annotations

import typer

from pipeline.commands.options import Bootstrap, Config, Partitions, settings_of

app = typer.Typer(help="Create and describe the Kafka topics.", no_args_is_help=True)


@app.command(epilog="Example: [bold]hedgeflow topics create --bootstrap localhost:9092 --partitions 4[/bold]")
def create(bootstrap: Bootstrap = None, partitions: Partitions = None, config: Config = None) -> None:
    """Create the topics that are missing, with explicit settings."""
    from pipeline.kafka import create_topics

    settings = settings_of(config, bootstrap=bootstrap, partitions=partitions)
    created = create_topics(settings)
    typer.echo(f"created: {', '.join(created)}" if created else "all topics exist")


@app.command(epilog="Example: [bold]hedgeflow topics describe[/bold]")
def describe(config: Config = None, partitions: Partitions = None) -> None:
    """What each topic holds, its key and its settings."""
    from rich.console import Console
    from rich.table import Table

    from pipeline.kafka import partitions_of
    from pipeline.topics import TOPICS

    settings = settings_of(config, partitions=partitions)
    table = Table("topic", "key", "partitions", "settings")
    for spec in TOPICS.values():
        chosen = ", ".join(f"{name}={value}" for name, value in spec.settings().items())
        table.add_row(spec.name, spec.key, str(partitions_of(spec, settings)), chosen)
    Console().print(table)
