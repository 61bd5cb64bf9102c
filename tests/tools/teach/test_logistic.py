"""The last layer's fit: the same weights in fewer coordinates."""

from __future__ import annotations

import numpy as np

from edgeannot_tools.teach.classify.logistic import balanced_weights, fit_logistic, normalized, spanned


def fitted(rows, classes):
    return fit_logistic(rows, classes, balanced_weights(classes, 3), class_count=3, c=10.0, tolerance=1e-4)


def test_no_rows_are_fewer_than_their_numbers_only_where_they_are():
    rows = np.ones((5, 4), np.float32)

    span, same = spanned(rows)

    assert span is None
    assert same is rows


def test_what_rows_span_gives_the_same_weights():
    rng = np.random.default_rng(1)
    classes = np.repeat(np.arange(3), 50)
    rows = normalized(rng.normal(size=(150, 200)) + 3 * np.eye(3, 200)[classes])
    rows[149] = rows[148]  # a picture that is there twice: nothing is in one direction

    span, inside = spanned(rows)

    assert span is not None
    assert inside.shape == (150, 150)
    np.testing.assert_allclose(span.coordinates(rows), inside, atol=1e-2)
    np.testing.assert_allclose(inside @ inside.T, rows @ rows.T, atol=1e-3)
    np.testing.assert_allclose(span.weights(fitted(inside, classes)), fitted(rows, classes), atol=2e-3)
