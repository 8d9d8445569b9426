"""Realized variance over days, in memory that does not grow with the bars: hours are summed, and the hours kept.

A bar's squared return goes into the open hour, and counts there. An hour is known when nine tenths of its bars had a
return; it then stands for all of them. A horizon is known when nine tenths of its hours are (so a night without the
feed does not hide a month), and its variance is that of the known hours, annualised.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from features.events import NANO
from features.kernel import row_kernel

Array = np.ndarray[Any, Any]

HOUR_NS: Final = 3_600 * NANO
HOURS: Final = 720
"""Kept: 30 days."""

HORIZONS_D: Final = (7, 30)

KNOWN_SHARE: Final = 0.9
HOURS_A_YEAR: Final = 8_760.0

# hour: number of the open hour since 1970 (0: none yet), bars with a known return in it.
H_NUMBER, H_BARS = range(2)


@row_kernel
def remember_return(hour: Array, hour_sum: Array, hours: Array, long_variance: Array, log_return: float, end_ns: int,
                    interval_ns: int) -> None:  # fmt: skip
    """Take the return of the bar that ends at ``end_ns``; when its hour is another, close the one before.

    Args:
        hour: ``H_NUMBER``, ``H_BARS`` of an instrument.
        hour_sum: (1,), its sum of squares.
        hours: variances of the last ``HOURS`` hours, by number modulo that; NaN unknown.
        long_variance: annualised variance of each of :data:`HORIZONS_D`; NaN unknown.
        log_return: NaN when unknown.
        end_ns: of the bar.
        interval_ns: length of a bar.
    """
    number = (end_ns - 1) // HOUR_NS
    if number != hour[H_NUMBER]:
        if hour[H_NUMBER] > 0:
            expected = max(HOUR_NS // interval_ns, 1)
            known = hour[H_BARS] >= KNOWN_SHARE * expected
            hours[hour[H_NUMBER] % HOURS] = hour_sum[0] * expected / hour[H_BARS] if known else math.nan
            for missed in range(hour[H_NUMBER] + 1, min(number, hour[H_NUMBER] + 1 + HOURS)):
                hours[missed % HOURS] = math.nan
            for i in range(len(HORIZONS_D)):
                long_variance[i] = _over(hours, number, 24 * HORIZONS_D[i])
        hour[H_NUMBER] = number
        hour[H_BARS] = 0
        hour_sum[0] = 0.0
    if not math.isnan(log_return):
        hour[H_BARS] += 1
        hour_sum[0] += log_return * log_return


@row_kernel
def _over(hours: Array, number: int, length: int) -> float:
    """Annualised variance of the ``length`` hours before hour ``number``, summed from the oldest."""
    total, known = 0.0, 0
    for each in range(number - length, number):
        value = hours[each % HOURS]
        if not math.isnan(value):
            total += value
            known += 1
    return total / known * HOURS_A_YEAR if known >= KNOWN_SHARE * length else math.nan
