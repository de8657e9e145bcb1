"""Our Adam is Keras' Adam; the learning rate rises, then falls."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfadv.training.optimizers import Adam
from tfadv.training.schedules import LinearDecayWithWarmup


def trained(make, scaled=False, **options):
    """Weights and optimizer state after a few updates of a small model."""
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input([], dtype="int32"),
            keras.layers.Embedding(11, 4),
            keras.layers.Dense(2),
        ]
    )
    rate = keras.optimizers.schedules.PolynomialDecay(1e-2, 6, 1e-3)
    optimizer = make(rate, **options)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 48), rng.integers(0, 2, 48)
    model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    return [v.numpy() for v in [*model.weights, *optimizer.variables]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"epsilon": 1e-3, "beta_1": 0.8, "beta_2": 0.98},
        {"weight_decay": 0.1},
        {"clipnorm": 0.01},
        {"global_clipnorm": 0.01},
        {"use_ema": True, "ema_momentum": 0.5},
    ],
)
def test_equals_keras(options):
    for ours, theirs in zip(
        trained(Adam, **options),
        trained(keras.optimizers.Adam, **options),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)


def test_equals_keras_with_a_scaled_loss():
    for ours, theirs in zip(
        trained(Adam, scaled=True),
        trained(keras.optimizers.Adam, scaled=True),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)


def test_one_update_by_hand():
    weight = keras.Variable([1.0, -2.0])
    optimizer = Adam(0.1, beta_1=0.5, beta_2=0.75, epsilon=1.0)
    optimizer.build([weight])
    optimizer.apply([tf.constant([4.0, 0.0])])
    # m = 2, v = 4, both corrected: 4 and 16; epsilon adds to the raw root.
    # 0.1 * sqrt(1 - 0.75) / (1 - 0.5) * 2 / (sqrt(4) + 1)
    np.testing.assert_allclose(weight.numpy(), [1.0 - 0.2 / 3, -2.0], rtol=1e-6)


def test_comes_back_from_its_config():
    optimizer = keras.optimizers.deserialize(
        keras.optimizers.serialize(Adam(3e-4, epsilon=1e-6))
    )
    assert isinstance(optimizer, Adam)
    assert optimizer.epsilon == 1e-6


def test_amsgrad_is_refused():
    with pytest.raises(ValueError, match="amsgrad"):
        Adam(amsgrad=True)


def test_the_learning_rate_rises_then_falls():
    rate = LinearDecayWithWarmup(2.0, warmup_steps=4, total_steps=10)
    values = [float(rate(step)) for step in range(12)]
    np.testing.assert_allclose(values[:5], [0.4, 0.8, 1.2, 1.6, 2.0], 1e-6)
    np.testing.assert_allclose(values[5:10], np.arange(5, 0, -1) / 3, 1e-6)
    assert values[10] == values[11] == 0.0
    with pytest.raises(ValueError, match="warmup_steps"):
        LinearDecayWithWarmup(1.0, warmup_steps=10, total_steps=10)
