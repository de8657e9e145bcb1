"""The served encoder computes what the encoder of Keras computes."""

import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tfadv import inference
from tfadv.encoder import Encoder
from tfadv.errors import InputError

CONFIGS = {
    "bert": checkpoints.bert_config(50, 8, 2, 3, 16, 24),
    "bert tanh": checkpoints.bert_config(50, 8, 2, 1, 16, 24, "gelu_new"),
    "albert": checkpoints.albert_config(50, 6, 8, 2, 2, 1, 1, 16, 24),
    # 4 layers: 2 groups, each of 2 layers, that are applied in turn.
    "albert groups": checkpoints.albert_config(
        50, 6, 12, 3, 4, 2, 2, 16, 24, "gelu"
    ),
    "albert relu": checkpoints.albert_config(
        50, 6, 8, 2, 2, 1, 1, 16, 24, "relu"
    ),
}


@pytest.fixture(scope="module", params=CONFIGS)
def encoder(request, tmp_path_factory):
    config = CONFIGS[request.param]
    family = request.param.split()[0]
    case = checkpoints.Case(family, config, seed=1, batch=1, tokens=1)
    folder = checkpoints.write_checkpoint(
        tmp_path_factory.mktemp(family),
        config,
        checkpoints.random_tensors(case),
    )
    return Encoder.from_pretrained(folder)


def batch(lengths, seed=0):
    """Padded random inputs of the given lengths, in two segments."""
    rng = np.random.default_rng(seed)
    shape = [len(lengths), max(lengths)]
    mask = (np.arange(shape[1]) < np.array(lengths)[:, None]).astype(np.int32)
    return {
        "token_ids": rng.integers(0, 50, shape).astype(np.int32) * mask,
        "padding_mask": mask,
        "segment_ids": rng.integers(0, 2, shape).astype(np.int32) * mask,
    }


def frozen_output(encoder, inputs, dtype=tf.float32):
    real = inputs["padding_mask"] > 0
    function = tf.function(inference.FrozenEncoder(encoder, dtype))
    return function(
        tf.constant(inputs["token_ids"][real]),
        tf.constant(inputs["segment_ids"][real]),
        tf.constant(np.argwhere(real).astype(np.int32)),
        tf.constant(real.shape),
    ).numpy()


def test_it_equals_keras_without_the_padding(encoder):
    inputs = batch([5, 1, 9, 3, 16])
    np.testing.assert_allclose(
        frozen_output(encoder, inputs),
        encoder(inputs)["pooled_output"],
        atol=1e-5,
    )


def test_bfloat16_is_near(encoder):
    inputs = batch([5, 1, 9])
    np.testing.assert_allclose(
        frozen_output(encoder, inputs, tf.bfloat16),
        encoder(inputs)["pooled_output"],
        atol=0.1,
    )


def test_places_are_those_of_ragged_rows():
    rows = tf.ragged.constant([[7, 8], [], [9]], dtype=tf.int32)
    positions, shape = inference.places(rows)
    np.testing.assert_array_equal(positions, [[0, 0], [0, 1], [2, 0]])
    np.testing.assert_array_equal(shape, [3, 2])
    positions, shape = inference.places(rows[:0])
    assert positions.shape == (0, 2)
    np.testing.assert_array_equal(shape, [0, 0])


def test_a_layer_that_is_applied_often_is_stored_once(encoder):
    ids = tf.TensorSpec([None], tf.int32)
    graph = (
        tf.function(inference.FrozenEncoder(encoder))
        .get_concrete_function(
            ids,
            ids,
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([2], tf.int32),
        )
        .graph
    )
    weights = sum(int(np.prod(w.shape)) for w in encoder.weights)
    constants = sum(
        int(np.prod(op.outputs[0].shape))
        for op in graph.get_operations()
        if op.type == "Const" and op.outputs[0].shape.rank
    )
    assert weights <= constants <= weights + 400


def test_an_encoder_too_large_for_a_graph_is_refused(tiny_encoder, monkeypatch):
    monkeypatch.setattr(inference, "_LARGEST_GRAPH", 4000)
    with pytest.raises(InputError, match="--precision=bfloat16"):
        inference.FrozenEncoder(tiny_encoder())
    inference.FrozenEncoder(tiny_encoder(), tf.bfloat16)
