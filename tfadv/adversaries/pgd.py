"""Attacks on word embeddings: k-PGD, and FGM as its one-step case."""

import typing
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfadv.adversaries import perturbation
from tfadv.adversaries.ascent import run_passes
from tfadv.errors import InputError

NORMS = ("l2", "linf")


class Attack(typing.NamedTuple):
    """The strongest perturbation that an attack has found for each example.

    Args:
        delta: float32 of shape `[batch, tokens, embedding]`.
        fooled: bool of shape `[batch]`: whether the class was missed.
        loss: float32 of shape `[batch]`: the cross-entropy at delta.
        clean: dict of `"pooled_output"` and `"logits"`, without delta.
        adversarial: dict, the same with delta.
    """

    delta: tf.Tensor
    fooled: tf.Tensor
    loss: tf.Tensor
    clean: dict[str, tf.Tensor]
    adversarial: dict[str, tf.Tensor]


class Classifier(typing.Protocol):
    """What an attack uses of a `tfadv.AdversarialClassifier`."""

    encoder: typing.Any

    def classify(self, outputs: dict[str, tf.Tensor]) -> tf.Tensor:
        """Turns the encoder's outputs into logits."""


def pgd_attack(
    classifier: Classifier,
    x: dict[str, tf.Tensor],
    y: Sequence[int] | np.ndarray | tf.Tensor,
    epsilon: float | tf.Tensor,
    steps: int = 10,
    step_size: float | tf.Tensor | None = None,
    norm: str = "l2",
    restarts: int = 1,
    seed: int = 0,
    stop_when_fooled: bool = False,
) -> Attack:
    """Attacks a batch by projected gradient ascent within a ball.

    Delta starts at zero, and at each further start at a random point of the
    ball. It makes `steps` steps along the gradient of its own example's
    cross-entropy: along the gradient's direction in an L2 ball, along its sign
    in an L-infinity ball. One step from zero is FGM. An example keeps one of
    all the points that it has visited: the one with the highest loss among
    those that fool the classifier, or among all points where none fools it.
    So more steps of the same size, or more restarts, never make an attack
    weaker.

    An example's result depends neither on other examples, nor on its place in
    the batch, nor on the padding.

    Args:
        classifier: `tfadv.AdversarialClassifier`.
        x: dict of tensors, as the classifier's `call` takes it.
        y: ints or int tensor of shape `[batch]`, the classes.
        epsilon: float or scalar tensor: the radius of the ball. With `"l2"`,
            the norm is taken over all of an example's tokens. 0 leaves the
            embeddings clean.
        steps: int, k.
        step_size: float or scalar tensor; `None` for 2.5 * epsilon / k, which
            reaches any point of the ball.
        norm: string, `"l2"` or `"linf"`.
        restarts: int, the number of starts. The first one is at zero.
        seed: int, the seed of the random starts.
        stop_when_fooled: bool. Whether an example stays at the first point
            that fools the classifier, and the loop ends when all examples
            have one. The same examples fool it either way.

    Returns:
        `Attack`.

    Raises:
        InputError: a setting is out of its range.

    Example:

    ```python
    run = tfadv.load("runs/freelb")
    x = run.tokenizer(["a gorgeous, witty film", "a dull mess"])
    attack = tfadv.pgd_attack(run.classifier, x, [1, 0], epsilon=0.2)
    attack.fooled  # [False, True]
    ```

    Reference:
     - [Madry et al. 2018](https://arxiv.org/abs/1706.06083)
     - CARL and RAR paper, Tables 4 and 5
    """
    _check_attack(epsilon, steps, step_size, norm, restarts)
    epsilon = tf.convert_to_tensor(epsilon, tf.float32)
    if step_size is None:
        step_size = 2.5 * epsilon / steps
    encoder = classifier.encoder
    mask = x["padding_mask"]
    y = tf.cast(tf.convert_to_tensor(y), tf.int32)
    clean_embeddings = tf.cast(encoder.embed(x), tf.float32)

    def found_at(delta):
        embeddings = clean_embeddings + delta
        outputs = encoder.encode(embeddings, x, pooled_only=True)
        logits = classifier.classify(outputs)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
        fooled = tf.argmax(logits, axis=1, output_type=tf.int32) != y
        return _Found(delta, fooled, losses, {**outputs, "logits": logits})

    def stronger(best, other):
        wins = tf.where(
            other.fooled == best.fooled,
            other.loss > best.loss,
            other.fooled & ~best.fooled,
        )
        # Numbers that have overflowed fool nobody.
        wins &= tf.math.is_finite(other.loss)
        if stop_when_fooled:
            wins &= ~best.fooled
        return tf.nest.map_structure(
            lambda new, old: _where(wins, new, old), other, best
        )

    def climb(delta):
        """Returns what is found at delta, and the gradient there."""
        with tf.GradientTape() as tape:
            tape.watch(delta)
            found = found_at(delta)
            # To the size of 1, so that a confident example's gradient does
            # not vanish in float16; its direction is all that is used.
            probabilities = tf.nn.softmax(found.outputs["logits"])
            others = 1.0 - tf.one_hot(y, tf.shape(probabilities)[1])
            wrong = tf.reduce_sum(probabilities * others, axis=1)
            scaled = found.loss / tf.stop_gradient(tf.maximum(wrong, 1e-30))
        return found, tape.gradient(scaled, delta)

    def one_pass(index, delta, best):
        found, gradient = climb(delta)
        best = stronger(best, found)
        if stop_when_fooled:
            # A step along zero is none.
            gradient = _where(best.fooled, tf.zeros_like(gradient), gradient)
        return gradient, best

    def ascend(delta, gradient):
        step = perturbation.step if norm == "l2" else perturbation.sign_step
        delta = step(delta, gradient, mask, step_size)
        return perturbation.into_ball(delta, epsilon, norm)

    def ends(best):
        return tf.reduce_all(best.fooled)

    def walk(delta, best, first=0):
        delta, best = run_passes(
            one_pass,
            ascend,
            delta,
            best,
            steps=steps + 1,
            first=first,
            last=steps,
            until=ends if stop_when_fooled else None,
        )
        return stronger(best, found_at(delta))

    def goes_on(restart, best):
        more = restart < restarts
        return more & ~ends(best) if stop_when_fooled else more

    def random_walk(restart, best):
        delta = perturbation.random_in_ball(
            mask, encoder.embedding_dim, epsilon, norm, _seeds(x, seed, restart)
        )
        return restart + 1, walk(delta, best)

    # The first pass of the first walk is the clean one, too.
    clean, gradient = climb(tf.zeros_like(clean_embeddings))
    best = walk(ascend(clean.delta, gradient), clean, first=1)
    if restarts > 1:
        _, best = tf.while_loop(
            goes_on,
            random_walk,
            (tf.constant(1), best),
            parallel_iterations=1,
            maximum_iterations=restarts - 1,
        )
    return Attack(
        best.delta, best.fooled, best.loss, clean.outputs, best.outputs
    )


def _check_attack(epsilon, steps, step_size, norm, restarts):
    """Refuses settings out of their range; tensors have no value yet."""
    infinity = float("inf")
    # Written so that NaN fails, too.
    for argument, value, allowed, expected in (
        ("norm", norm, norm in NORMS, f"one of {', '.join(NORMS)}"),
        ("steps", steps, steps >= 1, "at least 1"),
        ("restarts", restarts, restarts >= 1, "at least 1"),
        (
            "epsilon",
            epsilon,
            tf.is_tensor(epsilon) or 0 <= epsilon < infinity,
            "0 or a positive number",
        ),
        (
            "step_size",
            step_size,
            step_size is None
            or tf.is_tensor(step_size)
            or 0 < step_size < infinity,
            "a positive number, or None",
        ),
    ):
        if not allowed:
            raise InputError(
                "not-a-choice" if argument == "norm" else "out-of-range",
                f"expected {expected}",
                "give such a value",
                argument=argument,
                value=value,
            )


class _Found(typing.NamedTuple):
    """Points in the balls of a batch, and what the classifier does there."""

    delta: tf.Tensor
    fooled: tf.Tensor
    loss: tf.Tensor
    outputs: dict


def _where(rows, new, old):
    """Takes some rows of one tensor and the others of another."""
    shape = tf.concat(
        [tf.shape(rows), tf.ones([new.shape.rank - 1], tf.int32)], 0
    )
    return tf.where(tf.reshape(rows, shape), new, old)


def _seeds(x, seed, restart):
    """Makes a seed for each example from its words, wherever it stands."""
    ids = tf.cast(x["token_ids"] * x["padding_mask"], tf.int64)
    # Knuth's multiplicative hash of the places; no sum leaves int64.
    places = tf.range(1, tf.shape(ids, tf.int64)[1] + 1) * 2654435761 % 2**31
    keys = tf.reduce_sum(ids * places, axis=1) % 2**31
    first = seed * 2**20 + tf.cast(restart, tf.int64)
    return tf.stack([tf.fill(tf.shape(keys), first), keys], axis=1)
