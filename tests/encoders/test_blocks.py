"""The blocks as they are computed here, against KerasHub's own."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tfadv.encoders import activations
from tfadv.encoders.encoder import Encoder

each_family = pytest.mark.parametrize("family", ["albert", "bert"])


@pytest.fixture
def deep_encoder(tmp_path):
    """Builds encoders of several blocks; ALBERT's are two, twice each."""

    def build(family, **options):
        case = next(c for c in checkpoints.ENCODER_CASES if c.family == family)
        sizes = {"albert": [50, 6, 8, 2, 4, 2, 1, 16, 24]}
        sizes["bert"] = [50, 8, 2, 3, 16, 24]
        make = getattr(checkpoints, f"{family}_config")
        config = make(*sizes[family])
        case = checkpoints.Case(family, config, case.seed, batch=1, tokens=1)
        tensors = checkpoints.random_tensors(case)
        checkpoints.write_checkpoint(tmp_path, config, tensors)
        return Encoder.from_pretrained(tmp_path, **options)

    return build


def inputs():
    mask = (np.arange(9) < np.array([[9], [3], [1], [6]])).astype("int32")
    rng = np.random.default_rng(0)
    return {
        "token_ids": rng.integers(5, 50, mask.shape).astype("int32") * mask,
        "segment_ids": np.zeros_like(mask),
        "padding_mask": mask,
    }


def values_and_gradients(encoder, function):
    """Outputs of real tokens, and gradients of something made of them."""
    weights = [v.value for v in encoder.backbone.trainable_weights]
    x = inputs()
    with tf.GradientTape() as tape:
        outputs = function(x)
        hidden = tf.cast(outputs["sequence_output"], tf.float32)
        hidden *= x["padding_mask"][:, :, None].astype("float32")
        loss = tf.reduce_sum(tf.sin(hidden))
        loss += tf.reduce_sum(tf.cast(outputs["pooled_output"], tf.float32))
    gradients = tape.gradient(loss, weights)
    return [hidden, outputs["pooled_output"]], [
        tf.convert_to_tensor(g).numpy() for g in gradients
    ]


@each_family
def test_values_and_all_gradients_are_kerashubs(family, deep_encoder):
    encoder = deep_encoder(family)
    found, gradients = values_and_gradients(encoder, encoder)
    expected, expected_gradients = values_and_gradients(
        encoder, encoder.backbone
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    names = [v.path for v in encoder.backbone.trainable_weights]
    assert len(names) > 30
    for name, one, other in zip(
        names, gradients, expected_gradients, strict=True
    ):
        # Of a key's bias it is 0: what all keys have in common changes nothing.
        scale = max(np.abs(other).max(), 1.0)
        np.testing.assert_allclose(
            one / scale, other / scale, atol=1e-5, err_msg=name
        )


@each_family
@pytest.mark.parametrize("half", ["bfloat16", "float16"])
def test_half_precision_is_near_and_its_sums_are_full(
    family, half, deep_encoder
):
    encoder = deep_encoder(family, dtype=f"mixed_{half}")
    _, found = values_and_gradients(encoder, encoder)
    # Called as a layer, Keras would give the weights in half precision.
    _, again = values_and_gradients(
        encoder, lambda x: encoder.encode(encoder.embed(x), x)
    )
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one, other)
    full = deep_encoder(family)
    _, expected = values_and_gradients(full, full)
    found, expected = (
        np.concatenate([g.ravel() for g in gradients])
        for gradients in (found, expected)
    )
    cosine = expected @ found / np.linalg.norm(expected) / np.linalg.norm(found)
    assert cosine > 0.999


@each_family
def test_padding_is_not_computed(family, deep_encoder, monkeypatch):
    rows = []

    def recording(*args):
        def activation(x):
            rows.append(x.shape[0])
            return tf.nn.relu(x)

        return activation

    monkeypatch.setattr(activations, "fastest", recording)
    encoder = deep_encoder(family)
    x = inputs()
    blocks = encoder.backbone.num_layers
    # Of 36, 19 are real, and 20 are rounded up to 24.
    encoder(x)
    assert rows == [24] * blocks
    rows.clear()
    encoder(x, pooled_only=True)
    assert rows == [24] * (blocks - 1) + [4]


@each_family
@pytest.mark.parametrize("pooled_only", [True, False])
def test_more_padding_and_other_texts_change_nothing(
    family, pooled_only, deep_encoder
):
    encoder = deep_encoder(family)
    x = inputs()
    wider = {k: np.pad(v, [[0, 0], [0, 7]]) for k, v in x.items()}
    fewer = {k: v[1:3, :4] for k, v in x.items()}
    outputs, padded, alone = (
        encoder(batch, pooled_only=pooled_only) for batch in (x, wider, fewer)
    )
    assert outputs.keys() == padded.keys() == alone.keys()
    near = functools.partial(np.testing.assert_allclose, atol=5e-6)
    near(padded["pooled_output"], outputs["pooled_output"])
    near(alone["pooled_output"], outputs["pooled_output"][1:3])
    if not pooled_only:
        hidden = outputs["sequence_output"]
        near(
            padded["sequence_output"], np.pad(hidden, [[0, 0], [0, 7], [0, 0]])
        )
        near(alone["sequence_output"], hidden[1:3, :4])
