"""Fit the text model on labelled texts, and say how good it is on later ones."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from sklearn.decomposition import NMF
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss

from features.alternative.text import CLASSES, TextModel
from features.alternative.tokens import terms
from features.declared.alternative import TOPICS
from features.errors import BadInputError
from features.protocols import Float

FIRST_PART: Final = 0.7
MIN_TEXTS: Final = 50
TOPIC_TERMS: Final = 8


@dataclass(frozen=True, slots=True)
class LabelledText:
    """One text and what it was found to say.

    Args:
        ts_event: when it was published.
        text: the words.
        label: of ``CLASSES``.
        polarity: a finer verdict in [-1, 1]; NaN where there is none.
    """

    ts_event: int
    text: str
    label: str
    polarity: float = math.nan


@dataclass(frozen=True, slots=True)
class TextFit:
    """How the model is fitted.

    Args:
        min_texts: in how many texts a term must occur.
        max_terms: of the vocabulary: the most frequent ones.
        inverse_penalty: C of the logistic regression.
        topics: K.
        seed: of everything random.
    """

    min_texts: int = 3
    max_terms: int = 20_000
    inverse_penalty: float = 10.0
    topics: int = TOPICS
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FittedText:
    """A model, fitted on the earlier texts, and its metrics on the later ones.

    ``metrics``: texts of both parts; balanced accuracy and log loss of the model and of a baseline that always gives
    the class shares of the earlier part; the correlation of polarity with the labels' own, NaN where they have none.
    """

    model: TextModel
    metrics: dict[str, float]


def fit_text(texts: Sequence[LabelledText], fit: TextFit = TextFit()) -> FittedText:
    """Fit on the first 70 % of the texts by time and evaluate on the rest.

    The order is by time, ties as given. A later text that is word for word one of the earlier is not evaluated. The
    model that comes back is the one that was evaluated: it has seen nothing of the later part, its vocabulary neither.

    Raises:
        BadInputError: fewer than ``MIN_TEXTS`` texts, a label that is none of ``CLASSES``, a class that the earlier
            part lacks, too few terms for the topics, or nothing to evaluate on.
    """
    earlier, later = _parts(texts)
    vectorizer = TfidfVectorizer(
        tokenizer=terms,
        token_pattern=None,
        lowercase=False,
        sublinear_tf=True,
        min_df=fit.min_texts,
        max_features=fit.max_terms,
    )
    try:
        weights = vectorizer.fit_transform([each.text for each in earlier])
    except ValueError as error:
        raise BadInputError(f"The texts have no vocabulary: {error}.", "Give more texts.") from error
    labels = [each.label for each in earlier]
    classifier = LogisticRegression(C=fit.inverse_penalty, max_iter=5_000, random_state=fit.seed).fit(weights, labels)
    vocabulary = tuple(vectorizer.get_feature_names_out().tolist())
    topics_KV = _topics(weights, vocabulary, fit)
    model = TextModel(
        vocabulary,
        np.asarray(vectorizer.idf_, dtype=np.float64),
        np.asarray(classifier.coef_, dtype=np.float64),
        np.asarray(classifier.intercept_, dtype=np.float64),
        topics_KV,
        tuple(_heaviest(topic_V, vocabulary) for topic_V in topics_KV),
    )
    return FittedText(model, evaluate(model, earlier, later))


def evaluate(model: TextModel, earlier: Sequence[LabelledText], later: Sequence[LabelledText]) -> dict[str, float]:
    """Metrics on ``later``; the baseline knows the class shares of ``earlier``. Texts without a known term count."""
    probabilities_NC = np.array([model.probabilities(model.tfidf(each.text)) for each in later])
    truth = np.array([CLASSES.index(each.label) for each in later])
    shares_C = np.bincount([CLASSES.index(each.label) for each in earlier], minlength=len(CLASSES)) / len(earlier)
    given = np.array([each.polarity for each in later])
    polarity = probabilities_NC[:, 2] - probabilities_NC[:, 0]
    found, majority = probabilities_NC.argmax(axis=1), np.full(len(truth), shares_C.argmax())
    with warnings.catch_warnings():
        # The baseline predicts one class: scikit-learn warns where the later part lacks another.
        warnings.simplefilter("ignore", UserWarning)
        return {
            "texts_fitted": float(len(earlier)),
            "texts_evaluated": float(len(later)),
            "balanced_accuracy": float(balanced_accuracy_score(truth, found)),
            "balanced_accuracy_majority": float(balanced_accuracy_score(truth, majority)),
            "accuracy": float((found == truth).mean()),
            "accuracy_majority": float((majority == truth).mean()),
            "log_loss": float(log_loss(truth, probabilities_NC, labels=range(len(CLASSES)))),
            "log_loss_majority": float(log_loss(truth, np.tile(shares_C, (len(truth), 1)), labels=range(len(CLASSES)))),
            "polarity_correlation": _correlation(polarity, given),
        }


def _parts(texts: Sequence[LabelledText]) -> tuple[list[LabelledText], list[LabelledText]]:
    if len(texts) < MIN_TEXTS:
        raise BadInputError(f"{len(texts)} labelled texts are too few.", f"Give {MIN_TEXTS} or more.")
    ordered = sorted(texts, key=lambda each: each.ts_event)
    split = int(FIRST_PART * len(ordered))
    earlier, seen = ordered[:split], {each.text for each in ordered[:split]}
    later = [each for each in ordered[split:] if each.text not in seen]
    unknown = {each.label for each in ordered} - set(CLASSES)
    missing = set(CLASSES) - {each.label for each in earlier}
    if unknown or missing:
        raise BadInputError(
            f"Labels: unknown {sorted(unknown)}, missing in the earlier part {sorted(missing)}.",
            f"Every text has one of {', '.join(CLASSES)}, and the first 70 % have all of them.",
        )
    if not later:
        raise BadInputError("Every later text occurs among the earlier ones.", "Give texts that differ.")
    return earlier, later


def _topics(weights: Any, vocabulary: tuple[str, ...], fit: TextFit) -> Float:
    """H of weights = W H over the terms without a stop word; columns of other terms are zero."""
    topical = [i for i, term in enumerate(vocabulary) if not ENGLISH_STOP_WORDS.intersection(term.split())]
    if len(topical) < fit.topics:
        raise BadInputError(f"{len(topical)} terms are too few for {fit.topics} topics.", "Give more texts.")
    factorization = NMF(fit.topics, init="nndsvd", max_iter=300, tol=1e-4, random_state=fit.seed)
    with warnings.catch_warnings():
        # Topics need not be a minimum to the last digit; what they are is stored.
        warnings.simplefilter("ignore", ConvergenceWarning)
        factorization.fit(weights[:, topical])
    topics_KV = np.zeros((fit.topics, len(vocabulary)))
    topics_KV[:, topical] = factorization.components_
    return topics_KV


def _heaviest(topic_V: Float, vocabulary: tuple[str, ...]) -> tuple[str, ...]:
    order = np.argsort(-topic_V, kind="stable")[:TOPIC_TERMS]
    return tuple(vocabulary[i] for i in order if topic_V[i] > 0)


def _correlation(one: Float, other: Float) -> float:
    """Pearson's over the rows that have both; NaN where either does not move."""
    both = np.isfinite(one) & np.isfinite(other)
    x, y = one[both], other[both]
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan
    return float(np.corrcoef(x, y)[0, 1])
