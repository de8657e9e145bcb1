"""KerasHub's backbones, opened: the only module that knows their inside.

KerasHub builds every encoder with one dropout, one epsilon and one activation,
whatever its checkpoint was trained with. Here they are set apart on a built
backbone, and checked for what the rest of the encoders relies on.
"""

import functools
import math

import keras
import keras_hub

from tfadv.encoders import activations
from tfadv.encoders.description import (
    BlockWeights,
    Dense,
    EncoderDescription,
    Norm,
)
from tfadv.errors import InputError


def _members(function):
    """Makes a member that a backbone lacks a clear error."""

    @functools.wraps(function)
    def call(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except AttributeError as error:
            raise _unlike("its members", error) from error

    return call


def blocks(backbone: keras.Model) -> list:
    """Returns the `keras_hub.layers.TransformerEncoder`s of a backbone."""
    return [
        layer
        for layer in backbone.layers
        if isinstance(layer, keras_hub.layers.TransformerEncoder)
    ]


@_members
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


@_members
def keep_residuals(backbone: keras.Model) -> None:
    """Makes a backbone's blocks carry their tokens in the weights' precision.

    See `tfadv.encoders.precision` for why.

    Args:
        backbone: KerasHub backbone. The policies of its pooler, its
            `keras_hub.layers.TransformerEncoder`s and those layers in them
            that make no matrix product are changed.
    """
    pooler = backbone.pooled_dense
    pooler.dtype_policy = pooler.variable_dtype
    for block in blocks(backbone):
        attention = block._self_attention_layer
        half, full = attention.compute_dtype, attention.variable_dtype
        dropout = attention._dropout_layer
        if half == full or dropout.dtype_policy.name == full:
            return
        for layer in (
            block,
            attention._softmax,
            dropout,
            block._self_attention_dropout,
            block._self_attention_layer_norm,
            block._feedforward_dropout,
            block._feedforward_layer_norm,
        ):
            layer.dtype_policy = full
        # The probabilities are multiplied with half-precision values.
        dropout.call = functools.partial(_cast, dropout.call, half)


@_members
def describe(backbone: keras.Model) -> EncoderDescription:
    """Describes a backbone: its weights, and what is computed with them.

    Args:
        backbone: built `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`, after `configure` and
            `keep_residuals`.

    Returns:
        `EncoderDescription`. Its weights are the backbone's variables.

    Raises:
        InputError: the backbone is not built as its KerasHub class was when
            this was written.

    Example:

    ```python
    describe(encoder.backbone).order  # (0, 0, 0, 0) for ALBERT of 4 layers
    ```
    """
    found = blocks(backbone)
    order = backbone.transformer_layers
    projection = None
    if hasattr(backbone, "num_groups"):  # ALBERT
        times = backbone.num_layers // backbone.num_groups
        order = [block for group in order for block in group * times]
        projection = _dense(backbone.embeddings_projection)
    pooler = backbone.pooled_dense
    [compute_dtype] = {b._self_attention_layer.compute_dtype for b in found}
    [activation] = {_activation_name(block.activation) for block in found}
    return EncoderDescription(
        lookups={
            "token_ids": backbone.token_embedding.embeddings._value,
            "positions": backbone.position_embedding.position_embeddings._value,
            "segment_ids": backbone.segment_embedding.embeddings._value,
        },
        embeddings_norm=_norm(backbone.embeddings_layer_norm),
        blocks=tuple(map(_block, found)),
        order=tuple(map(found.index, order)),
        num_heads=backbone.num_heads,
        activation=activation,
        compute_dtype=compute_dtype,
        projection=projection,
        pooler=_dense(pooler, pooler.activation),
        pooler_activation=_activation_name(pooler.activation),
    )


@_members
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


def _block(block):
    layers = block_layers(block)
    attention = block._self_attention_layer
    inputs = layers["query"].kernel.shape[0]
    heads, size = attention.num_heads, attention.key_dim
    kernels = [layers[name].kernel.shape for name in ("query", "key", "value")]
    _expect(block, "kernels", kernels, [(inputs, heads, size)] * 3)
    kernel = layers["output"].kernel.shape
    _expect(block, "an output kernel", kernel, (heads, size, inputs))
    scale = attention._inverse_sqrt_key_dim
    _expect(block, "attention's scale", scale, 1 / math.sqrt(size))
    for kind in ("_use_gate", "_sliding_window"):
        _expect(block, kind, getattr(attention, kind, None) or None, None)
    carried = block.compute_dtype, attention._softmax.compute_dtype
    _expect(block, "residuals", carried, (block.variable_dtype,) * 2)
    return BlockWeights(
        norm_first=block.normalize_first,
        attention_dropout=attention._dropout_layer,
        output_dropout=block._self_attention_dropout,
        feedforward_dropout=block._feedforward_dropout,
        **{
            name: _norm(layer)
            if name.endswith("norm")
            else _dense(layer, block.activation if name == "inner" else None)
            for name, layer in layers.items()
        },
    )


def _dense(layer, activation=None):
    expected = activation or keras.activations.linear
    _expect(layer, "the activation", layer.activation, expected)
    bias = None if layer.bias is None else layer.bias._value
    return Dense(layer.kernel._value, bias)


def _norm(layer):
    _expect(layer, "axes", list(layer.axis), [-1])
    _expect(layer, "rms_scaling", layer.rms_scaling, False)
    return Norm(layer.gamma._value, layer.beta._value, layer.epsilon)


def _activation_name(function):
    for name, known in activations.POOLERS.items():
        if function is known:
            return name
    name = getattr(function, "__name__", str(function))
    return "gelu_new" if name == "gelu_approximate" else name


def _expect(layer, what, found, expected):
    if found != expected:
        raise _unlike(f"{what} {expected} in {layer.name}", found)


def _unlike(expected, found):
    return InputError(
        "unknown-backbone",
        f"expected a backbone of KerasHub with {expected}, found {found}",
        "install the versions of keras and keras-hub that tfadv requires",
        argument="encoder",
    )


def _set_rate(dropout, rate):
    if rate and not hasattr(dropout, "seed_generator"):
        # Keras makes none where the rate is 0, and then locks the layer.
        dropout._tracker.unlock()
        dropout.seed_generator = keras.random.SeedGenerator(dropout.seed)
        dropout._lock_state()
    dropout.rate = rate


def _cast(call, dtype, *args, **kwargs):
    return keras.ops.cast(call(*args, **kwargs), dtype)
