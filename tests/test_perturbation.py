"""What is done to delta, on cases that can be computed by hand."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfadv import perturbation

# The first call of an op and a busy machine are no reason to fail.
PATIENT = hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=5)


def floats(shape, largest):
    """Arrays whose squares neither overflow nor underflow float32."""
    values = st.floats(-largest, largest, width=32)
    usual = values.filter(lambda value: value == 0 or abs(value) > 1e-6)
    return arrays.arrays(np.float32, shape, elements=usual)


def norms(delta):
    return np.sqrt((np.asarray(delta, np.float64) ** 2).sum(axis=(1, 2)))


def initialize(mask, dim=4, magnitude=0.6, seed=(1, 2)):
    delta = perturbation.initialize(
        tf.constant(mask), dim, magnitude, tf.constant(seed)
    )
    assert delta.dtype == tf.float32
    assert delta.shape == (*np.shape(mask), dim)
    return delta.numpy()


def step(delta, gradient, mask, step_size=0.5):
    delta = tf.constant(delta, tf.float32)
    gradient = tf.constant(gradient)
    moved = perturbation.step(delta, gradient, tf.constant(mask), step_size)
    assert moved.dtype == tf.float32
    assert moved.shape == delta.shape
    return moved.numpy()


def project(delta, max_norm):
    delta = tf.constant(delta, tf.float32)
    projected = perturbation.project(delta, max_norm)
    assert projected.dtype == tf.float32
    return projected.numpy()


# initialize


def test_magnitude_zero_starts_at_zero_without_a_seed():
    delta = perturbation.initialize(tf.constant([[1, 1, 0]]), 4, 0.0, None)
    np.testing.assert_array_equal(delta, np.zeros([1, 3, 4]))
    assert delta.dtype == tf.float32


def test_entries_are_uniform_in_the_bounds_of_the_real_tokens():
    # 100 and 25 real tokens of 4 dimensions: 0.6 / 20 and 0.6 / 10.
    mask = np.zeros([2, 110], np.int32)
    mask[0, :100] = 1
    mask[1, :25] = 1
    delta = initialize(mask)
    for row, tokens, bound in ((0, 100, 0.03), (1, 25, 0.06)):
        entries = delta[row, :tokens].ravel() / bound
        assert np.abs(entries).max() <= 1 + 1e-6
        assert entries.max() > 0.95
        assert entries.min() < -0.95
        assert abs(entries.mean()) < 0.15
        # A uniform distribution on [-1, 1] has the variance 1/3.
        assert entries.var() == pytest.approx(1 / 3, abs=0.06)


def test_entries_are_a_draw_over_the_root_of_the_size():
    mask = [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]]
    expected = tf.random.stateless_uniform([5, 3, 4], [1, 2], -1.0, 1.0)
    expected = np.transpose(expected, [1, 0, 2]) * 0.6
    expected /= np.sqrt([3 * 4, 1 * 4, 5 * 4])[:, None, None]
    expected *= np.array(mask)[:, :, None]
    np.testing.assert_allclose(initialize(mask), expected, rtol=1e-6)


def test_start_is_linear_in_the_magnitude():
    mask = [[1, 1, 0], [1, 1, 1]]
    np.testing.assert_allclose(
        initialize(mask, magnitude=1.2),
        2 * initialize(mask, magnitude=0.6),
        rtol=1e-6,
    )


def test_expected_norm_does_not_depend_on_the_length():
    lengths = np.repeat([1, 2, 8, 32, 128], 40)
    mask = (np.arange(128) < lengths[:, None]).astype(np.int32)
    found = norms(initialize(mask, dim=16)).reshape(5, 40).mean(axis=1)
    np.testing.assert_allclose(found, 0.6 / np.sqrt(3), rtol=0.05)


def test_padding_starts_at_zero_wherever_it_is():
    mask = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    delta = initialize(mask)
    assert not delta[mask == 0].any()
    assert delta[mask == 1].all()
    assert np.isfinite(delta).all()


@pytest.mark.parametrize("extra", [1, 3, 100, 1000])
def test_longer_padding_changes_no_entry(extra):
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    delta = initialize(mask)
    longer = initialize(np.pad(mask, [(0, 0), (0, extra)]))
    np.testing.assert_array_equal(longer[:, :5], delta)
    assert not longer[:, 5:].any()


def test_seeds_and_examples_have_their_own_draws():
    mask = np.ones([2, 6], np.int32)
    delta = initialize(mask)
    np.testing.assert_array_equal(initialize(mask), delta)
    assert not np.isclose(initialize(mask, seed=(1, 3)), delta).any()
    assert not np.isclose(delta[0], delta[1]).any()


@pytest.mark.parametrize("dtype", [tf.int32, tf.bool, tf.float32, tf.int64])
def test_masks_of_any_type_are_alike(dtype):
    mask = tf.constant([[1, 1, 0], [1, 1, 1]])
    delta = perturbation.initialize(tf.cast(mask, dtype), 4, 0.6, [1, 2])
    np.testing.assert_array_equal(delta, initialize(mask))
    moved = perturbation.step(
        delta, tf.ones_like(delta), tf.cast(mask, dtype), 0.5
    )
    np.testing.assert_array_equal(moved, step(delta, tf.ones_like(delta), mask))


# norm


def test_norm_is_taken_over_all_of_an_example():
    delta = tf.constant([[[1.0, 2.0], [2.0, 4.0]], [[0.0, 0.0], [0.0, -3.0]]])
    np.testing.assert_array_equal(perturbation.norm(delta), [5, 3])


# step


def test_step_adds_the_normalised_gradient():
    delta = [[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]
    gradient = [[[3.0, 0.0], [0.0, -4.0]], [[1.0, 2.0], [2.0, 4.0]]]
    expected = [[[1.3, 0.0], [0.0, 0.6]], [[0.1, 0.2], [0.2, 0.4]]]
    moved = step(delta, gradient, [[1, 1], [1, 1]])
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_step_leaves_padding_out_of_the_norm_and_at_zero():
    delta = np.zeros([1, 3, 2])
    gradient = [[[3.0, 0.0], [100.0, np.nan], [0.0, 4.0]]]
    expected = [[[0.3, 0.0], [0.0, 0.0], [0.0, 0.4]]]
    moved = step(delta, gradient, [[1, 0, 1]])
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [0.0, np.nan, np.inf, -np.inf])
def test_a_gradient_without_a_direction_moves_its_example_alone(bad):
    delta = np.full([2, 2, 2], 0.25, np.float32)
    gradient = np.zeros([2, 2, 2], np.float32)
    gradient[0, 1, 1] = bad
    gradient[1, 0] = [3.0, 4.0]
    moved = step(delta, gradient, np.ones([2, 2], np.int32))
    np.testing.assert_array_equal(moved[0], delta[0])
    np.testing.assert_allclose(moved[1, 0], [0.55, 0.65], rtol=1e-6)
    np.testing.assert_array_equal(moved[1, 1], delta[1, 1])


def test_an_example_of_padding_only_stays_at_zero():
    moved = step(np.zeros([1, 2, 2]), np.ones([1, 2, 2]), [[0, 0]])
    assert not moved.any()


@pytest.mark.parametrize("scale", [1e-33, 1e-30, 1e-10, 1e10, 1e30, 1e37])
def test_scale_of_the_gradient_does_not_matter(scale):
    rng = np.random.default_rng(0)
    delta = rng.normal(size=[3, 4, 5]).astype(np.float32)
    gradient = rng.normal(size=[3, 4, 5])
    # Entries far apart, too.
    gradient[2, 0, 0] = 1e-3
    mask = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])
    expected = step(delta, gradient.astype(np.float32), mask)
    scaled = (gradient * scale).astype(np.float32)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(step(delta, scaled, mask), expected, rtol=1e-5)


def test_a_half_precision_gradient_is_taken_in_float32():
    gradient = tf.constant([[[6e4, 0.0], [0.0, 6e4]]], tf.float16)
    moved = step(np.zeros([1, 2, 2]), gradient, [[1, 1]])
    half = np.sqrt(0.5) / 2
    expected = [[[half, 0.0], [0.0, half]]]
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES)
def test_every_step_is_alpha_long(data, shape):
    gradient = data.draw(floats(shape, 1e6))
    mask = data.draw(arrays.arrays(np.int32, shape[:2], elements=st.just(1)))
    moved = step(np.zeros(shape), gradient, mask, step_size=0.5)
    expected = np.where(np.abs(gradient).max(axis=(1, 2)) > 0, 0.5, 0.0)
    np.testing.assert_allclose(norms(moved), expected, rtol=1e-5)


@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES)
def test_steps_never_leave_zero_at_padding(data, shape):
    gradient = data.draw(
        arrays.arrays(np.float32, shape, elements=st.floats(width=32))
    )
    mask = data.draw(arrays.arrays(np.int32, shape[:2]).map(lambda a: a % 2))
    moved = step(np.zeros(shape), gradient, mask)
    assert np.isfinite(moved).all()
    assert not moved[mask == 0].any()


# project


def test_project_shortens_what_is_too_long_and_nothing_else():
    delta = [[[3.0, 0.0], [0.0, 4.0]], [[0.3, 0.0], [0.0, 0.4]]]
    expected = [[[0.6, 0.0], [0.0, 0.8]], [[0.3, 0.0], [0.0, 0.4]]]
    projected = project(delta, 1.0)
    np.testing.assert_allclose(projected, expected, rtol=1e-6)
    np.testing.assert_array_equal(projected[1], np.float32(delta[1]))


def test_epsilon_zero_is_unlimited():
    delta = np.float32(1e6) * np.ones([2, 3, 4], np.float32)
    np.testing.assert_array_equal(project(delta, 0.0), delta)


def test_zero_projects_to_zero():
    np.testing.assert_array_equal(project(np.zeros([1, 2, 2]), 0.5), 0)


@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES, max_norm=st.floats(1e-3, 1e3))
def test_norm_never_exceeds_epsilon(data, shape, max_norm):
    delta = data.draw(floats(shape, 1e6))
    projected = project(delta, max_norm)
    before, after = norms(delta), norms(projected)
    assert (after <= max_norm * (1 + 1e-6)).all()
    np.testing.assert_allclose(
        after, np.minimum(before, max_norm), rtol=1e-5, atol=1e-12
    )
    # The direction stays.
    scale = np.divide(after, before, where=before > 0, out=np.ones(shape[:1]))
    np.testing.assert_allclose(
        projected, delta * scale[:, None, None], rtol=1e-5
    )


@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES, max_norm=st.floats(0.1, 2))
def test_any_ascent_stays_in_the_ball(data, shape, max_norm):
    mask = data.draw(arrays.arrays(np.int32, shape[:2]).map(lambda a: a % 2))
    delta = initialize(mask, dim=shape[2], magnitude=1.0)
    for _ in range(3):
        gradient = data.draw(
            arrays.arrays(np.float32, shape, elements=st.floats(width=32))
        )
        delta = project(step(delta, gradient, mask), max_norm)
        assert (norms(delta) <= max_norm * (1 + 1e-6)).all()
        assert not delta[mask == 0].any()
