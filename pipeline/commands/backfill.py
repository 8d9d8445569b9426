"""``hedgeflow backfill``: the same features from what was recorded."""

from __future__ import annotations

import json
import os
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
        list[str],
        typer.Option(
            "--from",
            help="A lake (folder or URL), whose raw tables are read, or one of them (LAKE/book); or a recording as in "
            "replay. Repeatable.",
        ),
    ],
    target: Annotated[
        str, typer.Option("--to", help="The lake (folder or URL) for the computed tables: empty, or an earlier run's.")
    ],
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
    states: Annotated[
        Path | None,
        typer.Option(
            help="Folder, on a disk that all workers share, for what a killed run goes on with. Without it: in the "
            "lake, or for a URL in the user's state folder.",
            show_default=False,
        ),
    ] = None,
    increment: IncrementsOption = None,
    config: Config = None,
) -> None:
    """Run the stages over raw events, in the log's order; with --models up to the signals.

    The same command again goes on where a killed run was, takes what the source has got since, or does nothing. With
    --portfolio, the features of our own activity are computed from the lake's decision log, too. With --compare (of a
    lake), exits with 8 when a row differs in a single bit.
    """
    from pipeline.backfill_job import Job
    from pipeline.backfill_run import parse_time, run_of
    from pipeline.backfill_task import Window
    from pipeline.lake import Lake

    settings = settings_of(config, models=models, portfolio=portfolio)
    options = settings.lake_storage_options
    if options:
        # Workers are processes of their own, and a task says no secrets: they read it where every worker does.
        os.environ["HEDGEFLOW_LAKE_STORAGE_OPTIONS"] = json.dumps(options)
    origin = _origin(source, increments_of(increment), options)
    _require_comparable(origin, instruments, compare)
    window = Window(parse_time(start), parse_time(end))
    lake = Lake(target, options)
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
            states=states,
        )
        result = job.start(restart=restart)
    _tell(result, target)
    if compare:
        _compare(origin.opened(settings), lake, job, window)


def _require_comparable(origin: Any, instruments: list[str] | None, compare: bool) -> None:
    from features.errors import ConfigError

    if compare and (not origin.lake or origin.tables):
        raise ConfigError("This source has no tables to compare with.", "Leave out --compare, or name one lake.")
    if compare and instruments:
        raise ConfigError("--compare holds whole tables against each other.", "Leave out --instruments or --compare.")


def _origin(places: list[str], increments: dict[str, tuple[str, str]], options: dict[str, str]) -> Any:
    from features.errors import BadInputError
    from pipeline.backfill_run import file_origin, lake_origin
    from pipeline.lake import require_lake

    folders = [place for place in places if "://" in place or Path(place).is_dir()]
    if not folders:
        paths = [Path(place) for place in places]
        if missing := [path for path in paths if not path.exists()]:
            raise BadInputError(f"{missing[0]} does not exist.", "Check --from.")
        return file_origin(paths, increments)
    lakes, tables = _lakes_of(folders, options)
    if len(lakes) > 1 or len(folders) < len(places) or (tables and len(tables) < len(folders)):
        raise BadInputError(
            f"{folders[0]} is no recording.", "Name files, or one lake, or tables of one lake, and nothing else."
        )
    return lake_origin(require_lake(lakes[0], options), tables)


def _lakes_of(places: list[str], options: dict[str, str]) -> tuple[list[str], list[str]]:
    """The lakes that are named, and the tables of theirs that are."""
    from features.errors import BadInputError
    from pipeline.lake import LakeError, LakeUnavailableError, require_lake
    from pipeline.raw_files import RAW_TABLES

    raw = {table.name for table in RAW_TABLES}
    lakes, tables = set(), []
    for place in places:
        above, _, name = place.rstrip("/").rpartition("/")
        of_table = name in raw and _is_table(place, options)
        lakes.add((above or ".") if of_table else place)
        tables += [name] if of_table else []
    for lake in lakes:
        try:
            require_lake(lake, options)
        except LakeUnavailableError:
            raise
        except LakeError as error:
            raise BadInputError(
                f"{lake} is a folder, and no lake." if "://" not in lake else f"There is no lake at {lake}.",
                "Name its files, each with --from, or a lake, or raw tables of one.",
            ) from error
    return sorted(lakes), tables


def _is_table(place: str, options: dict[str, str]) -> bool:
    from deltalake import DeltaTable

    from pipeline.lake_errors import store_errors
    from pipeline.lake_location import LakeLocation

    where = LakeLocation.of(place, options)
    with store_errors(where):
        return bool(DeltaTable.is_deltatable(str(where), where.options))


def _engine(name: EngineName, workers: int | None, address: str | None) -> Any:
    if name is EngineName.ray:
        from pipeline.backfill_ray import RayCluster

        return RayCluster(address, workers)
    from pipeline.backfill_local import LocalProcesses

    return LocalProcesses(workers or os.cpu_count() or 1)


def _display() -> Any:
    from rich.console import Console

    from pipeline.backfill_progress import ProgressDisplay

    return ProgressDisplay(Console(stderr=True))


def _tell(result: Any, target: str) -> None:
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
