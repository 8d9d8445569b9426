"""``hedgeflow lag``: how far the workers are behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, Format, settings_of

if TYPE_CHECKING:
    from pipeline.lag import GroupLag

EXIT_BEHIND = 8


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]hedgeflow lag --watch[/bold]; [bold]hedgeflow lag --max 10000[/bold] in a cron job"
    )(lag)


def lag(
    bootstrap: Bootstrap = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    every_s: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks of --watch.")] = 2.0,
    most: Annotated[
        int | None,
        typer.Option("--max", min=0, help="Exit with 8 if a group lags by more messages.", show_default=False),
    ] = None,
    output: Format = "table",
    config: Config = None,
) -> None:
    """Messages that lie before each worker: committed offset, end of the log, and what is between."""
    import time

    from pipeline.lag import read_lag

    settings = settings_of(config, bootstrap=bootstrap)
    while True:
        groups = read_lag(settings)
        _print(groups, output, clear=watch)
        behind = [group.stage for group in groups if most is not None and group.lag > most]
        if behind:
            typer.echo(f"more than {most} messages behind: {', '.join(behind)}", err=True)
            raise typer.Exit(EXIT_BEHIND)
        if not watch:
            return
        time.sleep(every_s)


def _print(groups: list[GroupLag], output: str, clear: bool) -> None:
    if output == "json":
        import msgspec

        records = [{"group": group.stage, "lag": group.lag, **_fields(group)} for group in groups]
        typer.echo(msgspec.json.encode({"total": sum(group.lag for group in groups), "groups": records}).decode())
        return
    from rich.console import Console

    console = Console()
    if clear:
        console.clear()
    if not groups:
        typer.echo("no consumer group of this application: no worker has run yet (or `application` is another one)")
        return
    console.print(_table(groups))


def _fields(group: GroupLag) -> dict[str, Any]:
    return {"state": group.state, "members": group.members, "partitions": group.partitions}


def _table(groups: list[GroupLag]) -> Any:
    from rich.table import Table

    total = sum(group.lag for group in groups)
    table = Table("group", "state", "members", "topic/partition", "committed", "end", "lag", show_footer=True)
    table.columns[0].footer, table.columns[-1].footer = "total", f"{total:,}"
    for column in table.columns[-3:]:
        column.justify = "right"
    for group in groups:
        members = "not told" if group.members is None else str(group.members)
        for number, each in enumerate(group.partitions):
            head = (group.stage, group.state, members) if number == 0 else ("", "", "")
            committed = "-" if each.committed is None else f"{each.committed:,}"
            table.add_row(*head, f"{each.topic}/{each.partition}", committed, f"{each.end:,}", f"{each.lag:,}")
        if not group.partitions:
            table.add_row(group.stage, group.state, members, "-", "-", "-", "0")
    return table
