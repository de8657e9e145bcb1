"""In mixed precision the products are half, and what tokens carry is not."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfadv.adversaries.freelb import FreeLB
from tfadv.encoders.encoder import Encoder
from tfadv.update.classifier import AdversarialClassifier

each_family = pytest.mark.parametrize("family", ["albert", "bert"])
each_half = pytest.mark.parametrize("half", ["bfloat16", "float16"])
PRODUCTS = {"Einsum", "BatchMatMulV2", "MatMul"}


def inputs():
    rng = np.random.default_rng(0)
    return {
        "token_ids": rng.integers(5, 50, [3, 6]).astype("int32"),
        "segment_ids": np.zeros([3, 6], "int32"),
        "padding_mask": np.ones([3, 6], "int32"),
    }


def half_precision_layers(encoder):
    return sorted(
        layer.name
        for block in encoder.backbone.layers
        for layer in block._flatten_layers()
        if layer.compute_dtype != "float32"
    )


@each_half
@each_family
def test_the_products_of_the_blocks_are_half(tiny_encoder, family, half):
    encoder = tiny_encoder(family, dtype=f"mixed_{half}")
    assert half_precision_layers(encoder) == [
        "attention_output",
        "feedforward_intermediate_dense",
        "feedforward_output_dense",
        "key",
        "query",
        "self_attention_layer",
        "value",
    ]
    again = Encoder.from_config(encoder.get_config())
    assert half_precision_layers(again) == half_precision_layers(encoder)
    embeddings = encoder.embed(inputs())
    graph = (
        tf.function(lambda: encoder.encode(embeddings, inputs(), training=True))
        .get_concrete_function()
        .graph
    )
    found = [
        op.outputs[0].dtype.name
        for op in graph.get_operations()
        if op.type in PRODUCTS
    ]
    # The pooler and ALBERT's projection of the embeddings are float32.
    assert found.count("float32") == (2 if family == "albert" else 1)
    assert found.count(half) == len(found) - found.count("float32") >= 6


@pytest.mark.parametrize("perturb_at", ["word_embeddings", "embedding_block"])
@each_half
@each_family
def test_a_small_delta_is_not_rounded_away(
    tiny_encoder, family, half, perturb_at
):
    encoder = tiny_encoder(family, dtype=f"mixed_{half}", perturb_at=perturb_at)
    x = inputs()
    embeddings = encoder.embed(x)
    nearest = tf.cast(tf.cast(embeddings, half), "float32")
    perturbed = nearest * (1 + 2.0**-14)
    np.testing.assert_array_equal(
        tf.cast(perturbed, half), tf.cast(nearest, half)
    )
    clean, adversarial = (encoder.encode(e, x) for e in (nearest, perturbed))
    for name, output in clean.items():
        assert output.dtype == "float32"
        assert np.abs(output - adversarial[name]).max() > 0


@each_half
@each_family
def test_a_backbone_made_half_throughout_gives_float32(
    tiny_encoder, family, half
):
    backbone = tiny_encoder(family).backbone
    config = backbone.get_config() | {"dtype": f"mixed_{half}"}
    encoder = Encoder(type(backbone).from_config(config))
    assert {v.dtype.name for v in encoder(inputs()).values()} == {"float32"}


@each_family
def test_dropout_is_the_one_of_float32(tiny_encoder, family):
    """TensorFlow draws a mask in the type of what it drops."""
    gradients = []
    x = inputs()
    for dtype in ("float32", "mixed_bfloat16"):
        classifier = AdversarialClassifier(
            tiny_encoder(family, dropout=0.5, dtype=dtype),
            2,
            adversary=FreeLB(steps=2),
            dropout=0.5,
        )
        for number, state in enumerate(classifier.seed_states()):
            state.assign([number, 0])
        classifier.head.kernel.assign(tf.reshape(tf.range(16.0), [8, 2]) / 16)
        classifier.compile(
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer="sgd",
        )
        pairs = classifier.adversarial_gradients(x, np.array([0, 1, 1]))
        gradients.append(
            np.concatenate([np.ravel(g) for g, _ in pairs.gradients])
        )
    expected, found = gradients
    cosine = expected @ found / np.linalg.norm(expected) / np.linalg.norm(found)
    assert cosine > 0.999
