"""``hedgeflow surface``: fit a volatility surface to an option chain, look at it, and compare the models."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from pipeline.commands.options import Config, settings_of

if TYPE_CHECKING:
    from features.surface.arbitrage import ArbitrageReport
    from features.surface.cleaning import Points
    from features.surface.model import Surface
    from pipeline.option_chains import OptionChain
    from pipeline.surface_models import ModelFailure, ModelResult

app = typer.Typer(
    help="Fit a volatility surface to an option chain, plot it, compare the models.", no_args_is_help=True
)

Place = Annotated[str, typer.Argument(help="Parquet of recorded Deribit chains, or folder or URL of a lake.")]
At = Annotated[
    str | None, typer.Option("--at", help="UTC; the last chain known by then.", show_default="the last chain")
]
Underlying = Annotated[
    str | None, typer.Option("--underlying", help="Such as BTC; needed where there are several.", show_default=False)
]
Model = Annotated[
    Literal["svi", "essvi", "sabr", "heston", "nonparametric", "streamed"],
    typer.Option("--model", help="Which; streamed is what the stream fits."),
]
Models = Annotated[str | None, typer.Option("--models", help="Separated by commas.", show_default="all")]
Plot = Annotated[Path | None, typer.Option("--plot", help="Draw it into this PNG file.", show_default=False)]


@app.command(
    epilog="Example: [bold]hedgeflow surface fit hedgeflow-demo/lake --underlying BTC --model essvi "
    "--plot surface.png[/bold]"
)
def fit(
    place: Place,
    at: At = None,
    underlying: Underlying = None,
    model: Model = "essvi",
    plot: Plot = None,
    config: Config = None,
) -> None:
    """Fit one model to one chain: quotes used and left out, quality by expiry, and whether there is arbitrage."""
    from features.surface.arbitrage import check_arbitrage
    from pipeline.surface_models import fit_timed

    chain, points = _read(place, at, underlying, config, plot)
    with _working(f"fitting {model}"):
        surface = fit_timed(model, points)
        arbitrage = check_arbitrage(surface)
    _print_fit(surface, points)
    typer.echo(f"fitted in {_duration(surface.report.seconds)}")
    _print_arbitrage(arbitrage)
    if plot is not None:
        from pipeline.report.surface_figures import surface_figure

        with _working("drawing"):
            figure = surface_figure(chain, points, surface, _verdict(arbitrage))
        _write(figure, plot)


@app.command(
    epilog="Example: [bold]hedgeflow surface compare hedgeflow-demo/lake --underlying BTC --models svi,essvi,sabr "
    "--plot models.png[/bold]"
)
def compare(
    place: Place,
    at: At = None,
    underlying: Underlying = None,
    models: Models = None,
    plot: Plot = None,
    config: Config = None,
) -> None:
    """Fit several models to one chain: how well each meets it, in and out of sample, with what arbitrage, how fast.

    Out of sample: fitted to every other strike of an expiry, judged on the rest.
    """
    from pipeline.surface_models import MODELS, ModelFailure, compare_models

    names = _names(models) if models is not None else list(MODELS)
    chain, points = _read(place, at, underlying, config, plot)
    results: list[ModelResult | ModelFailure] = []
    found = compare_models(points, names)
    for name in names:
        with _working(f"fitting {name}"):
            results.append(next(found))
    _print_comparison(results)
    good = [each for each in results if not isinstance(each, ModelFailure)]
    if plot is not None and good:
        from pipeline.report.surface_comparison import comparison_figure

        with _working("drawing"):
            figure = comparison_figure(chain, points, good)
        _write(figure, plot)


def _names(models: str) -> list[str]:
    from features.errors import ConfigError
    from pipeline.surface_models import MODELS

    names = list(dict.fromkeys(name.strip() for name in models.split(",") if name.strip()))
    unknown = [name for name in names if name not in MODELS]
    if unknown or not names:
        raise ConfigError(f"There is no surface model {(unknown or [models])[0]!r}.", f"Known are {', '.join(MODELS)}.")
    return names


def _read(
    place: str, at: str | None, underlying: str | None, config: Path | None, plot: Path | None
) -> tuple[OptionChain, Points]:
    from features.surface.cleaning import counts_of
    from pipeline.backfill_run import parse_time
    from pipeline.option_chains import read_chain, utc

    if plot is not None:
        _require_picture(plot, place)
    # A location that is a lake brings its storage options along.
    wanted = parse_time(at)
    chain = read_chain(settings_of(config, lake=place).lake, underlying, wanted)
    points = chain.points()
    counts = counts_of(points)
    used = counts.pop("used", 0)
    left = ", ".join(f"{rule.replace('_', ' ')} {n:,}" for rule, n in sorted(counts.items(), key=lambda each: -each[1]))
    late = "" if wanted is None else f", {_age((wanted - chain.now_ns) / 1e9)} before --at"
    typer.echo(f"{chain.underlying}, chain of {utc(chain.now_ns)}{late}: {len(chain):,} options")
    typer.echo(f"quotes used {used:,} of {len(points.expiry_E)} expiries; left out: {left or 'none'}")
    _print_forwards(chain)
    return chain, points


def _require_picture(plot: Path, place: str) -> None:
    """Said before the work is done."""
    from features.errors import ConfigError

    if plot.suffix.lower() != ".png":
        raise ConfigError(f"{plot} is no name of a picture.", "Pictures are PNG: --plot FILE.png.")
    if not plot.absolute().parent.is_dir():
        raise ConfigError(f"There is no folder {plot.parent}.", "Make it, or name another file: --plot FILE.png.")
    if plot.is_dir() or plot.resolve() == Path(place).resolve():
        raise ConfigError(f"{plot} is there already, and no picture.", "Name another file: --plot FILE.png.")


def _print_forwards(chain: OptionChain) -> None:
    """Warn of forwards that the options themselves contradict: every volatility would be wrong."""
    from pipeline.option_chains import forwards_off_parity, utc

    off = forwards_off_parity(chain)
    for expiry_ns, share in off[:3]:
        typer.echo(
            f"WARNING: the forward of {utc(expiry_ns)[:10]} is {share:+.1%} off put-call parity; "
            "its volatilities are wrong if that is"
        )
    if len(off) > 3:
        typer.echo(f"WARNING: and those of {len(off) - 3} more expiries")


def _print_fit(surface: Surface, points: Points) -> None:
    import numpy as np

    from features.surface.delta_smile import log_moneyness_at_deltas, volatility_at_deltas
    from pipeline.option_chains import utc

    report = surface.report
    rows: list[tuple[str, ...]] = []
    beyond = False
    for e, each in enumerate(report.expiries):
        call, put = 100.0 * volatility_at_deltas(surface, each.years, np.array([0.25, 0.75]))
        money = 100.0 * float(surface.implied_volatility(0.0, each.years))
        k = points.k_Q[points.start_F[e] : points.start_F[e + 1]]
        at = log_moneyness_at_deltas(surface, each.years, np.array([0.25, 0.75]))
        # What lies beyond an expiry's own quotes is the model's word alone.
        no_money, no_wings = not k[0] <= 0.0 <= k[-1], not (k[0] <= at.min() and at.max() <= k[-1])
        beyond |= no_money or no_wings
        rows.append(
            (
                utc(each.expiry_ns)[:10],
                _days(each.years),
                str(each.quotes),
                f"{each.rmse_bp:.1f}",
                f"{each.inside / each.quotes:.0%}",
                f"{'~' * no_money}{money:.2f}",
                f"{'~' * no_wings}{call - put:+.2f}",
                f"{'~' * no_wings}{0.5 * (call + put) - money:+.2f}",
                str(each.iterations),
            )
        )
    rows.append(("all", "", str(report.quotes), f"{report.rmse_bp:.1f}", f"{report.inside_share:.0%}", *[""] * 4))
    _show(("expiry", "days", "quotes", "RMSE bp", "inside", "ATM %", "RR25 %", "BF25 %", "iterations"), rows)
    if beyond:
        typer.echo("~ beyond the quotes of its expiry")
    if report.unknown:
        typer.echo(
            f"{report.unknown} of {report.quotes} quotes lie where the model's prices have no digits: no volatility"
        )


def _days(years: float) -> str:
    days = 365.0 * years
    return f"{days:.1f}" if days >= 0.95 else f"{24.0 * days:.1f} h" if days >= 1 / 24 else f"{1440.0 * days:.0f} min"


def _print_arbitrage(report: ArbitrageReport) -> None:
    if report.is_free:
        proof = "; the model excludes it everywhere" if report.exact else f" at {report.points:,} points"
        dark = f", of which {report.unknown:,} have no digits left" if report.unknown and not report.exact else ""
        typer.echo(f"arbitrage: none{proof}{dark}")
        return
    worst = []
    for kind in dict.fromkeys(each.kind for each in (*report.by_variance, *report.by_price)):
        of = [each for each in report.by_variance if each.kind == kind]
        by, unit = (of, "variance") if of else ([each for each in report.by_price if each.kind == kind], "price")
        each = max(by, key=lambda one: one.size)
        worst.append(
            f"  {kind} {len(by)}, worst {each.size:.2g} ({_UNITS[kind, unit]}) at {365.0 * each.years:.1f} days, "
            f"log-moneyness {each.k:+.3f}"
        )
    typer.echo("WARNING: the surface has static arbitrage; do not price with it where it is:")
    typer.echo("\n".join(worst))


_UNITS = {
    ("unknown", "variance"): "no volatility near the money",
    ("butterfly", "variance"): "Durrleman's g below 0",
    ("calendar", "variance"): "of total variance",
    ("butterfly", "price"): "of slope in strike",
    ("calendar", "price"): "of price over forward",
    ("vertical", "price"): "of slope in strike",
}


def _verdict(report: ArbitrageReport) -> str:
    from pipeline.surface_models import arbitrage_counts

    found = ", ".join(f"{count} {kind}" for kind, count in arbitrage_counts(report).items() if count)
    return f"STATIC ARBITRAGE: {found}" if found else "no arbitrage found"


def _print_comparison(results: list[ModelResult | ModelFailure]) -> None:
    from pipeline.surface_models import KINDS, ModelFailure, arbitrage_counts

    rows: list[tuple[str, ...]] = []
    problems = []
    for each in results:
        if isinstance(each, ModelFailure):
            rows.append((each.model, *["-"] * 7))
            problems.append(f"{each.model}: {each.problem}")
            continue
        report = each.surface.report
        rows.append(
            (
                each.model,
                f"{report.rmse_bp:.1f}",
                f"{each.held_out_bp:.1f}",
                f"{report.inside_share:.0%}",
                *(str(arbitrage_counts(each.arbitrage)[kind]) for kind in KINDS),
                f"{1e3 * report.seconds:.2f}" if report.seconds < 0.01 else f"{1e3 * report.seconds:.0f}",
            )
        )
    _show(("model", "RMSE bp", "held out", "inside", *KINDS, "ms"), rows)
    typer.echo("held out: RMSE in bp when fitted to every other strike and judged on the rest")
    typer.echo("butterfly, calendar, vertical: static arbitrages found")
    for line in problems:
        typer.echo(line)


def _write(figure: Any, path: Path) -> None:
    from features.errors import ConfigError
    from pipeline.report.style import png
    from pipeline.report.surface_panels import DPI

    with _working("drawing"):
        image = png(figure, DPI)
    try:
        path.write_bytes(image)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}.", "Name another file: --plot FILE.") from error
    typer.echo(f"picture: {path}")


def _show(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """The first column to the left, numbers to the right; plain text, so that no terminal cuts a number."""
    widths = [max(map(len, each)) for each in zip(columns, *rows, strict=True)]
    for row in (columns, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        typer.echo("  ".join([row[0].ljust(widths[0]), *cells]).rstrip())


def _working(what: str) -> Any:
    """A spinner on a terminal, and silence elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    return console.status(what) if console.is_terminal else nullcontext()


def _duration(seconds: float) -> str:
    return (
        f"{1e6 * seconds:.0f} us"
        if seconds < 1e-3
        else f"{1e3 * seconds:.1f} ms"
        if seconds < 1.0
        else f"{seconds:.1f} s"
    )


def _age(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 600.0
        else f"{seconds / 60.0:.0f} min"
        if seconds < 7200.0
        else f"{seconds / 3600.0:.1f} h"
        if seconds < 172_800.0
        else f"{seconds / 86_400.0:,.0f} days"
    )
