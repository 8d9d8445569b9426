"""``hedgeflow features fit-text``: the model that reads headlines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.manifests import print_manifest
from pipeline.commands.options import Seed


def register(app: typer.Typer) -> None:
    """Add the command to the group ``features``."""
    app.command(
        "fit-text",
        epilog="Example: [bold]hedgeflow features fit-text --headlines headlines.jsonl --to models/text[/bold]",
    )(fit_text)


def fit_text(
    headlines: Annotated[
        Path, typer.Option("--headlines", help="JSON lines with time, text and label (negative, neutral, positive).")
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder of the model.")] = Path("models/text"),
    seed: Seed = 0,
) -> None:
    """Fit the text model on the first 70 % of labelled headlines by time; print how good it is on the rest."""
    from features.alternative.fit_text import TextFit
    from features.alternative.fit_text import fit_text as fit
    from features.alternative.text_artifact import save_text
    from pipeline.sources.labelled_headlines import LabelledHeadlines

    labelled = LabelledHeadlines(headlines)
    fitted = fit(labelled.texts, TextFit(seed=seed))
    data = {"headlines": headlines.name, "texts": len(labelled.texts), "rejected": sum(labelled.rejected.values())}
    note = {"note": labelled.note} if labelled.note else {}
    print_manifest(save_text(to, fitted.model, seed=seed, metrics=fitted.metrics, data={**data, **note}))
    for number, terms in enumerate(fitted.model.topic_terms):
        typer.echo(f"topic {number}: {', '.join(terms)}")
    if labelled.rejected:
        rejected = ", ".join(f"{reason} {count:,}" for reason, count in sorted(labelled.rejected.items()))
        typer.echo(f"rejected: {rejected}")
