"""The text classifier and its adversarial training step."""

from collections.abc import Sequence
from typing import Any, Self

import keras
import tensorflow as tf

from tfadv import replicas
from tfadv.adversaries.freelb import FreeLB
from tfadv.errors import InputError
from tfadv.objectives.objective import Objective
from tfadv.update.pass_statistics import PassStatistics
from tfadv.update.passes import (
    AdversarialStep,
    Passes,
    unscale_for_replicas,
    without,
)
from tfadv.update.slices import Slices

# Keras' default way to reduce the losses of a batch.
MEAN = "sum_over_batch_size"

# Its own module does without Keras.
keras.saving.register_keras_serializable(package="tfadv")(FreeLB)


@keras.saving.register_keras_serializable(package="tfadv")
class AdversarialClassifier(keras.Model):
    """A text classifier that trains on the adversary's word embeddings.

    The classifier is an encoder, its pooled [CLS] representation, dropout and
    one dense layer. With an `adversary`, `fit` trains on perturbed word
    embeddings; `evaluate` and `predict` see clean ones. Everything else is
    as in any Keras model: `compile`, callbacks, metrics, `save_weights`.

    With an adversary, training reports the loss averaged over its passes and
    the compiled metrics on the last pass, that is, on the strongest adversary:
    `accuracy` is called `adversarial_accuracy` there. Where the first pass is
    at the clean embeddings, `clean_accuracy` is its accuracy. `delta_norm` is
    the mean L2 norm of the last perturbation. With `objectives`,
    `loss` is the sum that is trained on. Its terms are reported as well:
    `classification_loss` and, by its name, each objective's unweighted loss.

    Built and compiled in the scope of a `tf.distribute` strategy, it trains
    on several devices as on one: a batch need not split evenly, and losses,
    gradients, metrics and memories are those of the whole batch. Dropout
    masks are drawn on each device. The loss must be a mean over the examples.
    Metrics should be means, too: `evaluate` adds up what they count over the
    devices.

    With `accumulation_steps` an update takes only the memory of a slice of its
    batch, and its result is the same except for the dropout masks. Here, too,
    the loss must be a mean.

    Args:
        encoder: `tfadv.Encoder`.
        num_classes: int. Number of classes.
        adversary: `tfadv.FreeLB`, or `None` for plain training.
        objectives: list of `tfadv.Objective`: auxiliary losses on the
            adversarial examples.
        dropout: float. Dropout probability before the dense layer.
        accumulation_steps: int. The number of slices, one after another, in
            which the gradients of a batch are computed.
        **kwargs: passed to `keras.Model`, like `name`.

    Raises:
        InputError: a value is out of its range, or there are objectives
            without an adversary or with equal names.

    Call arguments:
        inputs: dict of int32 tensors of shape `[batch, tokens]`: `token_ids`,
            `segment_ids` and `padding_mask`. Other entries are ignored.

    Returns:
        Logits, float32 of shape `[batch, num_classes]`.

    Example:

    ```python
    classifier = tfadv.AdversarialClassifier(
        tfadv.Encoder.from_pretrained("all-minilm-l6-v2"),
        num_classes=2,
        adversary=tfadv.FreeLB(steps=3, step_size=0.1),
    )
    classifier.compile(
        optimizer=keras.optimizers.Adam(5e-5),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 64)
    inputs = tokenizer(["a gorgeous, witty film", "a dull mess"])
    classifier.fit(inputs, np.array([1, 0]))
    ```

    Reference:
     - CARL and RAR paper, Eq. 1 and 6 to 8
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764)
    """

    def __init__(
        self,
        encoder: keras.layers.Layer,
        num_classes: int,
        adversary: FreeLB | None = None,
        objectives: Sequence[Objective] = (),
        *,
        dropout: float = 0.1,
        accumulation_steps: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if num_classes < 2:
            raise InputError(
                "out-of-range",
                "expected at least 2 classes",
                "give the number of classes",
                argument="num_classes",
                value=num_classes,
            )
        if int(accumulation_steps) != accumulation_steps or (
            accumulation_steps < 1
        ):
            raise InputError(
                "out-of-range",
                "expected a whole number of at least 1",
                "give such a number",
                argument="accumulation_steps",
                value=accumulation_steps,
            )
        names = [objective.name for objective in objectives]
        if names and adversary is None:
            raise InputError(
                "objectives-without-adversary",
                f"the objectives {', '.join(names)} learn from an adversary, "
                "found none",
                "give an `adversary`",
                argument="objectives",
            )
        if len(set(names)) < len(names):
            raise InputError(
                "objectives-of-one-name",
                "expected different names, under which the losses are "
                f"reported, found {', '.join(names)}",
                "give each a `name` of its own",
                argument="objectives",
            )
        self.encoder = encoder
        self.num_classes = num_classes
        self.adversary = adversary
        self.objectives = list(objectives)
        self.dropout = dropout
        self.accumulation_steps = int(accumulation_steps)
        # Logits stay in float32 under every precision policy.
        self.head_dropout = keras.layers.Dropout(
            dropout, dtype="float32", name="head_dropout"
        )
        self.head = keras.layers.Dense(
            num_classes,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            dtype="float32",
            name="head",
        )
        self.head.build([None, encoder.hidden_dim])
        self.seed_generator = keras.random.SeedGenerator()
        self.pass_statistics = None
        if adversary is not None:
            self.pass_statistics = PassStatistics(adversary.steps)
        self.objective_losses = []
        for objective in self.objectives:
            objective.attach(encoder)
            self.objective_losses.append(
                keras.metrics.Mean(name=f"{objective.name}_loss")
            )
        self.built = True

    def classify(
        self, outputs: dict[str, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        """Turns the encoder's outputs into logits, `[batch, num_classes]`."""
        pooled = self.head_dropout(outputs["pooled_output"], training=training)
        return self.head(pooled)

    def call(
        self, inputs: dict[str, tf.Tensor], training: bool = False
    ) -> tf.Tensor:
        outputs = self.encoder(inputs, training=training, pooled_only=True)
        return self.classify(outputs, training)

    def train_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Trains on one batch: n passes, one update of the parameters."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        share, x, y, sample_weight = self._share(x, y, sample_weight)
        weights = share.weights(sample_weight)
        batch = (x, y, weights)
        step = None
        with replicas.own_seeds(self.seed_states()):
            if self.adversary is not None:
                step = self.adversarial_gradients(*batch, share)
                gradients, y_pred, loss = step.gradients, step.logits, step.loss
            elif self.accumulation_steps > 1:
                slices = Slices(self, *batch, share)
                gradients, y_pred, loss = slices.plain_gradients()
            else:
                gradients, y_pred, loss = self.plain_gradients(*batch)
        self.optimizer.apply_gradients(
            replicas.summed_gradients(gradients, self.optimizer)
        )
        self._loss_metric().update_state(
            replicas.mean(loss), sample_weight=share.examples
        )
        results = self._global_metrics(share, x, y, y_pred, sample_weight)
        if step is not None:
            # They saw the strongest adversary: their names say so.
            results = {
                name if name == "loss" else f"adversarial_{name}": value
                for name, value in results.items()
            }
            results |= self._update_objectives(x, weights, share, step)
        return replicas.for_keras(results)

    def test_step(self, data: tuple) -> dict[str, tf.Tensor]:
        """Evaluates one batch, on clean embeddings."""
        if replicas.count() == 1:
            return super().test_step(data)
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        share, x, y, sample_weight = self._share(x, y, sample_weight)
        y_pred = self(x, training=False)
        loss = self.compute_loss(
            x, y, y_pred, share.weights(sample_weight), training=False
        )
        self._loss_metric().update_state(
            replicas.mean(unscale_for_replicas(loss)),
            sample_weight=share.examples,
        )
        return replicas.for_keras(
            self._global_metrics(share, x, y, y_pred, sample_weight)
        )

    def _share(self, x, y, sample_weight):
        """Fills up this replica's share of a batch, and returns both."""
        reduction = getattr(self.loss, "reduction", MEAN)
        several = replicas.count() > 1 or self.accumulation_steps > 1
        if several and reduction != MEAN:
            raise InputError(
                "loss-not-a-mean",
                f"with several replicas or accumulation steps, expected a loss "
                f"of the reduction {MEAN}, found {reduction}",
                "compile with such a loss",
                argument="loss",
            )
        share = replicas.Share(tf.shape(x["token_ids"])[0])
        return share, *share.filled((x, y, sample_weight))

    def _global_metrics(self, share, x, y, y_pred, sample_weight):
        """Computes the metrics of the whole batch, on every replica."""
        if sample_weight is None:
            y, y_pred = share.gather((y, y_pred))
        else:
            y, y_pred, sample_weight = share.gather((y, y_pred, sample_weight))
        return self.compute_metrics(x, y, y_pred, sample_weight)

    def _loss_metric(self):
        return next(m for m in self.metrics if m.name == "loss")

    def _update_objectives(self, x, sample_weight, share, step):
        """Ends an adversarial step; returns what it adds to the metrics."""
        batch = share.examples
        self.pass_statistics.update_state(
            replicas.mean(step.statistics), sample_weight=batch
        )
        passes = self.pass_statistics.result()
        results = {"delta_norm": passes[-1, -1]}
        if self.adversary.init_magnitude == 0:
            # The first pass is at the clean embeddings.
            results["clean_accuracy"] = passes[0, 1]
        if self.objectives:
            results["classification_loss"] = tf.reduce_mean(passes[:, 0])
        # Memories change when the step has read them to the end.
        with tf.control_dependencies([g for g, _ in step.gradients]):
            for objective, metric in zip(
                self.objectives, self.objective_losses, strict=True
            ):
                if objective.name in step.objective_losses:
                    loss = replicas.mean(step.objective_losses[objective.name])
                    metric.update_state(loss, sample_weight=batch)
                    results[metric.name] = metric.result()
                    objective.update(
                        x, step.clean, step.adversarial, sample_weight
                    )
        return results

    def plain_gradients(
        self,
        x: dict[str, tf.Tensor],
        y: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> tuple[list[tuple[tf.Tensor, keras.Variable]], tf.Tensor, tf.Tensor]:
        """Computes the parameter gradients without an adversary.

        Gradients are dense. TensorFlow gives that of the word embeddings as a
        list of rows, with two rows for a token that occurs twice in the batch.
        From such a list Keras computes wrong norms (for clipping) and wrong
        second moments.

        Args:
            x: dict, as in `call`.
            y: labels, as the compiled loss takes them.
            sample_weight: tensor of shape `[batch]`, or `None`.

        Returns:
            A list of `(gradient, weight)`, in the order of
            `trainable_weights`; the logits; and the loss.
        """
        with tf.GradientTape() as tape:
            y_pred = self(x, training=True)
            loss = self.compute_loss(x, y, y_pred, sample_weight)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        gradients = tape.gradient(
            scaled,
            weights,
            unconnected_gradients=tf.UnconnectedGradients.ZERO,
        )
        gradients = map(tf.convert_to_tensor, gradients)
        pairs = list(zip(gradients, weights, strict=True))
        return pairs, y_pred, unscale_for_replicas(loss)

    def adversarial_gradients(
        self,
        x: dict[str, tf.Tensor],
        y: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        share: replicas.Share | None = None,
    ) -> AdversarialStep:
        """Computes the gradients of one update: n passes and the objectives.

        Args:
            x: dict, as in `call`.
            y: labels, as the compiled loss takes them.
            sample_weight: tensor of shape `[batch]`, or `None`.
            share: `tfadv.replicas.Share`, where this batch is one replica's
                share of a larger one.

        Returns:
            `tfadv.update.passes.AdversarialStep`.
        """
        if self.accumulation_steps > 1:
            return Slices(self, x, y, sample_weight, share).gradients()
        return Passes(self, x, y, sample_weight, share).gradients()

    def represent(
        self,
        x: dict[str, tf.Tensor],
        y: tf.Tensor,
        share: replicas.Share | None = None,
        pooled_only: bool = False,
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Encodes a batch clean and under the adversary of training.

        Args:
            x: dict, as in `call`.
            y: labels, as the compiled loss takes them.
            share: `tfadv.replicas.Share`, where this batch is one replica's
                share of a larger one.
            pooled_only: bool, as in `tfadv.Encoder.encode`.

        Returns:
            Two dicts, as objectives take them: the encoder's outputs and
            `"logits"`, on the clean and on the last adversary's embeddings.
        """
        if self.accumulation_steps > 1:
            slices = Slices(self, x, y, share=share)
            return slices.outputs_without_gradients(pooled_only)
        passes = Passes(self, x, y, share=share)
        return passes.outputs_without_gradients(pooled_only)

    def load_weights(self, *args: Any, **kwargs: Any) -> None:
        """Loads weights, and what objectives remember, as Keras does."""
        super().load_weights(*args, **kwargs)
        if self.objectives and self.train_function is not None:
            # An objective may have started, or not yet: another graph.
            self.make_train_function(force=True)

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds what Keras builds, but only from the first replica's batch.

        Keras averages the replicas' batches to learn their shapes. This fails
        where a batch does not split evenly, and always on several machines.

        Reference:
         - [Keras issue 20585](https://github.com/keras-team/keras/issues/20585)
        """
        strategy = self.distribute_strategy
        if iterator is not None and strategy.num_replicas_in_sync > 1:
            _, _, batches = next(iter(iterator))
            data_batch = tf.nest.map_structure(
                lambda value: strategy.experimental_local_results(value)[0],
                next(batches),
            )
            iterator = None
        super()._maybe_symbolic_build(iterator, data_batch)

    def get_metrics_result(self) -> dict[str, tf.Tensor]:
        """Returns the metrics' values, without the table of the passes.

        That table has no place in a progress bar; read `pass_statistics`, as
        `tfadv.training.callbacks.PassSummaries` does. The objectives' losses
        exist only in training: the training step adds them.
        """
        results = super().get_metrics_result()
        for name in [
            PassStatistics.NAME,
            *(m.name for m in self.objective_losses),
        ]:
            results.pop(name, None)
        return results

    def seed_states(self) -> list[keras.Variable]:
        """Returns the states of the dropout layers' random generators."""
        layers = [self.encoder, self.head_dropout]
        variables = [v for layer in layers for v in layer.variables]
        weights = [w for layer in layers for w in layer.weights]
        return without(variables, weights)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.update(
            {
                "encoder": keras.saving.serialize_keras_object(self.encoder),
                "num_classes": self.num_classes,
                "adversary": keras.saving.serialize_keras_object(
                    self.adversary
                ),
                "objectives": keras.saving.serialize_keras_object(
                    list(self.objectives)
                ),
                "dropout": self.dropout,
                "accumulation_steps": self.accumulation_steps,
            }
        )
        return config

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        for key in ("encoder", "adversary", "objectives"):
            config[key] = keras.saving.deserialize_keras_object(config[key])
        return cls(**config)
