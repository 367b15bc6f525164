"""Lenses against OpenCV's own formulas, and there and back."""

from __future__ import annotations

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from worldfm_ros.sensor.lens import Equidistant, PlumbBob, RationalPolynomial, make_lens

PRISM = (0.6, 0.05, 5e-4, -3e-4, 0.003, 0.95, 0.2, 0.01, 1e-3, -2e-4, 5e-4, 1e-4)
LENSES = [PlumbBob((-0.28, 0.09, 8e-4, -5e-4, -0.012)), PlumbBob((0.1, -0.02, 1e-3, 2e-3)),
          RationalPolynomial(PRISM[:8]), RationalPolynomial(PRISM), RationalPolynomial((*PRISM, 0.0, 0.0)),
          Equidistant((-0.02, 0.005, -0.002, 3e-4))]
POINTS = np.random.default_rng(0).uniform([-1.0, -0.75], [1.0, 0.75], (500, 2))


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}-{len(lens.D)}")
def test_bends_as_opencv_does(lens):
    rays = np.concatenate([POINTS, np.ones((500, 1))], axis=1)
    project = cv2.fisheye.projectPoints if isinstance(lens, Equidistant) else cv2.projectPoints
    expected, _ = project(rays.reshape(-1, 1, 3), np.zeros(3), np.zeros(3), np.eye(3), np.array(lens.D))
    np.testing.assert_allclose(lens.project(3 * rays), expected[:, 0], atol=1e-12)


@pytest.mark.parametrize("lens", LENSES, ids=lambda lens: f"{lens.model}-{len(lens.D)}")
def test_there_and_back(lens):
    bent = lens.project(np.concatenate([POINTS, np.ones((500, 1))], axis=1))
    rays = lens.unproject(bent)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], POINTS, atol=1e-5)


def test_a_fisheye_sees_behind_itself():
    lens, angle = Equidistant((-0.01, 0.0, 0.0, 0.0)), np.radians(100.0)
    ray = np.array([np.sin(angle), 0.0, np.cos(angle)])
    np.testing.assert_allclose(lens.unproject(lens.project(ray)), ray, atol=1e-6)
    assert lens.project(ray)[0] == pytest.approx(angle - 0.01 * angle**3)


def test_nothing_is_seen_beyond_a_polynomials_turning_point():
    lens = PlumbBob((-0.4, 0.0, 0.0, 0.0, 0.0))  # r (1 - 0.4 r^2) is 0.61 at the most, at r = 0.91
    assert np.isfinite(lens.unproject([0.60, 0.0])).all()
    assert np.isnan(lens.unproject([0.62, 0.0])).all()
    assert np.isnan(lens.project([1.2, 0.0, 1.0])).all() and np.isnan(lens.project([0.1, 0.0, -1.0])).all()
    assert 0.60 < lens.project([lens.widest(), 0.0, 1.0])[0] < 0.61


@settings(max_examples=60)
@given(st.lists(st.floats(-2, 2), min_size=5, max_size=5), st.integers(0, 2**32 - 1))
def test_whatever_comes_back_is_a_solution(D, seed):
    """A point of the picture has the ray that ends there, or none; never another."""
    lens, points = PlumbBob(tuple(D)), np.random.default_rng(seed).uniform(-1.5, 1.5, (50, 2))
    rays = lens.unproject(points)
    seen = np.isfinite(rays).all(axis=1)
    bent = lens.project(rays[seen])
    np.testing.assert_allclose(bent, points[seen], atol=1e-5)


@pytest.mark.parametrize(("model", "D", "message"), [
    ("plumb_bob", [0.1] * 3, "plumb_bob has 4 or 5 coefficients, got 3"),
    ("equidistant", [0.1] * 5, "equidistant has 4 coefficients, got 5"),
    ("rational_polynomial", [0.1] * 14, "tilted sensor"),
    ("rational_polynomial", [float("nan")] * 8, "finite"),
    ("fisheye", [0.1] * 4, "called equidistant"),
    (["plumb_bob"], [], "not supported"),
    ("plumb_bob", ["a"] * 5, "are numbers"),
])
def test_bad_lenses_are_refused(model, D, message):
    with pytest.raises(ValueError, match=message):
        make_lens(model, D)


def test_no_model_and_no_coefficients_is_a_pinhole():
    assert not make_lens("", []).bends and not make_lens("plumb_bob", [0] * 5).bends
    assert make_lens("equidistant", [0] * 4).bends
