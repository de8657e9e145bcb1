"""RAR: the words are reconstructed from adversarial representations."""

from collections.abc import Iterable, Mapping
from typing import Any, Self

import keras
import numpy as np
import tensorflow as tf

from tfadv.errors import InputError
from tfadv.log import logger
from tfadv.losses.vocabulary import vocabulary_cross_entropy
from tfadv.objectives.objective import NamedTensors, Objective
from tfadv.objectives.registry import Context
from tfadv.objectives.settings import ReconstructionSettings
from tfadv.sources import families
from tfadv.sources.checkpoint import Checkpoint


@keras.saving.register_keras_serializable(package="tfadv")
class ReconstructionObjective(Objective):
    """Reconstructs the original words from adversarial representations.

    The head is that of masked language models: a dense layer from the hidden
    to the embedding size, the encoder's activation, LayerNorm, and a
    projection tied to the word embeddings with a bias of its own. The loss is
    the cross-entropy of the original word, averaged over an example's real
    tokens, then over the examples: an example's share does not depend on the
    lengths of the others.

    Args:
        special_ids: ints, token ids that are not words: `[CLS]`, `[SEP]`,
            padding and their like. Nothing is learned from them.
        weight: float, w_r.
        **kwargs: passed to `keras.layers.Layer`.

    Example:

    ```python
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 64)
    objective = tfadv.ReconstructionObjective(tokenizer.special_ids)
    classifier = tfadv.AdversarialClassifier(
        encoder, 2, tfadv.FreeLB(), [objective]
    )
    ```

    Reference:
     - CARL and RAR paper, section 3.3, Eq. 7
    """

    reads_words = True
    settings = ReconstructionSettings

    def __init__(
        self,
        special_ids: Iterable[int],
        weight: float = ReconstructionSettings.weight,
        name: str = "reconstruction",
        **kwargs: Any,
    ):
        super().__init__(weight=weight, name=name, **kwargs)
        self.special_ids = sorted(int(i) for i in special_ids)
        self.dense: Any = None
        self.layer_norm: Any = None
        self.bias: Any = None

    @classmethod
    def from_settings(
        cls, settings: ReconstructionSettings, context: Context
    ) -> Self:
        return cls(context.special_ids, settings.weight, context.name)

    def attach(self, encoder: keras.Model) -> None:
        embedding_dim = encoder.token_embedding.output_dim
        self.dense = keras.layers.Dense(
            embedding_dim,
            activation=encoder.activation_function,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="dense",
        )
        self.dense.build([None, None, encoder.hidden_dim])
        self.layer_norm = keras.layers.LayerNormalization(
            epsilon=encoder.layer_norm_epsilon,
            dtype="float32",
            name="layer_norm",
        )
        self.layer_norm.build([None, None, embedding_dim])
        self.bias = self.add_weight(
            shape=[encoder.token_embedding.input_dim],
            initializer="zeros",
            dtype="float32",
            name="bias",
        )
        # In a function, or Keras would take the table for one of our weights.
        self._embeddings = lambda: tf.convert_to_tensor(
            encoder.token_embedding.embeddings
        )
        self.built = True

    def head_variables(self) -> dict[str, keras.Variable]:
        """Names the head's variables.

        Returns:
            dict of `keras.Variable`: the dense layer's `"kernel"`, `[hidden,
            embedding]`, and `"bias"`; LayerNorm's `"gamma"` and `"beta"`;
            and `"vocabulary_bias"`.
        """
        return {
            "kernel": self.dense.kernel,
            "bias": self.dense.bias,
            "gamma": self.layer_norm.gamma,
            "beta": self.layer_norm.beta,
            "vocabulary_bias": self.bias,
        }

    def load_from_checkpoint(self, checkpoint: Checkpoint) -> bool:
        arrays = families.masked_lm_head(checkpoint)
        if arrays is None:
            return False
        self.load_head(arrays)
        logger.info("RAR's head starts from the checkpoint's masked-LM head")
        return True

    def checkpoint_tensors(self, family: str) -> dict[str, np.ndarray]:
        names = families.FAMILIES[family].masked_lm_head
        # All but the kernel have one dimension.
        return {
            names[key]: keras.ops.convert_to_numpy(variable).T
            for key, variable in self.head_variables().items()
        }

    def load_head(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Starts from a pretrained masked-LM head.

        Args:
            arrays: dict of arrays with the keys and shapes of
                `head_variables`, such as
                `tfadv.sources.families.masked_lm_head` returns.

        Raises:
            InputError: a shape is not this encoder's.
        """
        for name, variable in self.head_variables().items():
            expected, found = list(variable.shape), list(arrays[name].shape)
            if found != expected:
                raise InputError(
                    "head-of-another-size",
                    f"expected the masked-LM head's {name} of shape "
                    f"{expected}, which this encoder's sizes make, found "
                    f"{found}",
                    "take the encoder and its head from one checkpoint",
                    argument="encoder",
                )
        for name, variable in self.head_variables().items():
            variable.assign(arrays[name])

    def loss(
        self,
        inputs: NamedTensors,
        labels: tf.Tensor,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        hidden = self._transform(adversarial["sequence_output"])
        targets = inputs["token_ids"]
        words = tf.cast(self.words(inputs), tf.float32)
        weights = tf.math.divide_no_nan(
            words, tf.reduce_sum(words, axis=1, keepdims=True)
        ) / tf.cast(tf.shape(words)[0], tf.float32)
        if sample_weight is not None:
            weights *= tf.reshape(tf.cast(sample_weight, tf.float32), [-1, 1])
        return vocabulary_cross_entropy(
            tf.reshape(hidden, [-1, hidden.shape[-1]]),
            tf.cast(self._embeddings(), tf.float32),
            tf.convert_to_tensor(self.bias),
            tf.reshape(targets, [-1]),
            tf.reshape(weights, [-1]),
        )

    def words(self, inputs: NamedTensors) -> tf.Tensor:
        """Tells which tokens are words, not specials or padding.

        Args:
            inputs: dict, as the classifier's `call` takes it.

        Returns:
            bool tensor of shape `[batch, tokens]`.
        """
        ids = inputs["token_ids"]
        special = tf.reduce_any(
            ids[:, :, None] == tf.constant(self.special_ids, ids.dtype), axis=-1
        )
        return tf.cast(inputs["padding_mask"], tf.bool) & ~special

    def reconstruct(self, sequence_output: tf.Tensor) -> tf.Tensor:
        """Reads the most likely word at every position.

        Args:
            sequence_output: tensor of shape `[batch, tokens, hidden]`.

        Returns:
            int32 tensor of token ids, of shape `[batch, tokens]`; never one
            of `special_ids`.
        """
        hidden = self._transform(sequence_output)
        embeddings = tf.cast(self._embeddings(), tf.float32)
        # A special token is no word: its logit can never be the largest.
        barred = np.zeros(self.bias.shape, np.float32)
        barred[self.special_ids] = -1e9
        bias = tf.convert_to_tensor(self.bias) + barred

        def words(hidden):
            logits = tf.matmul(hidden, embeddings, transpose_b=True) + bias
            return tf.argmax(logits, axis=-1, output_type=tf.int32)

        # One example's logits at a time.
        return tf.map_fn(words, hidden, fn_output_signature=tf.int32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "special_ids": self.special_ids}

    def _transform(self, sequence_output):
        return self.layer_norm(self.dense(sequence_output))
