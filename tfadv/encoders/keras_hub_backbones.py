"""KerasHub's backbones: the only module that knows their inside.

KerasHub builds every encoder with one dropout, one epsilon and one activation,
whatever its checkpoint was trained with. `configure` sets them one by one.

In mixed precision it rounds sums of residuals 24 times in an encoder of 12
layers, and it rounds delta before anything has read it. A classifier that
cannot yet tell its classes apart then learns later, or never. So `policy` and
`keep_residuals` use half precision only for matrix products and for what lies
between two of them. All that carries a token's vector from block to block stays
float32: embeddings and delta, sums with residuals, LayerNorm, dropout, the
probabilities of attention, and the pooler.
"""

import contextlib
import functools
import math
import operator

import keras
import keras_hub

from tfadv.encoders import activations, description
from tfadv.errors import InputError

# The blocks' names, and those of the layers in them.
_BLOCKS = r"(transformer_layer_\d+|group_\d+_inner_layer_\d+)(/.*)?"


@contextlib.contextmanager
def _known_members():
    """Makes a clear error of a member that a backbone lacks."""
    try:
        yield
    except AttributeError as error:
        raise _unlike("its members", error) from error


def blocks(backbone: keras.Model) -> list[keras.layers.Layer]:
    """Returns the `keras_hub.layers.TransformerEncoder`s of a backbone."""
    kind = keras_hub.layers.TransformerEncoder
    return [layer for layer in backbone.layers if isinstance(layer, kind)]


def policy(
    dtype: str | keras.DTypePolicy | None,
) -> keras.DTypePolicy | keras.dtype_policies.DTypePolicyMap:
    """Returns the policy with which a KerasHub backbone is to be made.

    Args:
        dtype: string or `keras.DTypePolicy`, such as `"mixed_bfloat16"`, or
            `None` for Keras' own.

    Returns:
        The policy, or in mixed precision a map that gives it only to the
        blocks.
    """
    policy = keras.dtype_policies.get(dtype)
    if policy.compute_dtype == policy.variable_dtype:
        return policy
    return keras.dtype_policies.DTypePolicyMap(
        policy.variable_dtype, {_BLOCKS: policy}
    )


@_known_members()
def configure(
    backbone: keras.Model,
    activation: str | None = None,
    layer_norm_epsilon: float | None = None,
    hidden_dropout: float | None = None,
    attention_dropout: float | None = None,
) -> None:
    """Sets what KerasHub's constructors cannot be told.

    The backbone's own call computes with it as well. `backbone.get_config()`
    keeps only `hidden_dropout`, as `dropout`.

    Args:
        backbone: built `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`.
        activation: string. The feed-forward layers' activation by its Hugging
            Face name, see `tfadv.encoders.activations.ACTIVATIONS`. `None`
            leaves it as it is, as for all that follow.
        layer_norm_epsilon: float. The epsilon of every LayerNormalization.
        hidden_dropout: float. The rate after the embeddings, after attention's
            output and after the feed-forward layers.
        attention_dropout: float. The rate for the probabilities of attention.

    Raises:
        InputError: the backbone lacks a member that this sets.

    Example:

    ```python
    backbone = keras_hub.models.BertBackbone(
        vocabulary_size=50,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
    )
    configure(backbone, "gelu", 1e-12, 0.1, 0.0)
    ```
    """
    if hidden_dropout is not None:
        backbone.dropout = hidden_dropout
    _set_rate(backbone.embeddings_dropout, hidden_dropout)
    norms = [backbone.embeddings_layer_norm]
    for block in blocks(backbone):
        norms += [block._self_attention_layer_norm]
        norms += [block._feedforward_layer_norm]
        _set_rate(block._self_attention_dropout, hidden_dropout)
        _set_rate(block._feedforward_dropout, hidden_dropout)
        attention = block._self_attention_layer
        _set_rate(attention._dropout_layer, attention_dropout)
        # Where its own rate is 0, Keras' attention skips the layer.
        attention._dropout = attention._dropout_layer.rate
        if activation is not None:
            block.activation = activations.ACTIVATIONS[activation]
            block._feedforward_intermediate_dense.activation = block.activation
    for norm in norms if layer_norm_epsilon is not None else ():
        norm.epsilon = layer_norm_epsilon


@_known_members()
def keep_residuals(backbone: keras.Model) -> None:
    """Makes a backbone's blocks carry their tokens in the weights' precision.

    Args:
        backbone: KerasHub backbone. The policies of its pooler, its blocks and
            those layers in them that make no matrix product are changed.
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


@_known_members()
def describe(backbone: keras.Model) -> description.EncoderDescription:
    """Describes a backbone: its weights, and the computation with them.

    Args:
        backbone: built `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`, after `configure` and
            `keep_residuals`.

    Returns:
        `EncoderDescription`. Its weights are the backbone's variables.

    Raises:
        InputError: KerasHub has built the backbone in an unknown way.

    Example:

    ```python
    describe(encoder.backbone).order  # (0, 0, 0, 0) for ALBERT of 4 layers
    ```
    """
    found = blocks(backbone)
    activation = found[0].activation
    compute_dtype = found[0]._self_attention_layer.compute_dtype
    order = backbone.transformer_layers
    projection = None
    if hasattr(backbone, "num_groups"):  # ALBERT
        times = backbone.num_layers // backbone.num_groups
        order = [block for group in order for block in group * times]
        projection = _dense(backbone.embeddings_projection)
    pooler = backbone.pooled_dense
    return description.EncoderDescription(
        lookups={
            "token_ids": backbone.token_embedding.embeddings._value,
            "positions": backbone.position_embedding.position_embeddings._value,
            "segment_ids": backbone.segment_embedding.embeddings._value,
        },
        embeddings_norm=_norm(backbone.embeddings_layer_norm),
        blocks=tuple(
            _block(block, backbone, activation, compute_dtype)
            for block in found
        ),
        order=tuple(map(found.index, order)),
        num_heads=backbone.num_heads,
        activation=_activation_name(activation),
        compute_dtype=compute_dtype,
        projection=projection,
        pooler=_dense(pooler, pooler.activation),
        pooler_activation=_activation_name(pooler.activation),
    )


@_known_members()
def block_layers(block: keras.layers.Layer) -> dict[str, keras.layers.Layer]:
    """Names the layers that hold a block's weights.

    Args:
        block: `keras_hub.layers.TransformerEncoder`, built.

    Returns:
        dict from their names in `description.BlockWeights`.
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


def _block(block, backbone, activation, compute_dtype):
    hidden, inner = backbone.hidden_dim, backbone.intermediate_dim
    heads, size = backbone.num_heads, hidden // backbone.num_heads
    layers = block_layers(block)
    shapes = {
        **dict.fromkeys(["query", "key", "value"], (hidden, heads, size)),
        "output": (heads, size, hidden),
        "inner": (hidden, inner),
        "outer": (inner, hidden),
    }
    for name, shape in shapes.items():
        _expect(layers[name], "kernel.shape", shape)
        _expect(layers[name], "compute_dtype", compute_dtype)
    for path, expected in {
        "_self_attention_layer._inverse_sqrt_key_dim": 1 / math.sqrt(size),
        "_self_attention_layer._softmax.compute_dtype": block.variable_dtype,
        "compute_dtype": block.variable_dtype,
        "activation": activation,
    }.items():
        _expect(block, path, expected)
    weights = {
        name: _norm(layer)
        if name.endswith("norm")
        else _dense(layer, activation if name == "inner" else None)
        for name, layer in layers.items()
    }
    return description.BlockWeights(
        **weights,
        norm_first=block.normalize_first,
        attention_dropout=block._self_attention_layer._dropout_layer,
        output_dropout=block._self_attention_dropout,
        feedforward_dropout=block._feedforward_dropout,
    )


def _dense(layer, activation=None):
    _expect(layer, "activation", activation or keras.activations.linear)
    bias = None if layer.bias is None else layer.bias._value
    return description.Dense(layer.kernel._value, bias)


def _norm(layer):
    _expect(layer, "axis", [-1])
    return description.Norm(
        layer.gamma._value, layer.beta._value, layer.epsilon
    )


def _activation_name(function):
    for name, known in activations.ACTIVATIONS.items():
        if function is known:
            return name
    name = getattr(function, "__name__", str(function))
    return "gelu_new" if name == "gelu_approximate" else name


def _expect(layer, path, expected):
    found = operator.attrgetter(path)(layer)
    if found != expected:
        raise _unlike(f"{layer.name}.{path}={expected}", found)


def _unlike(expected, found):
    return InputError(
        "unknown-backbone",
        f"expected a backbone of KerasHub with {expected}, found {found}",
        "install the versions of keras and keras-hub that tfadv requires",
        argument="encoder",
    )


def _set_rate(dropout, rate):
    if rate is None:
        return
    if rate and not hasattr(dropout, "seed_generator"):
        # Keras makes none where the rate is 0, and then locks the layer.
        dropout._tracker.unlock()
        dropout.seed_generator = keras.random.SeedGenerator(dropout.seed)
        dropout._lock_state()
    dropout.rate = rate


def _cast(call, dtype, *args, **kwargs):
    return keras.ops.cast(call(*args, **kwargs), dtype)
