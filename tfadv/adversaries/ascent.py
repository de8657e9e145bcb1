"""The one loop of training and of attacks: pass, ascend, again."""

from collections.abc import Callable
from typing import TypeVar

import tensorflow as tf

State = TypeVar("State")


def run_passes(
    one_pass: Callable[[tf.Tensor, tf.Tensor, State], tuple[tf.Tensor, State]],
    ascend: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    delta: tf.Tensor,
    state: State,
    steps: int | tf.Tensor,
    first: int = 0,
    last: int | tf.Tensor | None = None,
    until: Callable[[State], tf.Tensor] | None = None,
) -> tuple[tf.Tensor, State]:
    """Runs passes in one graph loop whose size does not grow with n.

    Training and attacks both use this loop. Delta ascends after every pass
    but the n-th: the delta that the n-th pass sees is the adversary.

    Args:
        one_pass: callable of `(index, delta, state)` that returns the
            gradient of the loss with respect to delta and the new state.
        ascend: callable of `(delta, gradient)` that returns the next delta.
        delta: the first pass's delta.
        state: nested structure of tensors, carried from pass to pass.
        steps: int or scalar tensor, n.
        first: int. The pass to begin with.
        last: int or scalar tensor. The loop ends before this pass; `None` for
            all n passes.
        until: callable of the state that returns a bool scalar: whether to
            end earlier. `None` for never.

    Returns:
        `(delta, state)`: the delta for pass `last`, or the one of the n-th
        pass; and the last state.
    """
    last = steps if last is None else last

    def goes_on(index, delta, state):
        more = index < last
        return more if until is None else more & ~until(state)

    def body(index, delta, state):
        gradient, state = one_pass(index, delta, state)
        delta = tf.where(index + 1 < steps, ascend(delta, gradient), delta)
        return index + 1, delta, state

    if isinstance(last, int) and first >= last:
        return delta, state
    # tf.while_loop runs eagerly as well; parallel_iterations=1 because the
    # seed generators are set back at the start of every pass.
    _, delta, state = tf.while_loop(
        goes_on,
        body,
        (tf.constant(first), delta, state),
        parallel_iterations=1,
        maximum_iterations=last - first,
    )
    return delta, state
