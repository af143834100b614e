"""An accuracy and its standard error."""

from __future__ import annotations

import pytest

from export.accuracy import show_accuracy, standard_error


def test_the_standard_error() -> None:
    assert standard_error(0.8, 1600) == pytest.approx(0.01)


def test_an_accuracy_is_shown_with_its_standard_error_in_points() -> None:
    assert show_accuracy(0.8325, 0.0079) == "83.25% ± 0.79"
    assert show_accuracy(0.8325) == "83.25%"
    assert show_accuracy(None) == "–"
