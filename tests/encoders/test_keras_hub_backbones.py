"""What is set on KerasHub's backbones, and what is read off them."""

import keras
import numpy as np
import pytest

from tfadv.encoders import keras_hub_backbones
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
    with pytest.raises(InputError) as error:
        keras_hub_backbones.configure(backbone, activation="swish")
    assert error.value.code == "unsupported-activation"
