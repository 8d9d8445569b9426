"""The text model agrees with scikit-learn, text by text, and comes back from disk with the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import NMF
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from features.alternative.text import CLASSES, TextModel
from features.alternative.text_artifact import load_text, save_text
from features.alternative.tokens import terms, words
from features.errors import ArtifactError, BadInputError

SUBJECTS = ("bitcoin", "ether", "miners", "the bank", "an exchange", "regulators", "doesn't matter: traders", "café")
VERBS = ("rallies", "crashes", "holds", "surges", "falls", "waits", "wins", "loses")
OBJECTS = ("after fork", "on good news", "on bad news", "in heavy trading", "as fees rise", "before the vote", "today")

CORPUS = [f"{s} {v} {o}, {s} {v}" for s in SUBJECTS for v in VERBS for o in OBJECTS]
LABELS = [CLASSES[(len(v) + len(o)) % 3] for _ in SUBJECTS for v in VERBS for o in OBJECTS]


@pytest.fixture(scope="module")
def vectorizer() -> TfidfVectorizer:
    made = TfidfVectorizer(
        tokenizer=words, token_pattern=None, lowercase=False, ngram_range=(1, 2), sublinear_tf=True, min_df=2
    )
    return made.fit(CORPUS)


@pytest.fixture(scope="module")
def classifier(vectorizer: TfidfVectorizer) -> LogisticRegression:
    return LogisticRegression(C=10, max_iter=5_000).fit(vectorizer.transform(CORPUS), LABELS)


@pytest.fixture(scope="module")
def factorization(vectorizer: TfidfVectorizer) -> NMF:
    return NMF(4, init="nndsvda", max_iter=100_000, tol=1e-13, random_state=0).fit(vectorizer.transform(CORPUS))


@pytest.fixture(scope="module")
def model(vectorizer: TfidfVectorizer, classifier: LogisticRegression, factorization: NMF) -> TextModel:
    return TextModel(
        tuple(vectorizer.get_feature_names_out()),
        vectorizer.idf_,
        classifier.coef_,
        classifier.intercept_,
        np.ascontiguousarray(factorization.components_, dtype=np.float64),
        (("a",),) * 4,
    )


SENTENCES = st.lists(st.sampled_from((*SUBJECTS, *VERBS, *OBJECTS, "unseen", "Bitcoin", "!!")), max_size=12).map(
    " ".join
)


@settings(max_examples=150, deadline=None)
@given(text=SENTENCES)
def test_weights_probabilities_and_topics_are_those_of_scikit_learn(
    text: str, model: TextModel, vectorizer: TfidfVectorizer, classifier: LogisticRegression, factorization: NMF
) -> None:
    theirs = vectorizer.transform([text])
    weights = model.tfidf(text)
    ours = np.zeros(theirs.shape[1])
    ours[[index for index, _ in weights]] = [weight for _, weight in weights]
    np.testing.assert_allclose(ours, theirs.toarray()[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(model.probabilities(weights), classifier.predict_proba(theirs)[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(model.loadings(weights), factorization.transform(theirs)[0], rtol=0, atol=1e-9)
    polarity, topics = model.read(text)
    if not weights:
        assert math.isnan(polarity)
        assert topics == ()
        return
    negative, _, positive = classifier.predict_proba(theirs)[0]
    assert polarity == pytest.approx(positive - negative, abs=1e-9)
    assert not topics or sum(topics) == pytest.approx(1.0, abs=1e-12)


def test_loadings_meet_the_conditions_of_a_minimum(model: TextModel) -> None:
    for text in CORPUS[::37]:
        weights = model.tfidf(text)
        x = np.zeros(len(model.vocabulary))
        x[[index for index, _ in weights]] = [weight for _, weight in weights]
        h = np.array(model.loadings(weights))
        slope = model.topics_KV @ (h @ model.topics_KV - x)
        assert (h >= 0).all()
        assert (slope > -1e-11).all(), "no loading gains by growing"
        assert np.abs(slope[h > 0]).max() < 1e-11, "nor by shrinking"


def test_a_polarity_by_hand() -> None:
    model = TextModel(
        ("good", "good news", "news"),
        np.array([1.0, 2.0, 1.0]),
        np.array([[-1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 0.0]]),
        np.zeros(3),
        np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]),
        (("good",), ("news",)),
    )
    x = 1 / math.sqrt(6)  # of "good" and of "news"; "good news" weighs twice that
    low, high = math.exp(-x), math.exp(3 * x)
    polarity, topics = model.read("GOOD   news!")
    assert polarity == pytest.approx((high - low) / (high + low + 1), abs=1e-15)
    assert topics == pytest.approx((0.5, 0.5), abs=1e-15)


def test_words_are_lower_case_with_apostrophes_of_one_kind() -> None:
    assert words("Bitcoin doesn’t FALL 5%, it's-fine…") == ["bitcoin", "doesn't", "fall", "5", "it's", "fine"]
    assert terms("a b c") == ["a", "b", "c", "a b", "b c"]
    assert terms("") == words("!? \n") == []


def test_on_disk_it_is_the_same_model(model: TextModel, tmp_path: Path) -> None:
    manifest = save_text(tmp_path / "text", model, seed=0, metrics={}, data={})
    again = load_text(tmp_path / "text")
    assert manifest.version == model.version == again.version
    assert [again.read(text) for text in CORPUS[:50]] == [model.read(text) for text in CORPUS[:50]]
    assert {path.suffix for path in (tmp_path / "text").iterdir()} == {".json", ".safetensors", ".txt"}


def test_the_version_names_the_coefficients(model: TextModel) -> None:
    other = TextModel(
        model.vocabulary, model.idf_V, model.coefficients_CV * 2, model.intercepts_C, model.topics_KV, model.topic_terms
    )
    assert other.version != model.version


def test_a_damaged_model_is_refused(model: TextModel, tmp_path: Path) -> None:
    save_text(tmp_path / "text", model, seed=0, metrics={}, data={})
    vocabulary = tmp_path / "text" / "vocabulary.txt"
    vocabulary.write_text(vocabulary.read_text().replace("bitcoin", "bitc0in"))
    with pytest.raises(ArtifactError, match="damaged"):
        load_text(tmp_path / "text")


def test_shapes_that_do_not_fit_are_refused(model: TextModel) -> None:
    with pytest.raises(BadInputError, match="idf of a text model"):
        TextModel(
            model.vocabulary,
            model.idf_V[:-1],
            model.coefficients_CV,
            model.intercepts_C,
            model.topics_KV,
            model.topic_terms,
        )
    with pytest.raises(BadInputError, match="repeats terms"):
        TextModel(
            (model.vocabulary[1], *model.vocabulary[1:]),
            model.idf_V,
            model.coefficients_CV,
            model.intercepts_C,
            model.topics_KV,
            model.topic_terms,
        )
