"""A pretrained KerasHub backbone, opened at its word embeddings."""

import contextlib
import pathlib
import shutil
import tempfile

import keras
import keras_hub
import safetensors
import safetensors.numpy

from tfadv.encoders import (
    activations,
    blocks,
    keras_hub_backbones,
)
from tfadv.encoders.packing import Packing
from tfadv.errors import InputError
from tfadv.sources import checkpoint, names

_BACKBONES = {
    "albert": keras_hub.models.AlbertBackbone,
    "bert": keras_hub.models.BertBackbone,
}

# What a config that leaves it out means.
_DEFAULT_ACTIVATION = {"albert": "gelu_new", "bert": "gelu"}

# Where the backbone is opened: the layer whose output delta is added to.
_OPENINGS = {
    "word_embeddings": "token_embedding",
    "embedding_block": "embeddings_dropout",
}


@keras.saving.register_keras_serializable(package="tfadv")
class Encoder(keras.layers.Layer):
    """A text encoder in two halves: word embeddings, and all that follows.

    The halves share their weights with `backbone`, and one after the other
    they compute what it computes. Between them is where adversarial training
    adds its perturbation.

    Args:
        backbone: a `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`.
        activation: string. The feed-forward layers' activation by its Hugging
            Face name: `"gelu"` (exact), `"gelu_new"` (tanh approximation) or
            `"relu"`. `None` leaves the backbone's own.
        perturb_at: string. `"word_embeddings"`: the perturbation is added to
            the output of the lookup, before positions, segments and
            LayerNorm. `"embedding_block"`: to the embedding block's output,
            after them.
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
        backbone,
        activation=None,
        perturb_at="word_embeddings",
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not isinstance(backbone, tuple(_BACKBONES.values())):
            raise ValueError(
                "`backbone` must be one of "
                f"{[c.__name__ for c in _BACKBONES.values()]}. Received: "
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
        self.backbone = backbone
        self.activation = activation
        self.perturb_at = perturb_at
        # Called as it is, the backbone is to compute the same.
        keras_hub_backbones.configure(backbone, activation)
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
        name_or_folder,
        load_weights=True,
        dropout=None,
        perturb_at="word_embeddings",
        dtype=None,
    ):
        """Opens a pretrained encoder.

        Args:
            name_or_folder: string or path: the folder of a Hugging Face
                checkpoint or a KerasHub preset, or a name, as
                `tfadv.sources.names.resolve` takes it.
            load_weights: bool. `False` leaves random weights, for a model
                whose weights are loaded afterwards.
            dropout: float. Replaces the config's dropout probabilities.
            perturb_at: string, as in the constructor.
            dtype: string or `keras.DTypePolicy`, such as `"mixed_bfloat16"`.

        Returns:
            `Encoder`.

        Raises:
            InputError: there is no such encoder, its files are incomplete, it
                is of a family that is not supported, or its config asks for
                something that the backbone would compute differently.
        """
        folder = names.resolve(name_or_folder)
        config = checkpoint.read_config(folder)
        family = checkpoint.family(config)
        if family not in _BACKBONES:
            raise InputError(
                f"--encoder: {folder} holds a {family!r} encoder; supported "
                f"are {', '.join(_BACKBONES)}"
            )
        settings = {"dtype": keras_hub_backbones.policy(dtype)}
        activation = None
        if "model_type" in config:
            activation = config.get("hidden_act", _DEFAULT_ACTIVATION[family])
            _check_hugging_face_config(folder, config, dropout)
            # KerasHub reads one dropout for ALBERT and none for BERT, and
            # takes every BERT to have two segments.
            settings["dropout"] = config.get("hidden_dropout_prob")
            settings["num_segments"] = config.get("type_vocab_size", 2)
        if dropout is not None:
            settings["dropout"] = dropout
        backbone = _load(
            folder, _BACKBONES[family], family, load_weights, settings
        )
        return cls(backbone, activation, perturb_at, dtype=dtype)

    def embed(self, inputs, training=False):
        """Looks up the word embeddings: text becomes points in space.

        Args:
            inputs: dict, as in `call`.
            training: bool.

        Returns:
            float32 tensor of shape `[batch, tokens, embedding]`.
        """
        return self._first_half(_select(inputs), training=training)

    def encode(self, embeddings, inputs, training=False, pooled_only=False):
        """Encodes word embeddings, perturbed or not.

        Args:
            embeddings: tensor of shape `[batch, tokens, embedding]`.
            inputs: dict, as in `call`; its `token_ids` are not read.
            training: bool.
            pooled_only: bool. Whether `"sequence_output"` is left out, and
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

    def call(self, inputs, training=False, pooled_only=False):
        embeddings = self.embed(inputs, training)
        return self.encode(embeddings, inputs, training, pooled_only)

    def check_tokenizer(self, tokenizer, flag="--encoder"):
        """Refuses a tokenizer that gives more than the encoder can read.

        Args:
            tokenizer: `tfadv.Tokenizer`.
            flag: string, the flag and folder to blame, for error messages.

        Raises:
            InputError: its texts may be too long, or its ids too high.
        """
        if tokenizer.max_length > self.max_sequence_length:
            raise InputError(
                f"{flag}: --max_length={tokenizer.max_length}, but the encoder "
                f"reads at most {self.max_sequence_length} tokens; give that "
                "or less"
            )
        rows = self.backbone.vocabulary_size
        if tokenizer.vocabulary_size > rows:
            raise InputError(
                f"{flag}: the vocabulary has {tokenizer.vocabulary_size} "
                f"pieces, the encoder embeddings of {rows}; take the "
                "vocabulary that belongs to the encoder"
            )

    @property
    def embedding_weights(self):
        """The trainable weights of the first half."""
        return self._first_half.trainable_weights

    @property
    def activation_function(self):
        """The feed-forward layers' activation, as a function."""
        return activations.ACTIVATIONS[self.description.activation]

    @property
    def token_embedding(self):
        """The lookup layer, `[vocabulary, embedding]`."""
        return self.backbone.token_embedding

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "backbone": keras.saving.serialize_keras_object(self.backbone),
                "activation": self.activation,
                "perturb_at": self.perturb_at,
            }
        )
        return config

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        config["backbone"] = keras.saving.deserialize_keras_object(
            config["backbone"]
        )
        return cls(**config)


def _select(inputs):
    return {
        key: inputs[key] for key in ("token_ids", "segment_ids", "padding_mask")
    }


def _check_hugging_face_config(folder, config, dropout):
    """Refuses what KerasHub would silently compute in another way."""
    expected = {
        "position_embedding_type": ["absolute"],
        "layer_norm_eps": [1e-12],
        "hidden_act": list(activations.ACTIVATIONS),
        "is_decoder": [False],
        "add_cross_attention": [False],
    }
    for key, values in expected.items():
        # A newer config leaves out what has its default value.
        if config.get(key, values[0]) not in values:
            raise InputError(
                f"--encoder: {folder}/config.json has {key}={config[key]!r}; "
                f"supported is {' or '.join(map(repr, values))}"
            )
    rates = [
        config.get("hidden_dropout_prob"),
        config.get("attention_probs_dropout_prob"),
    ]
    if dropout is None and (rates[0] != rates[1] or rates[0] is None):
        raise InputError(
            f"--encoder: {folder}/config.json has hidden_dropout_prob="
            f"{rates[0]} and attention_probs_dropout_prob={rates[1]}; one "
            "rate is supported for both: make them equal in a copy of the file"
        )


def _load(folder, backbone_class, family, load_weights, settings):
    folder = pathlib.Path(folder)
    files = sorted(path.name for path in folder.iterdir())
    if load_weights and not any(
        name.startswith("model.")
        and name.endswith((".safetensors", ".safetensors.index.json", ".h5"))
        for name in files
    ):
        raise InputError(
            f"--encoder: {folder} has no weights: expected model.safetensors "
            f"or model.weights.h5, {checkpoint.instead_of_weights(folder)}"
        )
    try:
        with _keras_hub_layout(folder, family, load_weights) as source:
            return backbone_class.from_preset(
                str(source), load_weights=load_weights, **settings
            )
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        safetensors.SafetensorError,
    ) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"--encoder: the files in {folder} do not make a whole {family} "
            f"encoder ({type(error).__name__}: {reason}); check that "
            "config.json and the weights belong together and are complete"
        ) from error


@contextlib.contextmanager
def _keras_hub_layout(folder, family, load_weights):
    """Gives ALBERT tensors the prefix under which KerasHub looks for them.

    A classifier's checkpoint calls them `albert.pooler.weight`, a bare
    encoder's `pooler.weight`; KerasHub reads the first form alone.
    """
    names = {}
    if load_weights and family == "albert":
        for path in checkpoint.safetensors_files(folder):
            with safetensors.safe_open(path, framework="np") as tensors:
                names |= dict.fromkeys(tensors.keys(), path)
    if not names or any(name.startswith("albert.") for name in names):
        yield folder
        return
    with tempfile.TemporaryDirectory() as renamed:
        renamed = pathlib.Path(renamed)
        shutil.copy(folder / "config.json", renamed)
        tensors = {}
        for path in set(names.values()):
            tensors |= safetensors.numpy.load_file(path)
        safetensors.numpy.save_file(
            {f"albert.{name}": value for name, value in tensors.items()},
            renamed / "model.safetensors",
        )
        yield renamed
