"""A pretrained KerasHub backbone, opened at its word embeddings."""

import os
from collections.abc import Callable
from typing import Any, Protocol, Self

import keras
import keras_hub
import tensorflow as tf

from tfadv.encoders import activations, blocks, families, keras_hub_backbones
from tfadv.encoders.packing import Packing
from tfadv.sources import names
from tfadv.sources.checkpoint import Checkpoint
from tfadv.sources.families import family_of, settings_of

# Where the backbone is opened: the layer whose output delta is added to.
_OPENINGS = {
    "word_embeddings": "token_embedding",
    "embedding_block": "embeddings_dropout",
}
_Value = str | os.PathLike | None


class _Tokenizer(Protocol):
    def check_fits(
        self, positions: int, rows: int, argument: str, value: _Value, /
    ) -> None: ...


@keras.saving.register_keras_serializable(package="tfadv")
class Encoder(keras.layers.Layer):
    """A text encoder in two halves: word embeddings, and all that follows.

    The halves share their weights with `backbone`, and one after the other
    they compute the same as it. Adversarial training adds its perturbation
    between them.

    Args:
        backbone: a `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`.
        activation: string. The feed-forward layers' activation by its Hugging
            Face name, such as `"gelu"` (exact), `"gelu_new"` (tanh
            approximation) or `"relu"`; `None` leaves the backbone's own. All
            names are in `tfadv.encoders.activations.ACTIVATIONS`.
        perturb_at: string. `"word_embeddings"`: the perturbation is added to
            the output of the lookup, before positions, segments and LayerNorm.
            `"embedding_block"`: it is added to that block's output, after them.
        layer_norm_epsilon: float. The epsilon of every LayerNormalization.
            `None` leaves the backbone's own.
        attention_dropout: float. The dropout rate of attention's
            probabilities. `None` leaves the backbone's own. All other rates
            are `backbone.dropout`.
        **kwargs: passed to `keras.layers.Layer`, like `name` and `dtype`.

    Call arguments:
        inputs: dict of int32 tensors of shape `[batch, tokens]`: `token_ids`,
            `segment_ids` and `padding_mask` (1 for real tokens). Other
            entries are ignored.
        pooled_only: bool, as in `encode`.

    Returns:
        dict: `"sequence_output"`, `[batch, tokens, hidden]`, 0 where padding
        is, and `"pooled_output"`, `[batch, hidden]`.

    Example:

    ```python
    encoder = tfadv.Encoder.from_pretrained("all-minilm-l6-v2")
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 64)
    inputs = tokenizer(["a gorgeous, witty film"])
    embeddings = encoder.embed(inputs)
    outputs = encoder.encode(embeddings + 0.01, inputs)
    ```

    Reference:
     - CARL and RAR paper, Figure 1: the ALBERT Embedding Block and the ALBERT
       Encoding Block
    """

    def __init__(
        self,
        backbone: keras.Model,
        activation: str | None = None,
        perturb_at: str = "word_embeddings",
        layer_norm_epsilon: float | None = None,
        attention_dropout: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if not isinstance(backbone, families.BACKBONES):
            raise ValueError(
                "`backbone` must be one of "
                f"{[c.__name__ for c in families.BACKBONES]}. Received: "
                f"{type(backbone).__name__}"
            )
        if activation is not None and activation not in activations.ACTIVATIONS:
            raise ValueError(
                "`activation` must be one of "
                f"{list(activations.ACTIVATIONS)} or None. Received: "
                f"activation={activation}"
            )
        if perturb_at not in _OPENINGS:
            raise ValueError(
                f"`perturb_at` must be one of {list(_OPENINGS)}. Received: "
                f"perturb_at={perturb_at}"
            )
        if layer_norm_epsilon is None:
            layer_norm_epsilon = backbone.embeddings_layer_norm.epsilon
        if attention_dropout is None:
            attention_dropout = backbone.dropout
        self.backbone = backbone
        self.activation = activation
        self.perturb_at = perturb_at
        self.layer_norm_epsilon = layer_norm_epsilon
        self.attention_dropout = attention_dropout
        # A direct call of the backbone is to compute the same.
        keras_hub_backbones.configure(
            backbone,
            activation,
            layer_norm_epsilon,
            attention_dropout=attention_dropout,
        )
        keras_hub_backbones.keep_residuals(backbone)
        self.description = keras_hub_backbones.describe(backbone)
        opening = backbone.get_layer(_OPENINGS[perturb_at]).output
        self._first_half = keras.Model(backbone.input, opening)
        # ALBERT has a projection between the embedding block and the blocks.
        last = getattr(backbone, "embeddings_projection", None)
        first_block_input = (last or backbone.embeddings_dropout).output
        self._to_blocks = None
        if first_block_input is not opening:
            self._to_blocks = keras.Model(
                [opening, backbone.input["segment_ids"]], first_block_input
            )
        self.embedding_dim = opening.shape[-1]
        self.hidden_dim = backbone.hidden_dim
        self.max_sequence_length = backbone.max_sequence_length
        self.built = True

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | os.PathLike | Checkpoint,
        load_weights: bool = True,
        dropout: float | None = None,
        perturb_at: str = "word_embeddings",
        dtype: str | keras.DTypePolicy | None = None,
    ) -> Self:
        """Opens a pretrained encoder.

        Activation, epsilon and dropout rates are those of its config.

        Args:
            name_or_folder: string or path: the folder of a Hugging Face
                checkpoint or a KerasHub preset, or a name, as
                `tfadv.sources.names.resolve` takes it; or what
                `tfadv.sources.names.open_checkpoint` returns.
            load_weights: bool. `False` leaves random weights, for a model
                whose weights are loaded afterwards.
            dropout: float. Replaces all dropout rates of the config.
            perturb_at: string, as in the constructor.
            dtype: string or `keras.DTypePolicy`, such as `"mixed_bfloat16"`.

        Returns:
            `Encoder`.

        Raises:
            InputError: there is no such encoder, its files are incomplete, it
                is of a family that is not supported, or its config asks for
                something that is not computed here.

        Example:

        ```python
        encoder = tfadv.Encoder.from_pretrained("all-minilm-l6-v2")
        ```
        """
        checkpoint = names.open_checkpoint(name_or_folder)
        policy = keras_hub_backbones.policy(dtype)
        if checkpoint.is_keras_hub:
            backbone = _from_preset(checkpoint, load_weights, dropout, policy)
            return cls(backbone, perturb_at=perturb_at, dtype=dtype)
        settings = settings_of(checkpoint, activations.ACTIVATIONS)
        hidden_dropout = settings.pop("hidden_dropout")
        if dropout is not None:
            hidden_dropout = settings["attention_dropout"] = dropout
        if load_weights:
            _ = checkpoint.tensors  # the cheapest to find missing
        backbone = families.build(checkpoint, hidden_dropout, policy)
        if load_weights:
            families.assign(families.parameters(backbone), checkpoint)
        return cls(backbone, perturb_at=perturb_at, dtype=dtype, **settings)

    def embed(
        self, inputs: dict[str, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        """Looks up the word embeddings: text becomes points in space.

        Args:
            inputs: dict, as in `call`.
            training: bool.

        Returns:
            float32 tensor of shape `[batch, tokens, embedding]`.
        """
        return self._first_half(_select(inputs), training=training)

    def encode(
        self,
        embeddings: tf.Tensor,
        inputs: dict[str, tf.Tensor],
        training: bool = False,
        pooled_only: bool = False,
    ) -> dict[str, tf.Tensor]:
        """Encodes word embeddings, perturbed or not.

        Args:
            embeddings: tensor of shape `[batch, tokens, embedding]`.
            inputs: dict, as in `call`; its `token_ids` are not read.
            training: bool.
            pooled_only: bool. Whether to leave out `"sequence_output"`, and
                with it most of the last block. The pooled output is the same.

        Returns:
            dict, as in `call`.
        """
        # Keras refuses a mixture of tensors and arrays.
        segment_ids, mask = map(
            keras.ops.convert_to_tensor,
            (inputs["segment_ids"], inputs["padding_mask"]),
        )
        x = embeddings
        if self._to_blocks is not None:
            x = self._to_blocks([x, segment_ids], training=training)
        packing = Packing(mask)
        x = blocks.encode(
            self.description, packing.pack(x), packing, training, pooled_only
        )
        pooled = self.backbone.pooled_dense(x[: packing.batch])
        outputs = {"pooled_output": pooled}
        if not pooled_only:
            outputs["sequence_output"] = packing.unpack(x)
        return outputs

    def call(
        self,
        inputs: dict[str, tf.Tensor],
        training: bool = False,
        pooled_only: bool = False,
    ) -> dict[str, tf.Tensor]:
        embeddings = self.embed(inputs, training)
        return self.encode(embeddings, inputs, training, pooled_only)

    def check_tokenizer(
        self,
        tokenizer: _Tokenizer,
        argument: str = "encoder",
        value: _Value = None,
    ) -> None:
        """Refuses a tokenizer that gives more than the encoder can read.

        Args:
            tokenizer: `tfadv.Tokenizer`.
            argument: string, the argument to blame in error messages.
            value: string or path, the given value of that argument.

        Raises:
            InputError: its texts may be too long, or its ids too high.
        """
        tokenizer.check_fits(
            self.max_sequence_length,
            self.backbone.vocabulary_size,
            argument,
            value,
        )

    @property
    def embedding_weights(self) -> list[keras.Variable]:
        """The trainable weights of the first half."""
        return self._first_half.trainable_weights

    @property
    def hidden_dropout(self) -> float:
        """The rate of all dropout layers except those of attention."""
        return self.backbone.dropout

    @property
    def activation_function(self) -> Callable[[tf.Tensor], tf.Tensor]:
        """The feed-forward layers' activation, as a function."""
        return activations.ACTIVATIONS[self.description.activation]

    @property
    def token_embedding(self) -> keras.layers.Layer:
        """The lookup layer, `[vocabulary, embedding]`."""
        return self.backbone.token_embedding

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "activation": self.activation,
            "perturb_at": self.perturb_at,
            "layer_norm_epsilon": self.layer_norm_epsilon,
            "attention_dropout": self.attention_dropout,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})


def _select(inputs):
    return {
        key: inputs[key] for key in ("token_ids", "segment_ids", "padding_mask")
    }


def _from_preset(checkpoint, load_weights, dropout, policy):
    """Opens the backbone of a KerasHub preset."""
    family = family_of(checkpoint)
    options = {} if dropout is None else {"dropout": dropout}
    try:
        return getattr(keras_hub.models, family.backbone).from_preset(
            str(checkpoint.folder),
            load_weights=load_weights,
            dtype=policy,
            **options,
        )
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        tf.errors.OpError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise checkpoint.error(
            "bad-preset",
            f"expected a whole KerasHub preset in {checkpoint.folder} "
            f"({type(error).__name__}: {reason})",
            "check that config.json and the weights belong together and are "
            "complete",
        ) from error
