"""Alternative data: texts and numbers that become known at their own times, and the columns that are made of them.

The public names load their modules on first use, so importing the package loads nothing heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from features.alternative.fit_text import FittedText, LabelledText, TextFit, fit_text
    from features.alternative.state import AlternativeState
    from features.alternative.text import TextModel
    from features.alternative.text_artifact import load_text, save_text

__all__ = [
    "AlternativeState",
    "FittedText",
    "LabelledText",
    "TextFit",
    "TextModel",
    "fit_text",
    "load_text",
    "save_text",
]

_MODULE: Final = {
    "AlternativeState": "state",
    "TextModel": "text",
    "load_text": "text_artifact",
    "save_text": "text_artifact",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE.get(name, 'fit_text')}"), name)
