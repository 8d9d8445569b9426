"""``hedgeflow dead-letters``: look at what could not be used, and put it back after a fix."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.commands.options import Bootstrap, Config, Format, LakePath, settings_of

if TYPE_CHECKING:
    from pipeline.dead_letters import Choice, Letter

app = typer.Typer(help="List, show and replay what could not be used.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option("--reason", help="Letters with this reason only.", show_default=False)]
Stage = Annotated[
    str | None, typer.Option("--stage", help="Letters that this worker refused only.", show_default=False)
]
Since = Annotated[
    str | None,
    typer.Option("--since", help="Not older than this: 30m, 6h, 2d, or 2026-01-31T12:00 (UTC).", show_default=False),
]


@app.command(
    "list",
    epilog="Examples: [bold]hedgeflow dead-letters list --since 6h[/bold]; "
    "[bold]hedgeflow dead-letters list --lake ./lake --reason undecodable --format json[/bold]",
)
def list_letters(
    bootstrap: Bootstrap = None,
    lake: LakePath = None,
    reason: Reason = None,
    stage: Stage = None,
    since: Since = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="Show at most this many, the newest.")] = 20,
    output: Format = "table",
    config: Config = None,
) -> None:
    """How many there are of each reason, and the newest; from the broker, or with --lake from the lake."""
    from pipeline.commands.since import since_ns
    from pipeline.dead_letters import Choice

    choice = Choice(reason=reason, stage=stage, since_ns=since_ns(since))
    counts: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    newest: deque[Letter] = deque(maxlen=rows)
    for letter in _letters(settings_of(config, bootstrap=bootstrap, lake=lake), lake, choice):
        counts[letter.reason] += 1
        refused[letter.reason] += letter.rows
        newest.append(letter)
    shown = list(reversed(newest))
    if output == "json":
        import msgspec

        reasons = {each: {"letters": number, "rows": refused[each]} for each, number in counts.most_common()}
        document = {"letters": counts.total(), "reasons": reasons, "newest": [_fields(letter) for letter in shown]}
        typer.echo(msgspec.json.encode(document).decode())
    else:
        _print_list(counts, refused, shown)


@app.command(epilog="Example: [bold]hedgeflow dead-letters show dead-letter/0/17[/bold]")
def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="The letter: dead-letter/0/17, or 17.")],
    bootstrap: Bootstrap = None,
    lake: LakePath = None,
    most: Annotated[int, typer.Option("--bytes", min=0, help="Show at most this many bytes.")] = 512,
    config: Config = None,
) -> None:
    """One letter: why, where from, its bytes, and what today's code makes of them."""
    from pipeline.commands.readable import printable, readable
    from pipeline.dead_letters import Choice, decode_again, parse_id, require_letter

    settings = settings_of(config, bootstrap=bootstrap, lake=lake)
    letter = require_letter(_letters(settings, lake, Choice(ids=frozenset({parse_id(name)}))), name)
    for field, value in _fields(letter).items():
        typer.echo(f"{field:>9}  {printable(str(value))}")
    typer.echo(f"{'now':>9}  {printable(decode_again(letter, settings))}")
    typer.echo(readable(letter.payload, most))


@app.command(
    epilog="Examples: [bold]hedgeflow dead-letters replay --reason unknown_instrument[/bold] says what it would do; "
    "[bold]hedgeflow dead-letters replay 17 18 --go[/bold] does it"
)
def replay(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="The letters; without any, all that the options leave."),
    ] = None,
    bootstrap: Bootstrap = None,
    lake: Annotated[
        str | None, typer.Option("--lake", help="Take the letters from this lake.", show_default=False)
    ] = None,
    reason: Reason = None,
    stage: Stage = None,
    since: Since = None,
    go: Annotated[bool, typer.Option("--go", help="Do it; without, only what would be done is said.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Also letters that were put back before.")] = False,
    by: Annotated[str, typer.Option("--by", help="Who does it, for the record.")] = "operator",
    config: Config = None,
) -> None:
    """Put messages back on md.events after what made them unusable was fixed.

    A message that is put back has a new place at the end of the log, for live workers and backfill alike. Rows keep
    their numbers: those not beyond what came meanwhile of their instrument and kind are ignored as repeats. So it
    helps for reference data, for instruments that were unknown and for kinds that an older worker did not know; a book
    that went on ignores a stale message. A letter is put back once, unless --force.
    """
    from pipeline.commands.since import since_ns
    from pipeline.dead_letter_replay import plan_replay
    from pipeline.dead_letter_replay import replay as put_back
    from pipeline.dead_letters import Choice, parse_id

    choice = Choice(frozenset(map(parse_id, names or ())), reason, stage, since_ns(since))
    settings = settings_of(config, bootstrap=bootstrap, lake=lake)
    plan = plan_replay(settings, _letters(settings, lake, choice), force=force)
    for letter, why in plan.kept:
        typer.echo(f"stays     {letter.id}  {why}")
    for letter in plan.letters:
        typer.echo(
            f"{'goes' if go else 'would go'}  {letter.id}  to {letter.where.rpartition('/')[0]} as {letter.kind}"
        )
    if not go:
        typer.echo(f"{len(plan.letters)} message(s) would be put back; --go does it")
        return
    typer.echo(f"{put_back(settings, plan.letters, by)} message(s) put back")


def _letters(settings: Any, lake: str | None, choice: Choice) -> Iterator[Letter]:
    from pipeline.dead_letters import lake_letters, topic_letters

    return lake_letters(settings, choice) if lake is not None else topic_letters(settings, choice)


def _fields(letter: Letter) -> dict[str, Any]:
    from pipeline.commands.since import utc

    return {
        "id": letter.id,
        "when": utc(letter.when_ns),
        "reason": letter.reason,
        "detail": letter.detail,
        "rows": letter.rows,
        "stage": letter.stage,
        "from": letter.where,
        "key": letter.key,
        "kind": letter.kind,
        "bytes": len(letter.payload),
        "whole": letter.whole,
    }


def _print_list(counts: Counter[str], refused: Counter[str], newest: list[Letter]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from pipeline.commands.readable import printable
    from pipeline.commands.since import utc

    if not counts:
        typer.echo("no dead letters")
        return
    console = Console()
    reasons = Table("reason", "letters", "rows")
    for reason, number in counts.most_common():
        reasons.add_row(Text(printable(reason)), f"{number:,}", f"{refused[reason]:,}")
    console.print(reasons)
    if not newest:
        return
    table = Table("id", "when (UTC)", "reason", "stage", "from", "detail", title=f"the newest {len(newest)}")
    for letter in newest:
        texts = (letter.id, utc(letter.when_ns), letter.reason, letter.stage, letter.where, letter.detail)
        table.add_row(*(Text(printable(text)) for text in texts))
    console.print(table)
