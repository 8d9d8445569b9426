"""``hedgeflow backfill``: the same features from what was recorded."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.commands.increments import IncrementsOption, increments_of
from pipeline.commands.options import Config, Models, settings_of
from pipeline.commands.rejected import told

_NO_ROWS = "No bar closed: option quotes alone make none, and a bar closes with the first event beyond its end."
_NO_EVENTS = "Nothing was read: a lake needs its raw tables (book, trades ...), a recording rows that can be used."


class EngineName(StrEnum):
    """Who runs the tasks."""

    local = "local"
    ray = "ray"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        epilog="Examples: [bold]hedgeflow backfill --from hedgeflow-demo/lake --to again --compare[/bold]; "
        "[bold]hedgeflow backfill --from book.csv.gz --from trades.csv.gz --to lake[/bold]"
    )(backfill)


def backfill(
    source: Annotated[
        list[Path],
        typer.Option("--from", help="A lake, whose raw tables are read; or a recording as in replay. Repeatable."),
    ],
    target: Annotated[Path, typer.Option("--to", help="The lake for the computed tables: empty, or an earlier run's.")],
    start: Annotated[str | None, typer.Option(help="Write bars that end after this UTC time.")] = None,
    end: Annotated[str | None, typer.Option(help="Write bars up to this UTC time.")] = None,
    instruments: Annotated[
        list[str] | None, typer.Option("--instruments", help="Instrument or underlying. Repeatable.")
    ] = None,
    models: Models = None,
    compare: Annotated[bool, typer.Option(help="Count the rows that differ from the source's own tables.")] = False,
    portfolio: Annotated[
        Path | None,
        typer.Option(
            "--portfolio", help="Whose own activity a lake's decision log gives, as JSON.", show_default=False
        ),
    ] = None,
    engine: Annotated[EngineName, typer.Option(help="Processes of this machine, or a Ray cluster.")] = EngineName.local,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Tasks at once; as many as cores.", show_default=False)
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Of the Ray cluster; else RAY_ADDRESS, else this machine.", show_default=False)
    ] = None,
    step_events: Annotated[
        int, typer.Option(min=1, help="Rows read between commits: a killed run repeats no more.")
    ] = 5_000_000,
    restart: Annotated[bool, typer.Option(help="Remove what was backfilled into the lake, and begin anew.")] = False,
    increment: IncrementsOption = None,
    config: Config = None,
) -> None:
    """Run the stages over raw events, in the log's order; with --models up to the signals.

    The same command again goes on where a killed run was, takes what the source has got since, or does nothing. With
    --portfolio, the features of our own activity are computed from the lake's decision log, too. With --compare (of a
    lake), exits with 8 when a row differs in a single bit.
    """
    from pipeline.backfill_job import Job, require_folder
    from pipeline.backfill_run import parse_time, run_of
    from pipeline.backfill_task import Window
    from pipeline.lake import Lake

    settings = settings_of(config, models=models, portfolio=portfolio)
    _require_sense(source, instruments, compare, portfolio)
    origin = _origin(source, increments_of(increment))
    window = Window(parse_time(start), parse_time(end))
    lake = Lake(target)
    require_folder(lake)
    with _display() as display:
        job = Job(
            run_of(origin, window, instruments or ()),
            lake,
            settings,
            _engine(engine, workers, ray_address),
            with_signals=models is not None,
            with_own=portfolio is not None and bool(origin.lake),
            changes={"step_events": step_events},
            display=display,
        )
        result = job.start(restart=restart)
    _tell(result, target)
    if compare:
        _compare(Lake(origin.lake), lake, job, window)


def _require_sense(source: list[Path], instruments: list[str] | None, compare: bool, portfolio: Path | None) -> None:
    from features.errors import BadInputError, ConfigError

    if missing := [path for path in source if not path.exists()]:
        raise BadInputError(f"{missing[0]} does not exist.", "Check --from.")
    of_lake = len(source) == 1 and source[0].is_dir()
    if compare and not of_lake:
        raise ConfigError("Recordings have no tables to compare with.", "Leave out --compare, or name one lake.")
    if compare and instruments:
        raise ConfigError("--compare holds whole tables against each other.", "Leave out --instruments or --compare.")


def _origin(paths: list[Path], increments: dict[str, tuple[str, str]]) -> Any:
    from features.errors import BadInputError
    from pipeline.backfill_run import file_origin, lake_origin
    from pipeline.lake import LakeError, require_lake

    if len(paths) > 1 or not paths[0].is_dir():
        if folders := [path for path in paths if path.is_dir()]:
            raise BadInputError(f"{folders[0]} is a folder.", "Name files, or the folder of one lake and nothing else.")
        return file_origin(paths, increments)
    try:
        return lake_origin(require_lake(paths[0]))
    except LakeError as error:
        raise BadInputError(f"{paths[0]} is a folder, and no lake.", "Name its files, each with --from.") from error


def _engine(name: EngineName, workers: int | None, address: str | None) -> Any:
    import os

    if name is EngineName.ray:
        from pipeline.backfill_ray import RayCluster

        return RayCluster(address, workers)
    from pipeline.backfill_local import LocalProcesses

    return LocalProcesses(workers or os.cpu_count() or 1)


def _display() -> Any:
    from rich.console import Console

    from pipeline.backfill_progress import ProgressDisplay

    return ProgressDisplay(Console(stderr=True))


def _tell(result: Any, target: Path) -> None:
    for note in result.notes:
        typer.echo(note)
    if not result.tasks:
        typer.echo(f"Nothing to do: {target} has all that the source gives.")
        return
    rows = ", ".join(f"{count:,} {name}" for name, count in result.rows.items())
    typer.echo(f"{result.events:,} events -> {rows or 'no rows'}; rejected {told(result.rejects)}")
    if not result.rows:
        typer.echo(_NO_ROWS if result.events else _NO_EVENTS)


def _compare(origin: Any, lake: Any, job: Any, window: Any) -> None:
    from pipeline.compare import compare as compare_tables
    from pipeline.tables import TABLES

    names = [
        "features",
        "universe",
        *(["signals"] if job.with_signals else []),
        *(["own_activity"] if job.with_own else []),
    ]
    there = [name for name in names if lake.files(TABLES[name]) or origin.files(TABLES[name])]
    found = [compare_tables(origin, lake, name, window.end, window.start) for name in there]
    for each in found:
        typer.echo(f"{each.table}: {each.left:,} rows there, {each.right:,} here, differing {each.differing}")
    if any(each.differing for each in found):
        raise typer.Exit(8)
