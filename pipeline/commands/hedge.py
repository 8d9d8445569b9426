"""``hedgeflow hedge``: train the policy, explain decisions."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.manifests import print_manifest
from pipeline.commands.options import Bootstrap, Config, LakePath, Models, Seed, settings_of
from pipeline.commands.regimes import Until

app = typer.Typer(help="Train the hedging policy, explain what it decided, stop it.", no_args_is_help=True)


class Released(StrEnum):
    """What a person takes back."""

    KILL = "kill"
    FLATTEN = "flatten"


@app.command(
    epilog="Example: [bold]hedgeflow hedge train --lake hedgeflow-demo/lake --models ./models "
    "--portfolio hedgeflow-demo/portfolio.json[/bold]"
)
def train(
    lake: LakePath = None,
    models: Models = None,
    portfolio: Annotated[Path | None, typer.Option("--portfolio", help="The portfolio to hedge, as JSON.")] = None,
    until: Until = None,
    batches: Annotated[int, typer.Option(help="Steps of the optimizer.")] = 240,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    seed: Seed = 0,
    config: Config = None,
) -> None:
    """Train a no-trade-band policy by pathwise gradients on expected shortfall; needs fitted regimes in --models."""
    from rich.progress import Progress

    from hedger.training import TrainingConfig
    from pipeline.fit import train_policy_artifact
    from pipeline.portfolios import read_portfolio

    settings = settings_of(config, lake=lake, models=models, portfolio=portfolio)
    wanted = TrainingConfig(n_batches=batches, device=device, seed=seed)
    with Progress(transient=True) as bar:
        task = bar.add_task("training", total=1.0)
        manifest = train_policy_artifact(
            settings,
            read_portfolio(settings.portfolio),
            until,
            wanted,
            lambda share, _text: bar.update(task, completed=share),
        )
    print_manifest(manifest)


@app.command(epilog="Example: [bold]hedgeflow hedge explain --lake hedgeflow-demo/lake[/bold]")
def explain(
    lake: LakePath = None,
    bar_ts: Annotated[
        int | None, typer.Option("--bar-ts", help="Of the decision (ns UTC); else the last with an order.")
    ] = None,
    config: Config = None,
) -> None:
    """Why a decision was what it was: what was seen, the rung of the ladder, the band, limits, orders, versions."""
    from features.errors import BadInputError
    from hedger.decision import decode_decision
    from hedger.decision import explain as explained
    from pipeline.query import open_lake

    chosen = "bar_ts = ?" if bar_ts is not None else "order_quantity IS NOT NULL AND ? IS NULL"
    with open_lake(settings_of(config, lake=lake).lake) as connection:
        query = f"SELECT document FROM decisions WHERE {chosen} ORDER BY bar_ts DESC LIMIT 1"
        found = connection.execute(query, [bar_ts]).fetchall()
    if not found:
        raise BadInputError("There is no such decision.", 'List them: `hedgeflow sql "select bar_ts from decisions"`.')
    typer.echo(explained(decode_decision(found[0][0])))


Reason = Annotated[str, typer.Option("--reason", help="Why; it stays in the log.")]
By = Annotated[str, typer.Option("--by", help="Who orders it; it stays in the log.")]


@app.command(
    epilog='Example: [bold]hedgeflow hedge kill --portfolio portfolio.json --by anna --reason "fat finger"[/bold]'
)
def kill(
    reason: Reason,
    by: By,
    portfolio: Annotated[Path | None, typer.Option("--portfolio", help="The portfolio, as JSON.")] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """The kill switch: no order any more, outstanding ones are cancelled, until it is released."""
    from hedger.inputs import KillInput
    from pipeline.commands.person import append

    settings = settings_of(config, bootstrap=bootstrap, portfolio=portfolio)
    append(settings, lambda input_id: KillInput(input_id=input_id, reason=reason, by=by))


@app.command(
    epilog='Example: [bold]hedgeflow hedge flatten --portfolio portfolio.json --by anna --reason "end of day"[/bold]'
)
def flatten(
    reason: Reason,
    by: By,
    portfolio: Annotated[Path | None, typer.Option("--portfolio", help="The portfolio, as JSON.")] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Close the hedge positions, and trade nothing else until it is released."""
    from hedger.inputs import FlattenInput
    from pipeline.commands.person import append

    settings = settings_of(config, bootstrap=bootstrap, portfolio=portfolio)
    append(settings, lambda input_id: FlattenInput(input_id=input_id, reason=reason, by=by))


@app.command(
    epilog='Example: [bold]hedgeflow hedge release --portfolio portfolio.json --by anna --reason "checked"[/bold]'
)
def release(
    reason: Reason,
    by: By,
    what: Annotated[Released, typer.Option("--what", help="Which order is taken back.")] = Released.KILL,
    portfolio: Annotated[Path | None, typer.Option("--portfolio", help="The portfolio, as JSON.")] = None,
    bootstrap: Bootstrap = None,
    config: Config = None,
) -> None:
    """Take back a kill or a flatten."""
    from hedger.inputs import ReleaseInput
    from pipeline.commands.person import append

    settings = settings_of(config, bootstrap=bootstrap, portfolio=portfolio)
    append(settings, lambda input_id: ReleaseInput(input_id=input_id, reason=reason, by=by, releases=what.value))
