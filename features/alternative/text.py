"""The text model: polarity and topics of one text, with the same bits whatever else is read beside it.

TF-IDF over words and pairs of words, a multinomial logistic regression, and non-negative matrix factorization. They
are fitted with scikit-learn (:mod:`features.alternative.fit_text`) and evaluated here in plain Python, term by term in
the order of the vocabulary: matrix products would round differently for other batches (DESIGN 3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Final

import numpy as np

from features.alternative.tokens import TOKEN, terms
from features.errors import BadInputError
from features.manifest import content_hash, plain
from features.protocols import Float

CLASSES: Final = ("negative", "neutral", "positive")

MAX_SWEEPS: Final = 2_000
TOLERANCE: Final = 1e-14


class TextModel:
    """Reads texts.

    Args:
        vocabulary: the V terms, distinct and in the order of their columns.
        idf_V: inverse document frequency of each, positive.
        coefficients_CV, intercepts_C: of the classes ``CLASSES``.
        topics_KV: the topics as non-negative weights of terms.
        topic_terms: per topic its heaviest terms, for people.

    Raises:
        BadInputError: the shapes do not fit, a number is not finite, or a weight is negative.
    """

    def __init__(
        self,
        vocabulary: tuple[str, ...],
        idf_V: Float,
        coefficients_CV: Float,
        intercepts_C: Float,
        topics_KV: Float,
        topic_terms: tuple[tuple[str, ...], ...],
    ) -> None:
        self.vocabulary = vocabulary
        self.idf_V, self.topics_KV = idf_V, topics_KV
        self.coefficients_CV, self.intercepts_C = coefficients_CV, intercepts_C
        self.topic_terms = topic_terms
        self._require_shapes()
        self._index = {term: index for index, term in enumerate(vocabulary)}
        self._idf = idf_V.tolist()
        self._coefficients = list(map(tuple, coefficients_CV.T.tolist()))
        self._intercepts = intercepts_C.tolist()
        self._topics = list(map(tuple, topics_KV.T.tolist()))
        self._gram = _gram(topics_KV)

    def read(self, text: str) -> tuple[float, tuple[float, ...]]:
        """Polarity P(positive) - P(negative), and K topic weights that sum to 1.

        A text without a known term has polarity NaN: the classifier's answer would be its prior, not the text's. The
        topics are empty where none of the topics' terms occurs.
        """
        weights = self.tfidf(text)
        if not weights:
            return math.nan, ()
        negative, _, positive = self.probabilities(weights)
        loadings = self.loadings(weights)
        total = _sum(loadings)
        return positive - negative, tuple(each / total for each in loadings) if total > 0.0 else ()

    def tfidf(self, text: str) -> list[tuple[int, float]]:
        """(index, weight) of the known terms by index: (1 + ln n) idf, divided by the Euclidean norm.

        n is how often a term occurs. Salton and Buckley 1988, with the sublinear frequency.
        """
        counts = Counter(index for term in terms(text) if (index := self._index.get(term)) is not None)
        raw = [(index, (1.0 + math.log(counts[index])) * self._idf[index]) for index in sorted(counts)]
        norm = math.sqrt(_sum([weight * weight for _, weight in raw]))
        return [(index, weight / norm) for index, weight in raw]

    def probabilities(self, weights: list[tuple[int, float]]) -> tuple[float, float, float]:
        """Of ``CLASSES``: exp(z_c) / sum exp(z), z_c = intercept_c + sum_v coefficient_cv weight_v."""
        z0, z1, z2 = self._intercepts
        for index, weight in weights:
            c0, c1, c2 = self._coefficients[index]
            z0, z1, z2 = z0 + c0 * weight, z1 + c1 * weight, z2 + c2 * weight
        top = max(z0, z1, z2)
        e0, e1, e2 = math.exp(z0 - top), math.exp(z1 - top), math.exp(z2 - top)
        total = e0 + e1 + e2
        return e0 / total, e1 / total, e2 / total

    def loadings(self, weights: list[tuple[int, float]]) -> list[float]:
        """h >= 0 that minimizes ||x - h H||^2 over the topics H: cyclic coordinate descent until nothing moves.

        Each step is exact: h_k <- max(0, h_k + (x . H_k - h . G_k) / G_kk) with G = H H'. The order is fixed, so are
        the bits. Lee and Seung 1999; Cichocki and Phan 2009, algorithm 2 (HALS).
        """
        gram, loadings = self._gram, [0.0] * len(self._gram)
        target = [_sum([weight * self._topics[index][k] for index, weight in weights]) for k in range(len(gram))]
        if not any(target):
            return loadings
        for _ in range(MAX_SWEEPS):
            moved = 0.0
            for k, row in enumerate(gram):
                if row[k] > 0.0:
                    rest = target[k] - _sum([g * h for g, h in zip(row, loadings, strict=True)])
                    following = max(0.0, loadings[k] + rest / row[k])
                    moved = max(moved, abs(following - loadings[k]))
                    loadings[k] = following
            if moved <= TOLERANCE * max(loadings):
                break
        return loadings

    @cached_property
    def version(self) -> str:
        """The first 12 hex digits of the hash of all that decides what it reads."""
        return content_hash("text", "", plain(self.settings), self.tensors, self.texts)[:12]

    @property
    def settings(self) -> Mapping[str, Any]:
        """What an artifact stores of it beside arrays and texts."""
        return {"classes": CLASSES, "token": TOKEN, "topic_terms": self.topic_terms}

    @property
    def tensors(self) -> Mapping[str, np.ndarray]:
        """Its arrays."""
        return {
            "idf": self.idf_V,
            "coefficients": self.coefficients_CV,
            "intercepts": self.intercepts_C,
            "topics": self.topics_KV,
        }

    @property
    def texts(self) -> Mapping[str, str]:
        """Its vocabulary, a term a line."""
        return {"vocabulary": "\n".join(self.vocabulary)}

    def _require_shapes(self) -> None:
        size, classes, topics = len(self.vocabulary), len(CLASSES), len(self.topics_KV)
        expected = {"idf": (size,), "coefficients": (classes, size), "intercepts": (classes,), "topics": (topics, size)}
        for name, array in self.tensors.items():
            if array.shape != expected[name] or array.dtype != np.float64 or not np.isfinite(array).all():
                raise BadInputError(
                    f"{name} of a text model is {array.dtype} of shape {array.shape}.",
                    f"Expected finite float64 of shape {expected[name]}.",
                )
        if len(set(self.vocabulary)) != size or (self.idf_V <= 0).any() or (self.topics_KV < 0).any():
            raise BadInputError("A text model repeats terms or has negative weights.", "Fit it again.")


def _gram(topics_KV: Float) -> list[list[float]]:
    rows = topics_KV.tolist()
    return [[_sum([a * b for a, b in zip(one, other, strict=True)]) for other in rows] for one in rows]


def _sum(values: list[float]) -> float:
    """From left to right; ``sum`` compensates since Python 3.12, which other versions do not."""
    total = 0.0
    for value in values:
        total += value
    return total
