"""A text model on disk: coefficients as tensors, the vocabulary as text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from features.alternative.text import CLASSES, TextModel
from features.alternative.tokens import TOKEN
from features.artifact import load_artifact, save_artifact
from features.errors import ArtifactError, BadInputError
from features.manifest import Manifest

KIND: Final = "text"

READS_NO_FEATURES: Final = ""
"""In the place of the catalogue's hash: a text model reads texts."""


def save_text(
    folder: Path, model: TextModel, *, seed: int, metrics: Mapping[str, float], data: Mapping[str, Any]
) -> Manifest:
    """Write the model's folder; ``manifest.version`` is ``model.version``.

    Args:
        folder: where, replacing an older model there.
        model: what to write.
        seed: of the fit.
        metrics: measured at the fit.
        data: the texts that it was fitted on.

    Raises:
        ArtifactError: ``folder`` holds something that is no model.
    """
    return save_artifact(
        folder,
        kind=KIND,
        name=folder.name,
        catalogue=READS_NO_FEATURES,
        seed=seed,
        settings=model.settings,
        metrics=metrics,
        data=data,
        tensors=model.tensors,
        texts=model.texts,
    )


def load_text(folder: Path) -> TextModel:
    """Read a model's folder and verify it.

    Raises:
        ArtifactError: the folder is missing, damaged, of another kind, or of another tokenizer.
    """
    artifact = load_artifact(folder, kind=KIND, catalogue=None)
    settings, tensors = artifact.manifest.settings, artifact.tensors
    if settings.get("token") != TOKEN or tuple(settings.get("classes", ())) != CLASSES:
        raise ArtifactError(f"{folder} reads other words or classes than this version does.", "Fit it again.")
    try:
        return TextModel(
            tuple(artifact.texts["vocabulary"].split("\n")),
            tensors["idf"],
            tensors["coefficients"],
            tensors["intercepts"],
            tensors["topics"],
            tuple(tuple(terms) for terms in settings["topic_terms"]),
        )
    except (KeyError, BadInputError) as error:
        raise ArtifactError(f"The text model in {folder} is incomplete: {error}.", "Fit it again.") from error
