"""What every objective is: a loss on the last, strongest adversary."""

import typing

import keras
import numpy as np
import tensorflow as tf

from tfadv.errors import InputError
from tfadv.objectives.registry import Context
from tfadv.objectives.settings import ObjectiveSettings
from tfadv.sources.checkpoint import Checkpoint

NamedTensors = dict[str, tf.Tensor]


class Objective(keras.layers.Layer):
    """Base class of auxiliary losses on the adversarial example.

    An objective is a Keras layer that a `tfadv.AdversarialClassifier` owns:
    weights made in `attach` are trained and saved with the classifier's. Its
    loss, times `weight`, is added to the classification loss of the last of
    the adversary's passes; delta never ascends along it.

    Registered under a name, with `settings`, it can be part of a method
    (`tfadv.register_method`): then the command line, the search and the
    export know it, too.

    Args:
        weight: float. Weight of the loss. It is not divided by the number of
            passes.
        **kwargs: passed to `keras.layers.Layer`. `name` names the loss.

    Attributes:
        needs_clean: bool. Whether `loss` reads the clean representations. They
            cost a forward and a backward pass per update, or less where the
            adversary's first pass is at the clean embeddings.
        needs_sequence: bool. Whether `loss` or `update` read
            `"sequence_output"`, the tokens' representations. Without them,
            most of the encoder's last block is saved.
        kept_in_run: bool. Whether its weights are part of the trained
            classifier: saved in a run's folder and built when it is opened.
        reads_words: bool. Whether it has `words` and `reconstruct`, which
            turn adversarial representations into text.
        without_exchange: string, for the error message: which settings make
            `exchanges_in_loss` false; empty where none do.
        settings: class, derived from
            `tfadv.objectives.settings.ObjectiveSettings`; `None` for an
            objective that is not registered.

    Raises:
        InputError: the weight is negative or not finite.

    Example:

    ```python
    import dataclasses

    import tensorflow as tf

    import tfadv
    from tfadv.fields import field
    from tfadv.objectives.objective import weighted_mean
    from tfadv.objectives.settings import ObjectiveSettings


    @dataclasses.dataclass(frozen=True)
    class StabilitySettings(ObjectiveSettings):
        weight: float = field(
            0.5, "Weight of the loss.", flag="stability_weight", low=0
        )


    class Stability(tfadv.Objective):
        settings = StabilitySettings
        needs_clean = True
        needs_sequence = False

        def loss(self, inputs, labels, clean, adversarial, sample_weight=None):
            gap = clean["pooled_output"] - adversarial["pooled_output"]
            distances = tf.reduce_sum(tf.square(gap), axis=1)
            return weighted_mean(distances, sample_weight)


    tfadv.register_objective("stability", Stability)
    classifier = tfadv.AdversarialClassifier(
        encoder, 2, tfadv.FreeLB(), [Stability(weight=0.5, name="stability")]
    )
    ```

    Reference:
     - CARL and RAR paper, Eq. 6 and 7: max runs over the classification loss
       only
    """

    needs_clean = False
    needs_sequence = True
    kept_in_run = True
    reads_words = False
    without_exchange = ""
    settings: type[ObjectiveSettings] | None = None

    def __init__(self, weight: float = 1.0, **kwargs: typing.Any):
        super().__init__(**kwargs)
        # Written so that NaN fails, too.
        if not 0 <= weight < float("inf"):
            raise InputError(
                "out-of-range",
                "expected 0 or a positive number",
                "give such a number",
                argument="weight",
                value=weight,
            )
        self.weight = float(weight)
        self._active = True

    @classmethod
    def from_settings(
        cls, settings: typing.Any, context: Context
    ) -> typing.Self | None:
        """Builds the objective of a run.

        By default the settings are the arguments of the constructor.

        Args:
            settings: an instance of `cls.settings`.
            context: `tfadv.objectives.registry.Context`.

        Returns:
            The objective, named `context.name`; `None` where it is only for
            training and the context has no training labels.

        Raises:
            InputError: the objective cannot be built here.
        """
        return cls(name=context.name, **settings.to_dict())

    @property
    def active(self) -> bool:
        """Whether the loss is part of the training step as of now."""
        return self._active

    @property
    def exchanges_in_loss(self) -> bool:
        """Whether `loss` exchanges tensors with the other replicas.

        Replicas cannot exchange anything in the loop over the slices of a
        batch: this is refused together with `accumulation_steps`.
        """
        return False

    @property
    def needs_calibration(self) -> tf.Tensor | None:
        """Whether `calibrate` must see a whole batch before its slices.

        Returns:
            bool scalar tensor; `None` for never.
        """
        return None

    def wait(self) -> None:
        """Takes no part in training until `start`."""
        self._active = False

    def join(self) -> None:
        """Takes part in training steps from here on, as it is.

        A training step that has been traced before does not notice.
        """
        self._active = True

    def start(
        self,
        classifier: keras.Model,
        batches: tf.data.Dataset,
        verbose: int = 1,
    ) -> None:
        """Joins training, in the next step.

        Args:
            classifier: `tfadv.AdversarialClassifier` that has this objective.
            batches: `tf.data.Dataset` of one epoch, with every example once,
                for an objective that has to see them first.
            verbose: int. 1 shows a progress bar, where it takes a while.
        """
        self.join()
        if classifier.train_function is not None:
            # The step's graph has a new loss.
            classifier.make_train_function(force=True)

    def attach(self, encoder: keras.Model) -> None:
        """Makes the weights that need the encoder's sizes."""
        self.built = True

    def calibrate(
        self,
        inputs: NamedTensors,
        labels: tf.Tensor,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Learns from a whole batch what `loss` needs, before its slices.

        It has the arguments of `loss`. It is called where `needs_calibration`
        is true and the batch is going to be read in slices.
        """

    def load_from_checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Starts from the weights that the encoder's checkpoint has for it.

        Args:
            checkpoint: `tfadv.sources.checkpoint.Checkpoint`.

        Returns:
            Whether there were any.

        Raises:
            InputError: they do not fit the encoder.
        """
        return False

    def checkpoint_tensors(self, family: str) -> dict[str, np.ndarray]:
        """Returns the tensors that belong into a Hugging Face checkpoint.

        Args:
            family: string, the encoder's, such as `"albert"`.

        Returns:
            dict of float32 arrays, by the tensors' names.
        """
        return {}

    def loss(
        self,
        inputs: NamedTensors,
        labels: tf.Tensor,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Computes the loss on one batch, inside the training step's graph.

        Args:
            inputs: dict, as the classifier's `call` takes it.
            labels: the batch's labels, as the compiled loss takes them.
            clean: dict, the encoder's outputs on the clean embeddings and
                `"logits"`; `None` where `needs_clean` is false. It has
                `"sequence_output"` where `needs_sequence` is true.
            adversarial: dict, the same on the last adversary's embeddings.
            sample_weight: tensor of shape `[batch]`, or `None`. It is always
                given where several replicas train, so that the average of
                their means is the mean over the whole batch.

        Returns:
            Scalar: the mean over the examples, see `weighted_mean`.
        """
        raise NotImplementedError

    def update(
        self,
        inputs: NamedTensors,
        clean: NamedTensors | None,
        adversarial: NamedTensors,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Changes what the objective remembers, after the gradients.

        It takes what `loss` has taken. An example of weight 0 does not count:
        it leaves memories as they are.
        """

    def get_config(self) -> dict[str, typing.Any]:
        return {**super().get_config(), "weight": self.weight}


def weighted_mean(
    values: tf.Tensor, sample_weight: tf.Tensor | None = None
) -> tf.Tensor:
    """Averages over the examples as Keras' losses do.

    Args:
        values: float32 tensor of shape `[batch]`.
        sample_weight: tensor of shape `[batch]`, or `None`.

    Returns:
        Scalar: the sum of the weighted values, divided by the batch size.
    """
    if sample_weight is not None:
        # Keras gives weights of `[batch]` or `[batch, 1]`.
        sample_weight = tf.reshape(sample_weight, tf.shape(values))
        values = values * tf.cast(sample_weight, values.dtype)
    return tf.reduce_mean(values)
