"""Texts as words and pairs of words."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final

TOKEN: Final = r"\w+(?:['’]\w+)*"
"""A word: letters, digits and underscores of any script, with apostrophes inside (``don't``). All else separates."""

MAX_WORDS: Final = 10_000
"""Of a text; what follows is not read."""

_TOKEN: Final = re.compile(TOKEN)


def words(text: str) -> list[str]:
    """The words of a text in lower case, in order.

    Example: ``"Bitcoin doesn’t fall 5%"`` gives ``bitcoin, doesn't, fall, 5``.
    """
    found = _TOKEN.findall(text.lower())
    return [word.replace("’", "'") for word in found[:MAX_WORDS]]


def terms(text: str) -> list[str]:
    """Its words, then its pairs of neighbouring words with a space between."""
    single = words(text)
    return single + [f"{first} {second}" for first, second in pairwise(single)]
