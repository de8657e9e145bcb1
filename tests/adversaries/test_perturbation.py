"""What is done to delta, on cases that can be computed by hand."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tfadv.adversaries import perturbation

# The first call of an op and a busy machine are no reason to fail.
PATIENT = hypothesis.settings(max_examples=50, deadline=None, derandomize=True)
SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=5)

each_kind = pytest.mark.parametrize("kind", ["l2", "linf"])


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


# into_ball


def into_ball(delta, radius, kind):
    delta = tf.constant(delta, tf.float32)
    projected = perturbation.into_ball(delta, radius, kind)
    assert projected.dtype == tf.float32
    assert projected.shape == delta.shape
    return projected.numpy()


def radius_of(delta, kind):
    if kind == "l2":
        return norms(delta)
    return np.abs(delta).max(axis=(1, 2))


def test_a_ball_of_entries_clips_them_one_by_one():
    delta = [[[3.0, -0.5], [-4.0, 0.0]], [[0.3, 0.0], [0.0, -0.4]]]
    expected = [[[1.0, -0.5], [-1.0, 0.0]], [[0.3, 0.0], [0.0, -0.4]]]
    projected = into_ball(delta, 1.0, "linf")
    np.testing.assert_array_equal(projected, np.float32(expected))


def test_a_ball_of_norms_is_the_one_of_project():
    delta = np.random.default_rng(0).normal(size=[4, 3, 2])
    np.testing.assert_array_equal(
        into_ball(delta, 1.5, "l2"), project(delta, 1.5)
    )


@each_kind
@pytest.mark.parametrize("radius", [0.0, 0, tf.constant(0.0)])
def test_radius_zero_leaves_zeros(kind, radius):
    delta = [[[3.0, -1e30], [1e-30, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]
    np.testing.assert_array_equal(into_ball(delta, radius, kind), 0)


@each_kind
@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES, radius=st.floats(1e-3, 1e3))
def test_what_is_in_the_ball_stays_there(kind, data, shape, radius):
    delta = data.draw(floats(shape, 1e6))
    projected = into_ball(delta, tf.constant(radius, tf.float32), kind)
    assert (radius_of(projected, kind) <= radius * (1 + 1e-6)).all()
    inside = radius_of(delta, kind) <= radius * (1 - 1e-6)
    np.testing.assert_array_equal(projected[inside], delta[inside])
    again = into_ball(projected, radius, kind)
    np.testing.assert_allclose(again, projected, rtol=1e-6)


@each_kind
@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES, radius=st.floats(0, 1e3))
def test_no_finite_delta_becomes_nan(kind, data, shape, radius):
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
    delta = data.draw(arrays.arrays(np.float32, shape, elements=finite))
    projected = into_ball(delta, radius, kind)
    assert np.isfinite(projected).all()
    assert (radius_of(projected, kind) <= radius * (1 + 1e-6)).all()


# sign_step


def sign_step(delta, gradient, mask, step_size=0.5):
    delta = tf.constant(delta, tf.float32)
    moved = perturbation.sign_step(
        delta, tf.constant(gradient), tf.constant(mask), step_size
    )
    assert moved.dtype == tf.float32
    assert moved.shape == delta.shape
    return moved.numpy()


def test_sign_step_moves_every_entry_by_alpha():
    delta = [[[1.0, 0.0], [0.0, 1.0]]]
    gradient = [[[3.0, -1e-30], [0.0, -1e30]]]
    moved = sign_step(delta, gradient, [[1, 1]])
    np.testing.assert_array_equal(moved, [[[1.5, -0.5], [0.0, 0.5]]])
    moved = sign_step(delta, gradient, [[1, 1]], tf.constant(0.25))
    np.testing.assert_array_equal(moved, [[[1.25, -0.25], [0.0, 0.75]]])


def test_sign_step_takes_a_half_precision_gradient():
    gradient = tf.constant([[[6e4, -6e-8]]], tf.float16)
    moved = sign_step(np.zeros([1, 1, 2]), gradient, [[1]])
    np.testing.assert_array_equal(moved, [[[0.5, -0.5]]])


def test_sign_step_leaves_entries_without_a_sign_where_they_are():
    gradient = [[[np.nan, np.inf, -np.inf, 2.0]]]
    moved = sign_step(np.ones([1, 1, 4]), gradient, [[1]])
    np.testing.assert_array_equal(moved, [[[1.0, 1.5, 0.5, 1.5]]])


@PATIENT
@hypothesis.given(data=st.data(), shape=SHAPES)
def test_sign_steps_never_leave_zero_at_padding(data, shape):
    gradient = data.draw(
        arrays.arrays(np.float32, shape, elements=st.floats(width=32))
    )
    mask = data.draw(arrays.arrays(np.int32, shape[:2]).map(lambda a: a % 2))
    moved = sign_step(np.zeros(shape), gradient, mask)
    assert set(np.unique(moved)) <= {-0.5, 0.0, 0.5}
    assert not moved[mask == 0].any()


# random_in_ball


def random_in_ball(mask, dim=4, radius=0.6, kind="l2", seed=(1, 2)):
    seeds = [[seed[0], seed[1] + 10 * row] for row in range(len(mask))]
    draw = tf.function(perturbation.random_in_ball, autograph=False)
    delta = draw(tf.constant(mask), dim, radius, kind, tf.constant(seeds))
    assert delta.dtype == tf.float32
    assert delta.shape == (*np.shape(mask), dim)
    return delta.numpy()


@each_kind
@pytest.mark.parametrize("radius", [0.0, 1e-3, 0.6, tf.constant(7.0)])
def test_random_points_are_in_the_ball_and_zero_at_padding(kind, radius):
    mask = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    delta = random_in_ball(mask, radius=radius, kind=kind)
    assert np.isfinite(delta).all()
    assert (radius_of(delta, kind) <= float(radius) * (1 + 1e-6)).all()
    assert not delta[mask == 0].any()
    assert (delta[mask == 1] != 0).all() == (float(radius) > 0)


@pytest.mark.parametrize(("tokens", "dim"), [(1, 1), (1, 2), (2, 1), (2, 3)])
def test_the_share_within_a_radius_grows_with_the_dimensions(tokens, dim):
    mask = np.zeros([4000, 5], np.int32)
    mask[:, :tokens] = 1
    delta = random_in_ball(mask, dim, radius=0.6)
    # The radius to the power of the dimensions is uniform in [0, 1].
    shares = np.sort((norms(delta) / 0.6) ** (tokens * dim))
    np.testing.assert_allclose(shares, np.linspace(0, 1, 4000), atol=0.03)
    # No direction is preferred.
    entries = delta[:, :tokens].reshape(4000, -1)
    variance = 0.36 / (tokens * dim + 2)
    np.testing.assert_allclose(
        np.cov(entries.T).reshape(tokens * dim, -1),
        variance * np.eye(tokens * dim),
        atol=0.08 * variance,
    )
    np.testing.assert_allclose(entries.mean(axis=0), 0.0, atol=0.03)


def test_random_points_of_a_cube_are_uniform():
    delta = random_in_ball(np.ones([1000, 2], np.int32), 2, 0.6, "linf")
    entries = np.sort(delta.ravel())
    expected = np.linspace(-0.6, 0.6, entries.size)
    np.testing.assert_allclose(entries, expected, atol=0.03)


@each_kind
@pytest.mark.parametrize("extra", [1, 100])
def test_longer_padding_changes_no_random_point(kind, extra):
    mask = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]])
    delta = random_in_ball(mask, kind=kind)
    longer = np.pad(mask, [(0, 0), (0, extra)])
    longer = random_in_ball(longer, kind=kind)
    # The norm is a sum over more entries.
    np.testing.assert_allclose(longer[:, :5], delta, rtol=1e-6)
    assert not longer[:, 5:].any()


@each_kind
def test_random_points_follow_the_seed_and_scale_with_the_radius(kind):
    mask = np.ones([2, 6], np.int32)
    delta = random_in_ball(mask, kind=kind)
    np.testing.assert_array_equal(random_in_ball(mask, kind=kind), delta)
    other = random_in_ball(mask, kind=kind, seed=(1, 3))
    assert not np.isclose(other, delta).any()
    assert not np.isclose(delta[0], delta[1]).any()
    doubled = random_in_ball(mask, radius=1.2, kind=kind)
    np.testing.assert_allclose(doubled, 2 * delta, rtol=1e-6)


@each_kind
def test_a_random_point_is_told_by_its_examples_seed_alone(kind):
    mask = np.ones([3, 6], np.int32)
    seeds = np.array([[1, 2], [1, 7], [1, 2]])
    delta = perturbation.random_in_ball(mask, 4, 0.6, kind, seeds).numpy()
    np.testing.assert_array_equal(delta[2], delta[0])
    assert not np.isclose(delta[1], delta[0]).any()
