"""The volatility surface on recorded Deribit chains, and its speed beside QuantLib, fast-vollib and scipy.

``python -m benchmarks.surface [--quick] [--only fits|track|speed] [--plot FILE]``.

- **fits**: every model, and the surface that streams, on every snapshot of both coins, fitted to all quotes and to
  every other strike: root mean square misfit in basis points of volatility by time to expiry, in sample and on the
  strikes that were left out, share inside bid and ask, static arbitrage found by two independent ways, time.
- **track**: the surface that streams, at every snapshot: ATM volatility and 25-delta risk reversal at 30 days beside
  those of the venue's mark volatilities, which are no input, and of the quotes' mids themselves.
- **speed**: inversion, an SVI slice, Heston, a chain of 84 quotes inverted, fitted and repaired, a real chain of 800;
  beside the peers in processes of their own, results compared before they are timed.

The last line is one JSON object; ``ratio`` is the peer's time over ours for the inversion.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.deribit_chains import RECORDED, chains
from benchmarks.surface_fits import BUCKETS_D, MODELS, Track, scores
from benchmarks.surface_speed import measure, show_speed
from benchmarks.where import where

CHANGED_NS = 1_773_964_800 * 10**9
"""20 March 2026: the venue marks calls of 25 delta at the ask before, and between bid and ask after."""

NO_CHAINS = f"There are no recorded chains at {RECORDED}: fits and track are left out."


def fits(quick: bool, models: Sequence[str] = MODELS) -> dict[str, Any]:
    """The table of models."""
    some = [chain for number, chain in enumerate(chains()) if not quick or number % 60 == 0]
    found, rules = scores(some, models, lambda line: print(line, file=sys.stderr, flush=True))
    total = sum(rules.values())
    print(f"{len(some)} snapshots, {total:,} quotes: " + ", ".join(f"{n} {c / total:.1%}" for n, c in rules.items()))
    spans = [f"{low}-{high} d" for low, high in BUCKETS_D]
    print(f"{'rmse in bp (out of sample)':<27}" + "".join(f"{span:>16}" for span in (*spans, "all"))
          + f"{'inside':>9}{'ms':>9}{'p99':>9}  arbitrage")  # fmt: skip
    results = {name: score.result() for name, score in found.items()}
    for name, each in results.items():
        pairs = zip([*each["in_bp_by_bucket"], each["in_bp"]], [*each["out_bp_by_bucket"], each["out_bp"]], strict=True)
        cells = "".join(f"{f'{inside:.0f} ({outside:.0f})':>16}" for inside, outside in pairs)
        violations = ", ".join(f"{count} {kind}" for kind, count in each["violations"].items())
        arbitrage = f"free {each['free_snapshots']}/{each['snapshots']}" + (f"; {violations}" if violations else "")
        label = name
        timed = f"{each['ms']['median']:>9.2f}{each['ms']['p99']:>9.2f}"
        print(f"{label:<27}{cells}{each['inside_share']:>9.1%}{timed}  {arbitrage}")
    return {"snapshots": len(some), "quotes": total, "rules": dict(rules), "models": results}


def track(quick: bool, plot: Path | None) -> dict[str, Any]:
    """Ours beside the venue's marks."""
    following = Track()
    for number, chain in enumerate(chains()):
        if not quick or number < 12:
            following.take(chain)
    results: dict[str, Any] = {"ms": {"median": round(1e3 * float(np.median(following.seconds)), 3)}}
    results["ms"]["p99"] = round(1e3 * float(np.quantile(following.seconds, 0.99)), 3)
    for coin in ("BTC", "ETH"):
        rows = [row for row in following.rows if row["coin"] == coin]
        for name in ("atm_iv_30d", "risk_reversal_25d"):
            for other in ("mark", "mid"):
                apart = np.array([row[name] - row[f"{other}_{name}"] for row in rows])
                key = f"{coin} {name} less the {other}'s"
                results[key] = {
                    "mean_bp": round(1e4 * float(np.nanmean(apart)), 1),
                    "mean_absolute_bp": round(1e4 * float(np.nanmean(np.abs(apart))), 1),
                    "worst_bp": round(1e4 * float(np.nanmax(np.abs(apart))), 1),
                }
                print(f"{key}, {len(rows)} snapshots: {results[key]}")
        for side in ("call", "put"):
            places = np.array([row[f"mark_place_25d_{side}"] for row in rows])
            is_early = np.array([row["now_ns"] < CHANGED_NS for row in rows])
            early, late = (round(median(part[np.isfinite(part)].tolist() or [0.5]), 2) for part in
                           (places[is_early], places[~is_early]))  # fmt: skip
            key = f"{coin} 25-delta {side}: the mark between bid (0) and ask (1)"
            results[key] = {"until 20 March": early, "after": late}
            print(f"{key}: {results[key]}")
    print(f"the streamed surface, inversion to features: {results['ms']} ms a snapshot")
    results["free_snapshots"] = sum(bool(row["is_free"]) for row in following.rows)
    results["largest_violation"] = max((row["largest_violation"] for row in following.rows), default=0.0)
    print(
        f"free of arbitrage: {results['free_snapshots']} of {len(following.rows)} surfaces; "
        f"the largest violation is {results['largest_violation']:.1e}"
    )
    told = np.array([row["surface_arbitrage"] for row in following.rows])
    results["snapshots_with_tradable_arbitrage_or_lowered_slices"] = int(np.sum(told > 0))
    if plot is not None:
        from benchmarks.surface_plot import plot_track

        plot_track(following.rows, plot)
    return results


def main() -> None:
    """Print tables, then one JSON object."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few snapshots and repetitions")
    parser.add_argument("--only", choices=("fits", "track", "speed"))
    parser.add_argument("--models", default=",".join(MODELS), help="of fits, separated by commas")
    parser.add_argument("--plot", type=Path, help="of track, as PNG")
    options = parser.parse_args()
    found: dict[str, Any] = {"benchmark": "surface", "peer": "fast-vollib, QuantLib, scipy", "ratio": None}
    recorded = RECORDED.is_dir()
    if not recorded:
        print(NO_CHAINS)
    if options.only in (None, "fits") and recorded:
        found["fits"] = fits(options.quick, options.models.split(","))
    if options.only in (None, "track") and recorded:
        found["track"] = track(options.quick, options.plot)
    if options.only in (None, "speed"):
        found["speed"] = measure(options.quick)
        show_speed(found["speed"])
        found["ratio"] = found["speed"]["ratio"]
    print(json.dumps(found | where(("numpy", "numba", "scipy", "polars"))))


if __name__ == "__main__":
    main()
