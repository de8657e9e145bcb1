"""The served encoder computes what the encoder of Keras computes."""

import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tfadv.encoders import frozen
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError

CONFIGS = {
    # Computed in halves of two heads, or of one; three heads are not halved.
    "bert": checkpoints.bert_config(50, 8, 4, 3, 16, 24),
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
    function = tf.function(frozen.FrozenEncoder(encoder.description, dtype))
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
    positions, shape = frozen.places(rows)
    np.testing.assert_array_equal(positions, [[0, 0], [0, 1], [2, 0]])
    np.testing.assert_array_equal(shape, [3, 2])
    positions, shape = frozen.places(rows[:0])
    assert positions.shape == (0, 2)
    np.testing.assert_array_equal(shape, [0, 0])


@pytest.mark.parametrize(
    "lengths", [[16, 15], [16, 16, 16, 16], [7] * 12, [2] * 100]
)
def test_few_and_many_tokens_are_one_computation(encoder, lengths):
    inputs = batch(lengths)
    np.testing.assert_allclose(
        frozen_output(encoder, inputs),
        encoder(inputs)["pooled_output"],
        atol=1e-5,
    )


def test_gaps_in_a_mask_are_padding(encoder):
    inputs = batch([9, 6])
    inputs["padding_mask"][0, 3:5] = 0
    np.testing.assert_allclose(
        frozen_output(encoder, inputs),
        encoder(inputs)["pooled_output"],
        atol=1e-5,
    )


def test_layers_are_stored_once_or_once_for_few_and_many(encoder, monkeypatch):
    layers = encoder.weights
    weights = sum(int(np.prod(w.shape)) for w in layers)
    embeddings = sum(
        int(np.prod(w.shape)) for w in layers if "embedding" in w.path
    )
    assert weights <= constants(encoder, tf.bfloat16) <= weights + 600
    twice = 2 * weights - embeddings
    assert abs(constants(encoder, tf.float32) - twice) <= 600
    monkeypatch.setattr(frozen, "_LARGEST_COPY", 0)
    assert weights <= constants(encoder, tf.float32) <= weights + 600


def constants(encoder, dtype):
    """Counts the numbers in a served encoder's graph and its branches."""
    ids = tf.TensorSpec([None], tf.int32)
    definition = (
        tf.function(frozen.FrozenEncoder(encoder.description, dtype))
        .get_concrete_function(
            ids,
            ids,
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([2], tf.int32),
        )
        .graph.as_graph_def()
    )
    functions = definition.library.function
    nodes = [*definition.node, *(n for f in functions for n in f.node_def)]
    shapes = [
        [d.size for d in node.attr["value"].tensor.tensor_shape.dim]
        for node in nodes
        if node.op == "Const"
    ]
    return sum(int(np.prod(shape)) for shape in shapes if shape)


def test_an_encoder_too_large_for_a_graph_is_refused(tiny_encoder, monkeypatch):
    monkeypatch.setattr(frozen, "_LARGEST_GRAPH", 4000)
    with pytest.raises(InputError) as error:
        frozen.FrozenEncoder(tiny_encoder().description)
    assert error.value.code == "encoder-too-large"
    frozen.FrozenEncoder(tiny_encoder().description, tf.bfloat16)
