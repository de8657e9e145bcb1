"""The passes of one adversarial update: forward, backward, ascend, again."""

import functools
import typing
from collections.abc import Iterable

import keras
import tensorflow as tf

from tfadv import replicas
from tfadv.adversaries.freelb import FreeLB
from tfadv.objectives.objective import Objective
from tfadv.update.pass_statistics import PassStatistics, row


class AdversarialStep(typing.NamedTuple):
    """The results of the passes over one batch.

    Args:
        gradients: list of `(gradient, weight)`, all dense, in the order of
            the classifier's `trainable_weights`.
        logits: those of the last pass, `[batch, classes]`.
        loss: scalar, the sum that is trained on: the mean classification loss
            of the passes, and the objectives' weighted losses.
        statistics: float32 of shape `[steps, 3]`, with the columns of
            `PassStatistics`.
        objective_losses: dict of scalars, by the objectives' names.
        clean: dict of the clean outputs, or `None` where they were not needed.
        adversarial: dict of the last pass's outputs, or `None` where there
            are no objectives.
    """

    gradients: list[tuple[tf.Tensor, keras.Variable]]
    logits: tf.Tensor
    loss: tf.Tensor
    statistics: tf.Tensor
    objective_losses: dict[str, tf.Tensor]
    clean: dict[str, tf.Tensor] | None
    adversarial: dict[str, tf.Tensor] | None


class Weighted(typing.Protocol):
    """A share or a slice of a batch, which weighs its examples."""

    def weights(self) -> tf.Tensor | None:
        """Returns the weights, `[batch]`; `None` for equal ones."""


class Passes:
    """The n passes over one batch, and the sums of their gradients.

    A pass is one forward and one backward computation on the word embeddings
    plus delta.

    The classification loss of every pass counts 1 / n. The objectives' losses
    are those of the last pass and count whole. Delta ascends only along the
    classification loss. The dropout masks are the same in all passes.

    The word embeddings are looked up once. The gradient with respect to delta
    is also theirs: it serves the ascent, and its sum over the passes goes back
    through the lookup at the end.

    Args:
        classifier: `tfadv.AdversarialClassifier` with an adversary.
        x: dict, as the classifier's `call` takes it.
        y: labels, as the compiled loss takes them.
        sample_weight: tensor of shape `[batch]`, or `None`.
        share: `tfadv.replicas.Share`, where this batch is one replica's share
            of a larger one; or a slice, which has the same `weights`.
        start: tensor, the first pass's delta; `None` for the result of
            `initial_delta`.

    Reference:
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764), Algorithm 1
     - CARL and RAR paper, Eq. 6 and 7
    """

    def __init__(
        self,
        classifier: keras.Model,
        x: dict[str, tf.Tensor],
        y: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
        share: Weighted | None = None,
        start: tf.Tensor | None = None,
    ):
        self._classifier = classifier
        self._adversary = classifier.adversary.at(
            classifier.optimizer.iterations
        )
        self._x = x
        self._y = y
        self._sample_weight = sample_weight
        self._mask = x["padding_mask"]
        self._share = share or replicas.Share(tf.shape(self._mask)[0])
        self._start = start
        self._looked_up = classifier.encoder.embedding_weights
        # All weights behind the lookup.
        self._weights = without(classifier.trainable_weights, self._looked_up)
        with tf.GradientTape() as self._lookup_tape:
            self._lookup = classifier.encoder.embed(x, training=True)
        self._clean = tf.cast(self._lookup, tf.float32)
        self._seeds = [
            (state, tf.identity(state)) for state in classifier.seed_states()
        ]

    def gradients(self) -> AdversarialStep:
        """Runs all passes.

        Returns:
            `AdversarialStep`.
        """
        objectives = [o for o in self._classifier.objectives if o.active]
        delta = self._initial_delta()
        state = (
            [tf.zeros_like(self._clean), *map(_zeros, self._weights)],
            tf.zeros(
                [
                    self._adversary.steps,
                    len(PassStatistics.COLUMNS),
                ]
            ),
            tf.zeros([tf.shape(self._mask)[0], self._classifier.num_classes]),
        )
        if objectives:
            return self._with_objectives(objectives, delta, state)
        _, state = self._adversary.run(self._pass, delta, self._mask, state)
        totals, statistics, logits = state
        loss = tf.reduce_mean(statistics[:, 0])
        pairs = self._paired(totals)
        return AdversarialStep(pairs, logits, loss, statistics, {}, None, None)

    def outputs_without_gradients(
        self, pooled_only: bool = False
    ) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
        """Runs all passes without any gradient for the parameters.

        Args:
            pooled_only: bool, as in `tfadv.Encoder.encode`.

        Returns:
            Two dicts: the clean outputs and those of the last pass.
        """

        def ascent_only(index, delta, state):
            with tf.GradientTape() as tape:
                tape.watch(delta)
                _, loss = self._forward(delta)
                scaled = self._scaled(loss)
            return tape.gradient(scaled, delta), state

        clean_pass, delta, first = self._clean_start(
            self._initial_delta(), pooled_only
        )
        delta, _ = self._adversary.run(
            ascent_only,
            delta,
            self._mask,
            (),
            first,
            self._adversary.steps - 1,
        )
        adversarial, _ = self._forward(delta, pooled_only)
        return clean_pass.outputs, adversarial

    def _clean_start(self, delta, pooled_only):
        """Makes the clean pass.

        Where the first of several passes is at the clean embeddings, it is
        the clean pass, and delta ascends after it.

        Args:
            delta: the first pass's.
            pooled_only: bool, as in `tfadv.Encoder.encode`.

        Returns:
            `_CleanPass`, the next pass's delta and its number.
        """
        steps = self._adversary.steps
        shared = self._adversary.init_magnitude == 0 and steps > 1
        clean_pass = _CleanPass(
            functools.partial(self._forward, pooled_only=pooled_only),
            self._clean,
            shared,
        )
        if not shared:
            return clean_pass, delta, 0
        gradient = clean_pass.embedding_gradient(
            lambda loss: self._scaled(loss / steps)
        )
        return (
            clean_pass,
            self._adversary.ascend(delta, gradient, self._mask),
            1,
        )

    def _initial_delta(self):
        if self._start is not None:
            return self._start
        return initial_delta(
            self._classifier, self._adversary, self._mask, self._share
        )

    def _forward(self, delta, pooled_only=True):
        """Returns the outputs on perturbed embeddings, and their loss."""
        classifier = self._classifier
        for variable, value in self._seeds:
            variable.assign(value)
        outputs = classifier.encoder.encode(
            self._clean + delta,
            self._x,
            training=True,
            pooled_only=pooled_only,
        )
        logits = classifier.classify(outputs, training=True)
        loss = classifier.compute_loss(
            self._x, self._y, logits, self._sample_weight
        )
        return {**outputs, "logits": logits}, loss

    def _scaled(self, loss):
        return self._classifier.optimizer.scale_loss(loss)

    def _pass(self, index, delta, state):
        """One pass of the loop: its results are added to the state."""
        with tf.GradientTape() as tape:
            tape.watch(delta)
            outputs, loss = self._forward(delta)
            scaled = self._scaled(loss / self._adversary.steps)
        # Some weights may belong only to the objectives and have no part in
        # this loss; TensorFlow's own zeros fail on Keras' variables.
        gradients = tape.gradient(scaled, [delta, *self._weights])
        if gradients[0] is None:
            gradients[0] = tf.zeros_like(delta)
        totals, statistics, _ = state
        logits = outputs["logits"]
        return gradients[0], (
            _added(totals, gradients),
            self._with_row(statistics, index, loss, logits, delta),
            logits,
        )

    def _with_objectives(self, objectives, delta, state):
        """Runs the passes; the last one, outside the loop, has more losses."""
        steps = self._adversary.steps
        totals, statistics, logits = state
        clean_pass = None
        first = 0
        of_clean = [o for o in objectives if o.needs_clean]
        if of_clean:
            start = delta
            clean_pass, delta, first = self._clean_start(
                start, read_pooled_only(of_clean)
            )
            if first:
                statistics = self._with_row(
                    statistics,
                    0,
                    clean_pass.loss,
                    clean_pass.outputs["logits"],
                    start,
                )
        delta, (totals, statistics, _) = self._adversary.run(
            self._pass,
            delta,
            self._mask,
            (totals, statistics, logits),
            first,
            steps - 1,
        )
        clean = clean_pass.outputs if clean_pass else {}
        with tf.GradientTape() as tape:
            tape.watch((delta, clean))
            adversarial, loss = self._forward(
                delta, read_pooled_only(objectives)
            )
            losses = {
                objective.name: objective.loss(
                    self._x,
                    self._y,
                    clean if objective.needs_clean else None,
                    adversarial,
                    self._sample_weight,
                )
                for objective in objectives
            }
            auxiliary = tf.add_n(
                [o.weight * losses[o.name] for o in objectives]
            )
            scaled = self._scaled(loss / steps + auxiliary / replicas.count())
        gradients, tied, upstream = tape.gradient(
            scaled, ([delta, *self._weights], self._looked_up, clean)
        )
        totals = _added(totals, gradients)
        if clean_pass:
            totals = _added(
                totals, clean_pass.gradients(upstream, self._weights)
            )
        statistics = self._with_row(
            statistics, steps - 1, loss, adversarial["logits"], delta
        )
        return AdversarialStep(
            self._paired(totals, tied),
            adversarial["logits"],
            tf.reduce_mean(statistics[:, 0]) + auxiliary,
            statistics,
            losses,
            clean or None,
            adversarial,
        )

    def _with_row(self, statistics, index, loss, logits, delta):
        """Writes a pass's row of the statistics."""
        values = row(
            unscale_for_replicas(loss),
            self._y,
            logits,
            delta,
            self._share.weights(),
        )
        return tf.tensor_scatter_nd_update(statistics, [[index]], [values])

    def _paired(self, totals, tied=None):
        """Pairs the summed gradients with the weights, in their order.

        Args:
            totals: list of the gradients with respect to the embeddings and
                to the weights behind the lookup.
            tied: list of the gradients that reach the lookup's weights by
                another way, such as a projection onto the vocabulary. Entries
                may be `None`.
        """
        looked_up_gradients = self._lookup_tape.gradient(
            self._lookup,
            self._looked_up,
            output_gradients=tf.cast(totals[0], self._lookup.dtype),
        )
        looked_up_gradients = map(tf.convert_to_tensor, looked_up_gradients)
        if tied is not None:
            looked_up_gradients = _added(looked_up_gradients, tied)
        by_id = dict(
            zip(
                map(id, [*self._weights, *self._looked_up]),
                [*totals[1:], *looked_up_gradients],
                strict=True,
            )
        )
        # An optimizer's state is saved in the order in which it first sees
        # the weights, and loaded in that of trainable_weights.
        weights = self._classifier.trainable_weights
        return [(by_id[id(weight)], weight) for weight in weights]


class _CleanPass:
    """The pass over the clean embeddings, whose gradients wait for the end.

    The objectives' part in its outputs' gradients is known only then. One
    backward pass takes all.

    Args:
        forward: callable of delta that returns outputs and loss.
        embeddings: the clean embeddings.
        counts: bool, whether this is one of the adversary's passes, so that
            its loss counts.
    """

    def __init__(self, forward, embeddings, counts):
        self._embeddings = embeddings
        self._counts = counts
        self._scaled = None
        with tf.GradientTape(persistent=counts) as self._tape:
            self._tape.watch(embeddings)
            self.outputs, self.loss = forward(tf.zeros_like(embeddings))

    def embedding_gradient(self, scale):
        """Returns the loss's gradient for the ascent."""
        with self._tape:
            self._scaled = scale(self.loss)
        return self._tape.gradient(self._scaled, self._embeddings)

    def gradients(self, upstream, weights):
        """Returns the gradients with respect to embeddings and weights.

        Args:
            upstream: dict of the gradients with respect to the outputs.
            weights: list of variables.
        """
        reached = {k: v for k, v in upstream.items() if v is not None}
        targets = [self.outputs[name] for name in reached]
        output_gradients = list(reached.values())
        if self._counts:
            targets.append(self._scaled)
            output_gradients.append(tf.ones_like(self._scaled))
        return self._tape.gradient(
            targets,
            [self._embeddings, *weights],
            output_gradients=output_gradients,
        )


def read_pooled_only(objectives: Iterable[Objective]) -> bool:
    """Tells whether no objective needs the tokens' representations."""
    return not any(objective.needs_sequence for objective in objectives)


def initial_delta(
    classifier: keras.Model,
    adversary: FreeLB,
    padding_mask: tf.Tensor,
    share: replicas.Share,
) -> tf.Tensor:
    """Returns the delta with which an update begins.

    A random start is drawn for the whole batch, as on one replica.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        adversary: `tfadv.FreeLB`.
        padding_mask: tensor of shape `[batch, tokens]`.
        share: `tfadv.replicas.Share` of the batch.

    Returns:
        float32 tensor of shape `[batch, tokens, embedding]`.
    """
    drawn = adversary.init_magnitude != 0
    delta = adversary.initialize(
        share.gather(padding_mask) if drawn else padding_mask,
        classifier.encoder.embedding_dim,
        classifier.seed_generator,
    )
    return share.own_rows(delta) if drawn else delta


def without(
    variables: Iterable[keras.Variable], others: Iterable[keras.Variable]
) -> list[keras.Variable]:
    """Drops variables by identity: Keras variables compare by value."""
    left_out = {id(variable) for variable in others}
    return [v for v in variables if id(v) not in left_out]


def unscale_for_replicas(loss: tf.Tensor) -> tf.Tensor:
    """Undoes the division by the number of replicas inside a Keras loss."""
    return tf.cast(loss, tf.float32) * float(replicas.count())


def _zeros(weight):
    return tf.zeros(weight.shape, weight.dtype)


def _added(totals, gradients):
    """Sums gradients, one by one; `None` adds nothing."""
    return [
        total if gradient is None else total + tf.convert_to_tensor(gradient)
        for total, gradient in zip(totals, gradients, strict=True)
    ]
