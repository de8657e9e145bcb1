"""KerasHub's backbones, opened: the only module that knows their inside.

KerasHub builds every encoder with one dropout, one epsilon and one activation,
whatever its checkpoint was trained with. Here they are set apart on a built
backbone, and checked for what the rest of the encoders relies on.
"""

import keras
import keras_hub

from tfadv.encoders import activations
from tfadv.errors import InputError


def blocks(backbone: keras.Model) -> list:
    """Returns the `keras_hub.layers.TransformerEncoder`s of a backbone."""
    return [
        layer
        for layer in backbone.layers
        if isinstance(layer, keras_hub.layers.TransformerEncoder)
    ]


def configure(
    backbone: keras.Model,
    activation: str | None = None,
    layer_norm_epsilon: float | None = None,
    hidden_dropout: float | None = None,
    attention_dropout: float | None = None,
) -> None:
    """Sets what KerasHub's constructors cannot be told.

    The backbone's own call computes with it as well. `backbone.get_config()`
    keeps none of it but `hidden_dropout`, as `dropout`.

    Args:
        backbone: built `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`.
        activation: string. The feed-forward layers' activation by its Hugging
            Face name, see `tfadv.encoders.activations.ACTIVATIONS`.
        layer_norm_epsilon: float. The epsilon of every LayerNormalization.
        hidden_dropout: float. The rate after the embeddings, after attention's
            output and after the feed-forward layers.
        attention_dropout: float. The rate for the probabilities of attention.

    `None` leaves each of them as it is.

    Raises:
        InputError: the activation is not supported.

    Example:

    ```python
    configure(backbone, "gelu", 1e-12, 0.1, 0.0)
    ```
    """
    if activation is not None and activation not in activations.ACTIVATIONS:
        raise InputError(
            "unsupported-activation",
            f"expected one of {', '.join(activations.ACTIVATIONS)}, found "
            f"{activation!r}",
            "choose an encoder with one of these",
            argument="encoder",
        )
    if hidden_dropout is not None:
        backbone.dropout = hidden_dropout
        _set_rate(backbone.embeddings_dropout, hidden_dropout)
    if layer_norm_epsilon is not None:
        backbone.embeddings_layer_norm.epsilon = layer_norm_epsilon
    for block in blocks(backbone):
        attention = block._self_attention_layer
        if activation is not None:
            block.activation = activations.ACTIVATIONS[activation]
            block._feedforward_intermediate_dense.activation = block.activation
        if layer_norm_epsilon is not None:
            block.layer_norm_epsilon = layer_norm_epsilon
            block._self_attention_layer_norm.epsilon = layer_norm_epsilon
            block._feedforward_layer_norm.epsilon = layer_norm_epsilon
        if hidden_dropout is not None:
            block.dropout = hidden_dropout
            _set_rate(block._self_attention_dropout, hidden_dropout)
            _set_rate(block._feedforward_dropout, hidden_dropout)
        if attention_dropout is not None:
            # Where its own rate is 0, Keras' attention skips the layer.
            attention._dropout = attention_dropout
            _set_rate(attention._dropout_layer, attention_dropout)


def _set_rate(dropout, rate):
    if rate and not hasattr(dropout, "seed_generator"):
        # Keras makes none where the rate is 0, and then locks the layer.
        dropout._tracker.unlock()
        dropout.seed_generator = keras.random.SeedGenerator(dropout.seed)
        dropout._lock_state()
    dropout.rate = rate


def block_layers(block: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Names the layers that hold a block's weights.

    Args:
        block: `keras_hub.layers.TransformerEncoder`, built.

    Returns:
        dict: `"query"`, `"key"`, `"value"`, `"output"`, `"inner"` and
        `"outer"`, dense layers; `"attention_norm"` and `"feedforward_norm"`.
    """
    attention = block._self_attention_layer
    return {
        "query": attention.query_dense,
        "key": attention.key_dense,
        "value": attention.value_dense,
        "output": attention.output_dense,
        "attention_norm": block._self_attention_layer_norm,
        "inner": block._feedforward_intermediate_dense,
        "outer": block._feedforward_output_dense,
        "feedforward_norm": block._feedforward_layer_norm,
    }
