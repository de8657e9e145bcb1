"""What every objective is: a loss on the last, strongest adversary."""

import keras
import tensorflow as tf


class Objective(keras.layers.Layer):
    """Base class of what is learned from an adversary beside its class.

    An objective is a Keras layer that a `tfadv.AdversarialClassifier` owns:
    weights made in `attach` are trained and saved with the classifier's. Its
    loss, times `weight`, is added to the classification loss of the last of
    the adversary's passes; delta never ascends along it.

    Args:
        weight: float. Weight of the loss, whole: it is not divided by the
            number of passes.
        **kwargs: passed to `keras.layers.Layer`. `name` names the loss.

    Attributes:
        needs_clean: bool. Whether `loss` reads the clean representations. They
            cost a forward and a backward pass an update, or less where the
            adversary's first pass is at the clean embeddings.
        needs_sequence: bool. Whether `loss` or `update` read
            `"sequence_output"`, the tokens' representations. Without them,
            most of the encoder's last block is saved.

    Example:

    ```python
    class Stability(Objective):
        needs_clean = True
        needs_sequence = False

        def loss(self, inputs, labels, clean, adversarial, sample_weight):
            gap = clean["pooled_output"] - adversarial["pooled_output"]
            distances = tf.reduce_sum(tf.square(gap), axis=1)
            return weighted_mean(distances, sample_weight)

    classifier = tfadv.AdversarialClassifier(
        encoder, 2, tfadv.FreeLB(), [Stability(weight=0.5, name="stability")]
    )
    ```

    Reference:
     - CARL and RAR paper, Eq. 6 and 7: max runs over the classification loss
       alone
    """

    needs_clean = False
    needs_sequence = True

    def __init__(self, weight=1.0, **kwargs):
        super().__init__(**kwargs)
        # Written so that NaN fails, too.
        if not 0 <= weight < float("inf"):
            raise ValueError(
                "`weight` must be 0 or a positive number. Received: "
                f"weight={weight}"
            )
        self.weight = float(weight)
        self._active = True

    @property
    def active(self):
        """Whether the loss is part of the training step as of now."""
        return self._active

    def wait(self):
        """Takes no part in training until `start`."""
        self._active = False

    def join(self):
        """Takes part in training steps from here on, as it is.

        A training step that has been traced before does not notice.
        """
        self._active = True

    def start(self, classifier, batches, verbose=1):
        """Joins training, in the next step.

        Args:
            classifier: `tfadv.AdversarialClassifier` that has this objective.
            batches: `tf.data.Dataset` of one epoch, every example once, for
                an objective that has to see them first.
            verbose: int. 1 shows a progress bar, where it takes a while.
        """
        self.join()
        if classifier.train_function is not None:
            # The step's graph has a new loss.
            classifier.make_train_function(force=True)

    def attach(self, encoder):
        """Makes the weights that need the encoder's sizes."""
        self.built = True

    def loss(self, inputs, labels, clean, adversarial, sample_weight=None):
        """Computes the loss on one batch, inside the training step's graph.

        Args:
            inputs: dict, as the classifier's `call` takes it.
            labels: the batch's labels, as the compiled loss takes them.
            clean: dict, the encoder's outputs on the clean embeddings and
                `"logits"`; `None` where `needs_clean` is false. It has
                `"sequence_output"` where `needs_sequence` is true.
            adversarial: dict, the same on the last adversary's embeddings.
            sample_weight: tensor of shape `[batch]`, or `None`. Where several
                replicas train it is there, so that the average of their means
                is the mean over the whole batch.

        Returns:
            Scalar: the mean over the examples, see `weighted_mean`.
        """
        raise NotImplementedError

    def update(self, inputs, clean, adversarial, sample_weight=None):
        """Changes what the objective remembers, after the gradients.

        Takes what `loss` has taken. An example of weight 0 is none: it leaves
        memories as they are.
        """

    def get_config(self):
        return {**super().get_config(), "weight": self.weight}


def weighted_mean(values, sample_weight=None):
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
