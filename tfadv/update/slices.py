"""The update of a batch in slices: the memory of one, the result of all."""

import typing
from collections.abc import Iterable

import keras
import tensorflow as tf

from tfadv import replicas
from tfadv.errors import InputError
from tfadv.objectives.objective import Objective
from tfadv.update.pass_statistics import PassStatistics
from tfadv.update.passes import (
    AdversarialStep,
    Passes,
    initial_delta,
    read_pooled_only,
    without,
)


class Slices:
    """One batch, cut into slices that are read one after another.

    There are as many slices as the classifier has accumulation steps, but
    never more than examples. Their sizes differ by one example at most.
    Weights turn the mean over a slice into its part of the mean over the
    batch, so that losses and gradients of the slices add up to the batch's.

    The adversary's random start and the objectives' negatives are drawn once,
    for the whole batch. Dropout masks differ from slice to slice.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        x: dict, as the classifier's `call` takes it.
        y: labels, as the compiled loss takes them.
        sample_weight: tensor of shape `[batch]`, or `None`.
        share: `tfadv.replicas.Share`, where this batch is one replica's share
            of a larger one.

    Raises:
        InputError: there are several replicas, and an objective exchanges
            something between them in its loss.

    Example:

    ```python
    step = Slices(classifier, x, y).gradients()
    optimizer.apply_gradients(step.gradients)
    ```
    """

    def __init__(
        self,
        classifier: keras.Model,
        x: dict[str, tf.Tensor],
        y: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        share: replicas.Share | None = None,
    ):
        self._classifier = classifier
        self._x = x
        self._y = y
        self._sample_weight = sample_weight
        self._rows = tf.shape(x["token_ids"])[0]
        self._share = share or replicas.Share(self._rows)
        self._count = tf.minimum(classifier.accumulation_steps, self._rows)
        self._objectives = [o for o in classifier.objectives if o.active]
        check_replicas(self._objectives)
        # The states of a batch's draws, and of the dropout masks.
        self._draws = [
            (state, tf.identity(state))
            for objective in classifier.objectives
            for state in without(objective.variables, objective.weights)
        ]
        self._masks = [
            (state, tf.identity(state)) for state in classifier.seed_states()
        ]
        self._start = None
        if classifier.adversary is not None:
            self._start = initial_delta(
                classifier,
                classifier.adversary.at(classifier.optimizer.iterations),
                x["padding_mask"],
                self._share,
            )

    def plain_gradients(
        self,
    ) -> tuple[list[tuple[tf.Tensor, keras.Variable]], tf.Tensor, tf.Tensor]:
        """Computes the same as `AdversarialClassifier.plain_gradients`."""

        def one_slice(part):
            pairs, logits, loss = self._classifier.plain_gradients(
                part.x, part.y, part.sample_weight
            )
            return ([g for g, _ in pairs], loss), {"logits": logits}

        (gradients, loss), outputs = self._run(
            one_slice,
            (self._zero_gradients(), tf.constant(0.0)),
            self._specs("logits"),
        )
        return self._paired(gradients), outputs["logits"], loss

    def gradients(self) -> AdversarialStep:
        """Computes the same as `tfadv.update.passes.Passes.gradients`."""
        self._calibrate()
        statistics = [
            self._classifier.adversary.steps,
            len(PassStatistics.COLUMNS),
        ]
        kept = {"adversarial": self._specs("logits")}
        if self._objectives:
            kept["adversarial"] = self._outputs(
                read_pooled_only(self._objectives)
            )
        of_clean = [o for o in self._objectives if o.needs_clean]
        if of_clean:
            kept["clean"] = self._outputs(read_pooled_only(of_clean))

        def one_slice(part):
            step = part.passes().gradients()
            sums = (
                [g for g, _ in step.gradients],
                step.loss,
                step.statistics,
                step.objective_losses,
            )
            outputs = {"adversarial": {"logits": step.logits}}
            if self._objectives:
                outputs["adversarial"] = step.adversarial
            if "clean" in kept:
                outputs["clean"] = step.clean
            return sums, outputs

        sums, outputs = self._run(
            one_slice,
            (
                self._zero_gradients(),
                tf.constant(0.0),
                tf.zeros(statistics),
                {o.name: tf.constant(0.0) for o in self._objectives},
            ),
            kept,
        )
        gradients, loss, statistics, objective_losses = sums
        adversarial = outputs["adversarial"]
        return AdversarialStep(
            self._paired(gradients),
            adversarial["logits"],
            loss,
            statistics,
            objective_losses,
            outputs.get("clean"),
            adversarial if self._objectives else None,
        )

    def outputs_without_gradients(
        self, pooled_only: bool = False
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Computes the same as `Passes.outputs_without_gradients`."""

        def one_slice(part):
            return (), part.passes().outputs_without_gradients(pooled_only)

        specs = self._outputs(pooled_only)
        _, outputs = self._run(one_slice, (), (specs, specs))
        return outputs

    def _calibrate(self):
        """Lets objectives see the whole batch, where they need it first.

        Some losses of a slice need the representations of all slices. Such a
        batch is read twice.
        """
        needed = {
            objective.name: needs
            for objective in self._objectives
            if (needs := objective.needs_calibration) is not None
        }
        if not needed:
            return
        objectives = [o for o in self._objectives if o.name in needed]

        def calibrate():
            outputs = self.outputs_without_gradients(
                read_pooled_only(objectives)
            )
            for objective in objectives:
                _set_back(self._draws)
                objective.calibrate(
                    self._x, self._y, *outputs, self._sample_weight
                )
            _set_back(self._draws + self._masks)
            return True

        tf.cond(tf.reduce_any(list(needed.values())), calibrate, lambda: False)

    def _run(self, one_slice, sums, specs):
        """Reads all slices in one graph loop, whose size does not grow.

        Args:
            one_slice: callable of a `_Slice` that returns a structure to sum up
                and a structure to collect.
            sums: structure of zeros.
            specs: structure of `tf.TensorSpec`, of tensors `[slice, ...]`.

        Returns:
            The structure of sums, and that of tensors `[batch, ...]`.
        """
        arrays = tf.nest.map_structure(
            lambda spec: tf.TensorArray(
                spec.dtype,
                self._count,
                infer_shape=False,
                element_shape=spec.shape,
            ),
            specs,
        )

        def body(index, sums, arrays):
            _set_back(self._draws)
            parts, outputs = one_slice(self._slice(index))
            sums = tf.nest.map_structure(
                lambda total, part: total + tf.cast(part, total.dtype),
                sums,
                parts,
            )
            arrays = tf.nest.map_structure(
                lambda array, part: array.write(index, part), arrays, outputs
            )
            return index + 1, sums, arrays

        # parallel_iterations=1, or several slices would be in memory.
        _, sums, arrays = tf.while_loop(
            lambda index, *_: index < self._count,
            body,
            (tf.constant(0), sums, arrays),
            parallel_iterations=1,
        )
        return sums, tf.nest.map_structure(lambda a: a.concat(), arrays)

    def _slice(self, index):
        first = index * self._rows // self._count
        end = (index + 1) * self._rows // self._count
        part = tf.cast((end - first) / self._rows, tf.float32)

        def cut(values):
            return tf.nest.map_structure(lambda v: v[first:end], values)

        counted = self._share.weights()
        if counted is None:
            counted = tf.ones([self._rows])
        weights = counted
        if self._sample_weight is not None:
            weights = tf.reshape(self._sample_weight, [-1])
            weights = tf.cast(weights, tf.float32)
        return _Slice(
            self._classifier,
            cut(self._x),
            cut(self._y),
            cut(weights) * part,
            cut(counted) * part,
            None if self._start is None else cut(self._start),
        )

    def _outputs(self, pooled_only):
        """Describes outputs as objectives take them."""
        if pooled_only:
            return self._specs("pooled_output", "logits")
        return self._specs("sequence_output", "pooled_output", "logits")

    def _specs(self, *names):
        """Describes some of the outputs."""
        encoder = self._classifier.encoder
        hidden, dtype = encoder.hidden_dim, encoder.variable_dtype
        specs = {
            "sequence_output": tf.TensorSpec([None, None, hidden], dtype),
            "pooled_output": tf.TensorSpec([None, hidden], dtype),
            "logits": tf.TensorSpec([None, self._classifier.num_classes]),
        }
        return {name: specs[name] for name in names}

    def _zero_gradients(self):
        return [tf.zeros(w.shape) for w in self._classifier.trainable_weights]

    def _paired(self, gradients):
        weights = self._classifier.trainable_weights
        return [
            (tf.cast(gradient, weight.dtype), weight)
            for gradient, weight in zip(gradients, weights, strict=True)
        ]


class _Slice(typing.NamedTuple):
    """The arguments of `Passes` for one slice, which is its own share."""

    classifier: keras.Model
    x: dict[str, tf.Tensor]
    y: tf.Tensor
    sample_weight: tf.Tensor
    counted: tf.Tensor
    start: tf.Tensor | None

    def passes(self) -> Passes:
        return Passes(
            self.classifier,
            self.x,
            self.y,
            self.sample_weight,
            self,
            self.start,
        )

    def weights(self) -> tf.Tensor:
        """Weighs the slice's examples, as `tfadv.replicas.Share` does."""
        return self.counted


def check_replicas(objectives: Iterable[Objective]) -> None:
    """Refuses objectives that exchange something between replicas.

    Replicas cannot exchange anything in the loop over the slices.

    Args:
        objectives: list of `tfadv.Objective`.

    Raises:
        InputError: there are several replicas and such an objective.
    """
    if replicas.count() == 1:
        return
    for objective in objectives:
        if objective.exchanges_in_loss:
            remedy = objective.without_exchange
            raise InputError(
                "slices-cannot-exchange",
                f"the loss of the {objective.name} objective needs values of "
                "all replicas, which cannot be exchanged in slices of a batch",
                "give `accumulation_steps`=1 and a smaller `batch_size`"
                + (f", or {remedy}" if remedy else ""),
                argument="accumulation_steps",
            )


def _set_back(states):
    for variable, value in states:
        variable.assign(value)
