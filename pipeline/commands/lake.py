"""``hedgeflow lake``: describe, compact, vacuum and verify the Delta tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, LakePath, settings_of

app = typer.Typer(help="Look after the lake's tables.", no_args_is_help=True)


class Format(StrEnum):
    """How the answer is printed."""

    TABLE = "table"
    JSON = "json"


Tables = Annotated[list[str] | None, typer.Option("--table", help="Only this table. Repeatable.", show_default=False)]
Output = Annotated[Format, typer.Option("--format", help="A table for people, JSON for machines.")]
TargetMb = Annotated[int, typer.Option("--target-mb", min=1, help="Size of a compacted file in MiB.")]


@app.command(epilog="Example: [bold]hedgeflow lake describe --lake hedgeflow-demo/lake[/bold]")
def describe(
    lake: LakePath = None,
    table: Tables = None,
    target_mb: TargetMb = 64,
    output: Output = Format.TABLE,
    config: Config = None,
) -> None:
    """Per table: rows, files, dates, offsets in the log, and what a compaction would do."""
    from pipeline.lake_describe import describe as described
    from pipeline.lake_files import MEBI

    found, tables = _opened(config, lake, table)
    states = described(found, tables, target_mb * MEBI)
    columns = ("table", "rows", "files", "small", "MiB", "dates", "version", "committed (UTC)", "next offsets", "log")
    rows = [
        (
            state.table,
            f"{state.rows:,}",
            str(state.files),
            str(state.small_files),
            f"{state.bytes / MEBI:.1f}",
            " .. ".join(state.dates),
            str(state.version),
            state.committed.removesuffix("+00:00"),
            ", ".join(f"{name}: {offset}" for name, offset in state.offsets.items()),
            f"{state.log_files} files, {state.commits_since_checkpoint} since checkpoint",
        )
        for state in states
    ]
    _print(output, states, columns, rows)
    if output is Format.TABLE:
        files, commits = (sum(state.compaction[place] for state in states) for place in (0, 1))
        typer.echo(f"`hedgeflow lake compact` would merge {files} files in {commits} commits.")


@app.command(epilog="Example: [bold]hedgeflow lake compact --lake hedgeflow-demo/lake[/bold]")
def compact(
    lake: LakePath = None,
    table: Tables = None,
    target_mb: TargetMb = 64,
    output: Output = Format.TABLE,
    config: Config = None,
) -> None:
    """Merge the small files of each date into large sorted ones; safe beside a running lake worker."""
    from pipeline.lake_compact import compact as compacted
    from pipeline.lake_files import MEBI

    found, tables = _opened(config, lake, table)
    done = [each for each in (compacted(found, one, target_mb * MEBI) for one in tables.values()) if each.commits]
    columns = ("table", "rows", "commits", "files", "MiB")
    rows = [
        (
            each.table,
            f"{each.rows:,}",
            str(each.commits),
            f"{each.files_before} -> {each.files_after}",
            f"{each.bytes_before / MEBI:.1f} -> {each.bytes_after / MEBI:.1f}",
        )
        for each in done
    ]
    _print(output, done, columns, rows)
    if output is Format.TABLE and not done:
        typer.echo("Nothing to merge.")


@app.command(epilog="Example: [bold]hedgeflow lake vacuum --lake hedgeflow-demo/lake --delete[/bold]")
def vacuum(
    lake: LakePath = None,
    table: Tables = None,
    retention_hours: Annotated[int, typer.Option(min=0, help="How long a reader may hold a snapshot.")] = 168,
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the files; without it they are only listed.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Allow less than 24 hours: nothing may use the lake.")] = False,
    output: Output = Format.TABLE,
    config: Config = None,
) -> None:
    """List the files that no snapshot of the last days needs, and delete them if told so."""
    from pipeline.lake_vacuum import vacuum as vacuumed

    found, tables = _opened(config, lake, table)
    files = {name: vacuumed(found, each, retention_hours, delete=delete, force=force) for name, each in tables.items()}
    if output is Format.JSON:
        _json({"deleted": delete, "files": {name: paths for name, paths in files.items() if paths}})
        return
    for name, paths in files.items():
        for path in paths:
            typer.echo(f"{name}/{path}")
    count = sum(map(len, files.values()))
    typer.echo(f"{count} files deleted." if delete else f"{count} files would go; --delete removes them.")


@app.command(epilog="Example: [bold]hedgeflow lake verify --lake hedgeflow-demo/lake[/bold]")
def verify(
    lake: LakePath = None,
    table: Tables = None,
    bootstrap: Bootstrap = None,
    full: Annotated[bool, typer.Option("--full", help="Decode every page of every file, too.")] = False,
    output: Output = Format.TABLE,
    config: Config = None,
) -> None:
    """Check files, dates, keys and offsets, with --bootstrap also against the topics; exits with 8 if one is wrong."""
    from pipeline.lake_verify import verify as verified

    found, tables = _opened(config, lake, table)
    held = None
    if bootstrap is not None:
        from pipeline.lake_verify_topics import held_offsets

        held = held_offsets(settings_of(config, bootstrap=bootstrap), tables)
    findings = verified(found, tables, held, full=full)
    rows = [(finding.table, finding.check, finding.detail) for finding in findings]
    _print(output, findings, ("table", "check", "found"), rows)
    if findings:
        raise typer.Exit(8)
    if output is Format.TABLE:
        typer.echo(f"Nothing is wrong with {len(tables)} tables.")


def _opened(config: Any, lake: str | None, names: Iterable[str] | None) -> tuple[Any, Mapping[str, Any]]:
    """The lake, and its tables with these names, or all."""
    from features.errors import ConfigError
    from pipeline.lake import require_lake
    from pipeline.tables import tables_of
    from pipeline.user_features import catalogue_of

    settings = settings_of(config, lake=lake)
    tables = tables_of(catalogue_of(settings))
    unknown = sorted(set(names or ()) - set(tables))
    if unknown:
        raise ConfigError(f"There is no table {unknown[0]!r}.", f"Known are: {', '.join(tables)}.")
    return require_lake(settings.lake), {name: tables[name] for name in tables if not names or name in names}


def _print(output: Format, values: Any, columns: Iterable[str], rows: Sequence[tuple[str, ...]]) -> None:
    if output is Format.JSON:
        _json(values)
    elif rows:
        from rich.console import Console
        from rich.table import Table

        table = Table(*columns)
        for row in rows:
            table.add_row(*row)
        Console().print(table)


def _json(value: Any) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())
