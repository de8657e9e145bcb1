"""The served encoder computes what the encoder of Keras computes."""

import collections
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.framework import test_util

from tests import checkpoints
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.export import frozen

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


FUSED = {"gelu": "GeluExact", "gelu_new": "GeluApproximate", "relu": "Relu"}
# Batches differ in their sizes: no size is known when the graph is made.
IDS = tf.TensorSpec([None], tf.int32)
SIGNATURE = [
    IDS,
    IDS,
    tf.TensorSpec([None, 2], tf.int32),
    tf.TensorSpec([2], tf.int32),
]
each_dtype = pytest.mark.parametrize(
    "dtype", [tf.float32, tf.bfloat16], ids=lambda dtype: dtype.name
)


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


def frozen_output(encoder, inputs, dtype=tf.float32, parts=2):
    real = inputs["padding_mask"] > 0
    function = tf.function(
        frozen.FrozenEncoder(encoder.description, dtype, parts)
    )
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


def test_bfloat16_is_what_its_rounded_matrices_give(encoder):
    inputs = batch([5, 1, 9, 3, 16, 7, 2, 11])
    found = frozen_output(encoder, inputs, tf.bfloat16)
    matrices = [w for w in encoder.backbone.weights if "norm" not in w.path]
    exact = [w.numpy() for w in matrices]
    for weight, value in zip(matrices, exact, strict=True):
        weight.assign(tf.cast(tf.cast(value, tf.bfloat16), tf.float32))
    expected = encoder(inputs)["pooled_output"]
    for weight, value in zip(matrices, exact, strict=True):
        weight.assign(value)
    # What is left are roundings between the products, of 8 bits.
    difference = found - expected
    assert np.sqrt(np.mean(np.square(difference))) < 5e-3
    assert np.abs(difference).max() < 2e-2


@each_dtype
@pytest.mark.parametrize("lengths", [[5, 1, 9], [16] * 8])
def test_one_part_and_two_give_the_same(encoder, dtype, lengths):
    inputs = batch(lengths)
    whole, halves = (
        frozen_output(encoder, inputs, dtype, parts) for parts in (1, 2)
    )
    atol = {tf.float32: 1e-6, tf.bfloat16: 2e-2}[dtype]
    np.testing.assert_allclose(whole, halves, atol=atol)


def test_parts_of_a_block_are_its_matrices(encoder):
    weights = encoder.description.blocks[0]
    arrays = tf.nest.map_structure(
        lambda x: x.numpy() if isinstance(x, tf.Variable) else x, weights
    )
    heads = encoder.description.num_heads
    number = math.gcd(heads, encoder.description.inner_dim)
    [whole], parts = (frozen.split(arrays, n) for n in (1, number))
    assert len(parts) == number
    size = encoder.hidden_dim // number
    kernel = whole.into_heads.kernel.reshape(-1, 3, number, size)
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(
            part.into_heads.kernel, kernel[:, :, i].reshape(-1, 3 * size)
        )
    for name, axis in [("output", 0), ("inner", 1), ("outer", 0)]:
        joined = [getattr(part, name).kernel for part in parts]
        np.testing.assert_array_equal(
            np.concatenate(joined, axis), getattr(whole, name).kernel
        )
    for name in ("output", "outer"):
        np.testing.assert_array_equal(
            sum(getattr(part, name).bias for part in parts),
            getattr(whole, name).bias,
        )


@pytest.mark.parametrize(
    "cores, threads, gpus, parts",
    [
        (1, 0, 0, 1),
        (2, 0, 0, 2),
        (64, 0, 0, 2),
        (1, 2, 0, 2),
        (2, 1, 0, 1),
        (2, 0, 1, 1),
    ],
)
def test_parts_follow_the_threads_that_serve(
    monkeypatch, cores, threads, gpus, parts
):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(
        tf.config.threading,
        "get_inter_op_parallelism_threads",
        lambda: threads,
    )
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda _: ["GPU"] * gpus
    )
    assert frozen.best_parts() == parts


@pytest.mark.skipif(
    not test_util.IsMklEnabled(), reason="TensorFlow runs without oneDNN"
)
@each_dtype
@pytest.mark.parametrize("parts", [1, 2])
def test_what_tensorflow_fuses(encoder, dtype, parts):
    """A form of the same values that it does not know would be slower."""
    served = frozen.FrozenEncoder(encoder.description, dtype, parts)
    parts = served.parts
    nodes = optimized_nodes(served)
    found = collections.Counter(node.op for node in nodes)
    calls = len(encoder.description.order)
    # Few and many tokens are computed apart; the pooler is not.
    branches = 2 if dtype == tf.float32 else 1
    projections = 0 if encoder.description.projection is None else 1
    # Of the matrices out of all parts, one has a bias.
    with_bias = calls * (2 * parts + 2) + projections
    assert found["_MklNativeFusedMatMul"] == branches * with_bias + 1
    assert found["_MklMatMul"] == branches * calls * 2 * (parts - 1)
    for op in ("_MklFusedBatchMatMulV2", "_MklSoftmax", "_MklBatchMatMulV2"):
        assert found[op] == branches * calls * parts, op
    norms = found["_MklLayerNorm"] + found["_MklNativeFusedBatchNormV3"]
    assert norms == 2 * calls + 1
    fused_last = collections.Counter(
        node.attr["fused_ops"].list.s[-1].decode()
        for node in nodes
        if node.op == "_MklNativeFusedMatMul"
    )
    activation = FUSED[encoder.description.activation]
    assert fused_last[activation] == branches * calls * parts
    assert fused_last["Tanh"] == 1
    if parts == 1 and dtype == tf.float32:
        assert fused_last["Add"] == branches * calls * 2  # the residuals
    assert not {"MatMul", "BatchMatMulV2", "Softmax", "BiasAdd"} & found.keys()


def optimized_nodes(served):
    """Runs a served encoder; returns its graph's nodes as they ran."""
    function = tf.function(served, input_signature=SIGNATURE)
    real = np.ones([13, 8], bool)
    ids = np.zeros(real.size, np.int32)
    places = np.argwhere(real).astype(np.int32)
    context.enable_run_metadata()
    function(ids, ids, places, real.shape)
    metadata = context.export_run_metadata()
    context.disable_run_metadata()
    # The graphs before it are those of other, eager operations.
    [graph] = metadata.function_graphs[-1].partition_graphs
    return graph.node


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
    served = frozen.FrozenEncoder(encoder.description, dtype)
    definition = (
        tf.function(served, input_signature=SIGNATURE)
        .get_concrete_function()
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
