"""What is set on KerasHub's backbones, and what is read off them."""

import ast
import pathlib
import re

import keras
import numpy as np
import pytest

import tfadv
from tfadv.encoders import blocks, keras_hub_backbones
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError

each_family = pytest.mark.parametrize("family", ["albert", "bert"])


def inputs():
    rng = np.random.default_rng(0)
    return {
        "token_ids": rng.integers(5, 50, [3, 6]).astype("int32"),
        "segment_ids": np.zeros([3, 6], "int32"),
        "padding_mask": np.ones([3, 6], "int32"),
    }


def layers(backbone, kind):
    return [
        layer for layer in backbone._flatten_layers() if isinstance(layer, kind)
    ]


@each_family
def test_every_norm_has_the_epsilon(tiny_encoder, family):
    encoder = tiny_encoder(family)
    keras_hub_backbones.configure(encoder.backbone, layer_norm_epsilon=0.1)
    norms = layers(encoder.backbone, keras.layers.LayerNormalization)
    assert [norm.epsilon for norm in norms] == [0.1] * 3


@each_family
@pytest.mark.parametrize("hidden, attention", [(0.0, 0.5), (0.5, 0.0)])
def test_dropouts_are_set_apart_whatever_they_were(
    tiny_encoder, family, hidden, attention
):
    """With the same seeds, KerasHub's own call drops out the same."""
    encoder = tiny_encoder(family, dropout=0.0)
    backbone = encoder.backbone
    keras_hub_backbones.configure(
        backbone, hidden_dropout=hidden, attention_dropout=attention
    )
    rates = sorted(d.rate for d in layers(backbone, keras.layers.Dropout))
    assert rates == sorted([hidden] * 3 + [attention])
    assert backbone.dropout == hidden
    x = inputs()
    clean = backbone(x)["pooled_output"]
    dropped = [backbone(x, training=True)["pooled_output"] for _ in range(2)]
    for one, other in [dropped, (dropped[0], clean)]:
        assert np.abs(one - other).max() > 1e-4
    keras_hub_backbones.configure(
        backbone, hidden_dropout=0.0, attention_dropout=0.0
    )
    np.testing.assert_allclose(
        backbone(x, training=True)["pooled_output"], clean, atol=1e-6
    )


@each_family
def test_the_activation_is_set(tiny_encoder, family):
    backbone = tiny_encoder(family).backbone
    before = backbone(inputs())["pooled_output"]
    keras_hub_backbones.configure(backbone, activation="relu")
    [block] = keras_hub_backbones.blocks(backbone)
    assert block.activation is keras.activations.relu
    assert np.abs(backbone(inputs())["pooled_output"] - before).max() > 1e-4
    assert keras_hub_backbones.describe(backbone).activation == "relu"


@each_family
def test_what_is_set_is_described_and_computed(tiny_encoder, family):
    backbone = tiny_encoder(family, dropout=0.0).backbone
    keras_hub_backbones.configure(backbone, "relu", 0.1, 0.5, 0.25)
    encoder = Encoder(backbone, "relu", attention_dropout=0.25)
    [block] = encoder.description.blocks
    assert block.attention_norm.epsilon == block.feedforward_norm.epsilon == 0.1
    assert block.attention_dropout.rate == 0.25
    assert block.output_dropout.rate == block.feedforward_dropout.rate == 0.5
    np.testing.assert_allclose(
        encoder(inputs())["pooled_output"],
        backbone(inputs())["pooled_output"],
        atol=1e-5,
    )


@each_family
def test_kerashubs_own_activation_has_a_name(tiny_encoder, family):
    backbone = tiny_encoder(family).backbone
    own = type(backbone).from_config(backbone.get_config())
    assert keras_hub_backbones.describe(own).activation == "gelu_new"


def of_block(path, value):
    """Sets what is behind a path of attributes of the last block."""

    def change(backbone):
        *path_to_owner, name = path.split(".")
        owner = keras_hub_backbones.blocks(backbone)[-1]
        for attribute in path_to_owner:
            owner = getattr(owner, attribute)
        setattr(owner, name, value)

    return change


def without_position_embedding(backbone):
    del backbone.position_embedding


UNKNOWN = {
    "another activation": of_block("activation", keras.activations.relu),
    "an output activation": of_block(
        "_feedforward_output_dense.activation", keras.activations.relu
    ),
    "a scale": of_block("_self_attention_layer._inverse_sqrt_key_dim", 1.0),
    "an axis": of_block("_feedforward_layer_norm.axis", [1]),
    "half residuals": of_block("dtype_policy", "mixed_bfloat16"),
    "half attention": of_block(
        "_self_attention_layer.dtype_policy", "mixed_bfloat16"
    ),
    "a missing layer": without_position_embedding,
}


@each_family
@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_another_backbone_is_refused(tiny_encoder, family, change):
    backbone = tiny_encoder(family).backbone
    keras_hub_backbones.describe(backbone)
    change(backbone)
    with pytest.raises(InputError) as error:
        keras_hub_backbones.describe(backbone)
    assert error.value.code == "unknown-backbone"


@each_family
def test_norms_before_attention_are_refused(tiny_encoder, family):
    backbone = tiny_encoder(family).backbone
    of_block("normalize_first", True)(backbone)
    description = keras_hub_backbones.describe(backbone)
    with pytest.raises(InputError) as error:
        blocks.check_supported(description)
    assert error.value.code == "unsupported-encoder"


def private_names(path):
    """Lists the private members of other objects that a module names.

    Returns:
        `(members, words)`: what it reads of others than `self` and does not
        define itself, and what stands in its strings, as a path may.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own, members, words = {"__name__", "__class__"}, set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            is_self = getattr(node.value, "id", None) in ("self", "cls")
            (own if is_self else members).add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words |= set(re.findall(r"\b_\w+", node.value))
    # Of named tuples, these are public.
    return members - own - {"_replace", "_fields", "_asdict"}, words


def test_no_other_module_names_private_members():
    package = pathlib.Path(tfadv.__file__).parent
    here = pathlib.Path(keras_hub_backbones.__file__)
    known, _ = private_names(here)
    assert {"_self_attention_layer", "_dropout_layer", "_value"} <= known
    for path in sorted(package.rglob("*.py")):
        members, words = private_names(path)
        if path == here:
            continue
        if path.parent != here.parent:
            members &= known
        assert not members | words & known, path
