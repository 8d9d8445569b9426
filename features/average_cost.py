"""A position at its weighted average cost, in integers: exact but for one rounding of 1e-18 USD a reducing fill.

Quantities, prices and fees are whole numbers of 1e-9 coins, USD per coin and USD; their products, and so every
amount of money that is summed, are whole numbers of 1e-18 USD.
"""

from __future__ import annotations

import math
from dataclasses import astuple, dataclass
from fractions import Fraction
from typing import Final

from features.errors import BadInputError

UNITS: Final = 10**9
"""Of a coin, a price and a fee; a product of two of them has the square of it."""
PRODUCT_UNITS: Final = UNITS * UNITS


def units(value: float) -> int:
    """``value`` in units of 1e-9: the float's exact value, rounded once, ties to even.

    Raises:
        BadInputError: it is no finite number.

    >>> units(0.1), units(-2.5e-10), units(1e15)
    (100000000, 0, 1000000000000000000000000)
    """
    if not math.isfinite(value):
        raise BadInputError(f"A quantity, price or fee is {value}.", "A fill has finite numbers.")
    return round(Fraction(value) * UNITS)


@dataclass(slots=True)
class AverageCost:
    """The account of one instrument: linear, quoted and settled in the same currency.

    With ``q`` the signed quantity and ``p`` the price of each fill, and ``B`` the cost of what is held ::

        inventory = sum(q)        cash = -sum(q p)        realized = cash + B

    A fill that adds to the inventory moves ``B`` by ``q p``; one that reduces it scales ``B`` by what is left of the
    inventory, so that the average cost ``B / inventory`` stays; one that flips it through zero leaves the rest at
    ``B = inventory p`` (weighted average cost, IAS 2, 2003, par. 27). Flat, ``B`` is 0 and ``realized`` the cash,
    exactly.

    Attributes:
        inventory: 1e-9 coins, positive long.
        basis: ``B``, 1e-18 USD, with the sign of the inventory.
        cash: 1e-18 USD, without fees.
        fees: 1e-9 USD; negative when rebates prevail.

    4 coins at 105 on average; 1 is sold at 120, 3 more at 130, and 1 is then short at 130:

    >>> account = AverageCost()
    >>> for quantity, price in ((2.0, 100.0), (2.0, 110.0), (-1.0, 120.0), (-4.0, 130.0)):
    ...     account.fill(units(quantity), units(price), units(0.5))
    >>> account.inventory_coins, account.average_cost, account.realized_pnl
    (-1.0, 130.0, 90.0)
    >>> account.unrealized_pnl(units(125.0)), account.total_pnl(units(125.0))
    (5.0, 93.0)
    """

    inventory: int = 0
    basis: int = 0
    cash: int = 0
    fees: int = 0

    def fill(self, quantity: int, price: int, fee: int) -> None:
        """Book a trade: ``quantity`` in 1e-9 coins, positive bought; ``price`` and ``fee`` in 1e-9 USD."""
        held = self.inventory
        self.inventory += quantity
        self.cash -= quantity * price
        self.fees += fee
        if held == 0 or (held > 0) == (quantity > 0):
            self.basis += quantity * price
        elif self.inventory == 0 or (self.inventory > 0) == (held > 0):
            self.basis = round(Fraction(self.basis * self.inventory, held))
        else:
            self.basis = self.inventory * price

    @property
    def inventory_coins(self) -> float:
        """Coins, positive long."""
        return self.inventory / UNITS

    @property
    def average_cost(self) -> float | None:
        """USD per coin; ``None`` when nothing is held."""
        return None if self.inventory == 0 else self.basis / (self.inventory * UNITS)

    @property
    def realized_pnl(self) -> float:
        """USD, before fees."""
        return (self.cash + self.basis) / PRODUCT_UNITS

    @property
    def fees_paid(self) -> float:
        """USD."""
        return self.fees / UNITS

    def unrealized_pnl(self, mark: int | None) -> float | None:
        """``inventory mark - B``, USD, with ``mark`` in 1e-9 USD; an unknown one gives ``None`` unless flat."""
        if self.inventory == 0:
            return 0.0
        return None if mark is None else (self.inventory * mark - self.basis) / PRODUCT_UNITS

    def total_pnl(self, mark: int | None) -> float | None:
        """``cash + inventory mark - fees``, USD; ``None`` as of :meth:`unrealized_pnl`."""
        total = self.total_units(mark)
        return None if total is None else total / PRODUCT_UNITS

    def total_units(self, mark: int | None) -> int | None:
        """:meth:`total_pnl` in 1e-18 USD."""
        if self.inventory != 0 and mark is None:
            return None
        return self.cash + self.inventory * (mark or 0) - self.fees * UNITS

    def saved(self) -> list[str]:
        """The state as text: the integers may be longer than 64 bits."""
        return [str(value) for value in astuple(self)]

    @classmethod
    def restored(cls, saved: list[str]) -> AverageCost:
        """The inverse of :meth:`saved`."""
        return cls(*map(int, saved))
