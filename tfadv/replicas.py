"""Several replicas, one training step: shares of a batch, sums over all.

A replica is a device that has a copy of the weights and computes on its share
of every batch. With one replica, every function here returns its argument. All
communication is a sum over the replicas, at the top level of the step: never
in a loop or a branch, which replicas could enter at different times.
"""

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import keras
import numpy as np
import tensorflow as tf

from tfadv.errors import InputError

STRATEGIES = ("none", "mirrored", "multi_worker")

# A tensor or a nested structure of them.
Tensors = TypeVar("Tensors")


def strategy(name: str) -> tf.distribute.Strategy:
    """Returns the `tf.distribute.Strategy` of a name.

    Args:
        name: string: `"none"`; `"mirrored"` for a replica on every GPU of this
            machine or, without GPUs, on every logical CPU device; or
            `"multi_worker"` for those of all machines that the environment
            variable `TF_CONFIG` lists.

    Raises:
        InputError: there is no such strategy, or `TF_CONFIG` is missing or
            wrong.
    """
    if name not in STRATEGIES:
        raise InputError(
            "not-a-choice",
            f"expected one of {', '.join(STRATEGIES)}",
            "choose one of them",
            argument="strategy",
            value=name,
        )
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return _only_one(tf.distribute.MirroredStrategy)
    _check_tf_config()
    try:
        return _only_one(tf.distribute.MultiWorkerMirroredStrategy)
    except (RuntimeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            "workers-not-connected",
            f"the workers did not find each other ({reason})",
            "check that the addresses in TF_CONFIG are right and that all "
            "workers run, and give `data_dir` instead of a dataset that "
            "TensorFlow Datasets loads",
            argument="strategy",
            value=name,
        ) from error


@functools.cache
def _only_one(kind):
    """Makes the only strategy of a kind in this process.

    A second one would count its collective operations from the start again,
    and TensorFlow would take them for those of the first.
    """
    return kind()


def _check_tf_config():
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        index = config["task"]["index"]
        right = isinstance(workers, list) and index in range(len(workers))
    except (KeyError, TypeError, ValueError):
        right = False
    if not right:
        raise InputError(
            "wrong-tf-config",
            'expected TF_CONFIG=\'{"cluster": {"worker": ["host0:2222", '
            '"host1:2222"]}, "task": {"type": "worker", "index": 0}}\', found '
            f"{text[:200]!r}",
            "set it on every machine, with another index each",
            argument="strategy",
            value="multi_worker",
        )


def is_chief() -> bool:
    """Tells whether this process, the first of all, writes the results."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return resolver is None or not resolver.task_id


def broadcast_from_chief(value: int) -> int:
    """Returns the chief's whole number on all workers.

    Args:
        value: int; only the chief's counts.
    """
    value = value if is_chief() else 0

    def tell():
        context = tf.distribute.get_replica_context()
        first = tf.cast(context.replica_id_in_sync_group == 0, tf.int32)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, first * value)

    strategy = tf.distribute.get_strategy()
    told = strategy.run(tf.function(tell))
    return int(strategy.experimental_local_results(told)[0])


def local_copies(
    variable: keras.Variable | tf.Variable,
) -> tuple[tf.Variable, ...]:
    """Lists the copies of a variable on this machine, one for each replica.

    Args:
        variable: `keras.Variable` or `tf.Variable`.
    """
    if isinstance(variable, keras.Variable):
        variable = variable.value
    return tf.distribute.get_strategy().experimental_local_results(variable)


def count() -> int:
    """Returns the number of replicas, an int."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def alone() -> bool:
    """Tells whether there is no other replica to exchange anything with."""
    return count() == 1 or tf.distribute.in_cross_replica_context()


def number() -> tf.Tensor:
    """Returns the number of this replica, an int32 scalar tensor."""
    context = tf.distribute.get_replica_context()
    return tf.convert_to_tensor(context.replica_id_in_sync_group, tf.int32)


def assign(
    variable: keras.Variable | tf.Variable, value: np.ndarray | tf.Tensor
) -> None:
    """Sets all copies of a variable on this machine to one value.

    Args:
        variable: `keras.Variable` or `tf.Variable`.
        value: array or tensor.
    """
    # Keras' metrics would divide it, because they are summed when read.
    for copy in local_copies(variable):
        copy.assign(value)


def own_copy(variable: tf.Variable) -> tf.Variable:
    """Returns this replica's copy of a mirrored variable.

    A mirrored variable cannot be read in parts.

    Args:
        variable: `tf.Variable`.
    """
    copies = local_copies(variable)
    if len(copies) == 1:
        return copies[0]
    # Each replica has a graph of its own, in which its number is a constant.
    return copies[int(tf.get_static_value(number())) % len(copies)]


def total(values: Tensors) -> Tensors:
    """Sums tensors over the replicas. Gradients are summed in the same way.

    Args:
        values: tensor or nested structure of tensors, of equal shapes on all
            replicas.

    Returns:
        The same structure.
    """
    if alone():
        return values
    context = tf.distribute.get_replica_context()
    flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(values)]
    # MirroredStrategy sums integers elsewhere, and not together with floats.
    for dtype in dict.fromkeys(value.dtype for value in flat):
        places = [i for i, value in enumerate(flat) if value.dtype == dtype]
        sums = context.all_reduce(
            tf.distribute.ReduceOp.SUM, [flat[i] for i in places]
        )
        for i, value in zip(places, sums, strict=True):
            flat[i] = value
    return tf.nest.pack_sequence_as(values, flat)


def mean(values: Tensors) -> Tensors:
    """Averages tensors over the replicas.

    Args:
        values: tensor or nested structure of float tensors, of equal shapes on
            all replicas.

    Returns:
        The same structure.
    """
    if alone():
        return values
    return tf.nest.map_structure(lambda v: v / count(), total(values))


def for_keras(results: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Prepares a step's results, equal on all replicas, for Keras' `fit`.

    With several machines, Keras averages over the first axis, and a scalar has
    none.

    Args:
        results: dict of scalar tensors.

    Reference:
     - [Keras issue 20585](https://github.com/keras-team/keras/issues/20585)
    """
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or alone():
        return results
    return {name: tf.reshape(value, [1]) for name, value in results.items()}


def log_sum(values: tf.Tensor) -> tf.Tensor:
    """Sums numbers over the replicas, in logarithms.

    Args:
        values: float32 tensor of equal shape on all replicas, the logarithms
            of the numbers.

    Returns:
        tensor of the same shape.
    """
    if alone():
        return values
    before = number()
    rest = count() - 1 - before
    paddings = [[before, rest], *[[0, 0]] * values.shape.rank]
    return tf.reduce_logsumexp(total(tf.pad(values[None], paddings)), axis=0)


def gather(values: Tensors) -> Tensors:
    """Collects the rows of all replicas, in the replicas' order.

    Args:
        values: tensor or nested structure of tensors of shape `[rows, ...]`,
            of equal shapes on all replicas.

    Returns:
        The same structure, of shape `[replicas * rows, ...]`. Gradients flow
        back from all replicas to the one that a row comes from.
    """
    if alone():
        return values

    def among_zeros(value):
        value = tf.convert_to_tensor(value)
        rows = tf.shape(value)[0]
        before, after = number() * rows, (count() - 1 - number()) * rows
        inner = [[0, 0]] * (value.shape.rank - 1)
        return tf.pad(value, [[before, after], *inner])

    return total(tf.nest.map_structure(among_zeros, values))


def own_rows(values: tf.Tensor) -> tf.Tensor:
    """Takes this replica's rows out of those that `gather` has collected.

    Args:
        values: tensor of shape `[replicas * rows, ...]`.

    Returns:
        tensor of shape `[rows, ...]`.
    """
    if alone():
        return values
    rows = tf.shape(values)[0] // count()
    return values[number() * rows : (number() + 1) * rows]


class Share:
    """One replica's share of a global batch, as long as every other one.

    A batch need not split evenly, and a replica may get none of it. So all
    shares are filled up with rows of zeros to the length of the longest one.
    These rows have weight 0, so they do not count as examples.

    Args:
        rows: int scalar tensor: how many rows of the batch this replica has.

    Attributes:
        examples: scalar tensor: how many examples this replica's means count
            for. Over all replicas this adds up to the global batch.

    Example:

    ```python
    share = Share(tf.shape(y)[0])
    x, y = share.filled((x, y))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, classifier(x))
    loss = tf.reduce_mean(losses * share.weights(tf.ones(share.examples)))
    # The mean of this over the replicas is the mean of the global batch.
    ```
    """

    def __init__(self, rows: tf.Tensor):
        self._alone = alone()
        if self._alone:
            self.examples = rows
            return
        # How many rows of the batch each replica has.
        self._counts = total(
            tf.one_hot(number(), count(), dtype=tf.int32) * rows
        )
        self._rows = tf.maximum(tf.reduce_max(self._counts), 1)
        self._total = tf.reduce_sum(self._counts)
        self.examples = tf.cast(self._total, tf.float32) / count()

    def filled(self, values: Tensors) -> Tensors:
        """Fills up rows of the batch to the length of every share.

        Args:
            values: nested structure of tensors of shape `[rows, ...]`, or of
                `None`, which stays.
        """
        if self._alone:
            return values

        def fill(value):
            if value is None:
                return None
            value = tf.convert_to_tensor(value)
            missing = self._rows - tf.shape(value)[0]
            inner = [[0, 0]] * (value.shape.rank - 1)
            return tf.pad(value, [[0, missing], *inner])

        return tf.nest.map_structure(fill, values)

    def weights(
        self, sample_weight: tf.Tensor | None = None
    ) -> tf.Tensor | None:
        """Gives rows their weights in means over this replica's share.

        Args:
            sample_weight: tensor of shape `[filled rows]` or `[filled rows,
                1]`, or `None`.

        Returns:
            float32 tensor of shape `[filled rows]`: with it, the average of
            the replicas' means is the mean over the global batch. With one
            replica, this is `sample_weight` as it is.
        """
        if self._alone:
            return sample_weight
        weight = tf.cast(self._rows, tf.float32) / self.examples
        real = tf.range(self._rows) < self._counts[number()]
        weights = tf.where(real, weight, 0.0)
        if sample_weight is not None:
            sample_weight = tf.reshape(sample_weight, [self._rows])
            weights *= tf.cast(sample_weight, tf.float32)
        return weights

    def gather(self, values: Tensors) -> Tensors:
        """Collects the rows of the global batch, without the filling.

        Args:
            values: nested structure of tensors of shape `[filled rows, ...]`.

        Returns:
            The same structure, of shape `[global batch, ...]`.
        """
        if self._alone:
            return values
        real = tf.reshape(tf.sequence_mask(self._counts, self._rows), [-1])
        return tf.nest.map_structure(
            lambda value: tf.boolean_mask(value, real), gather(values)
        )

    def own_rows(self, values: tf.Tensor) -> tf.Tensor:
        """Takes this replica's rows out of those of the global batch.

        Args:
            values: tensor of shape `[global batch, ...]`.

        Returns:
            tensor of shape `[filled rows, ...]`; any rows of the batch fill it
            up.
        """
        if self._alone:
            return values
        first = tf.reduce_sum(self._counts[: number()])
        index = first + tf.range(self._rows)
        return tf.gather(values, tf.minimum(index, self._total - 1))


@contextlib.contextmanager
def own_seeds(states: Sequence[keras.Variable]) -> Iterator[None]:
    """Draws differently on every replica while the context lasts.

    Replicas keep equal states of random generators, so that without this the
    first examples of two replicas would have the same dropout mask.

    Args:
        states: list of `keras.Variable`, each the state of a
            `keras.random.SeedGenerator`.
    """
    if alone():
        yield
        return
    for state in states:
        state.assign_add(_offset(state))
    yield
    for state in states:
        state.assign_sub(_offset(state))


def summed_gradients(
    pairs: list[tuple[tf.Tensor, keras.Variable]],
    optimizer: keras.optimizers.Optimizer,
) -> list[tuple[tf.Tensor, keras.Variable]]:
    """Sums gradients over the replicas before an optimizer looks at them.

    Keras clips and looks for infinities before it sums over the replicas: it
    would see only one replica's share. Where an optimizer does neither, the
    sum is left to it.

    Args:
        pairs: list of `(gradient, weight)`.
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        list of `(gradient, weight)` for `apply_gradients`, which sums over
        the replicas. The gradients are equal on all of them, or are `pairs`
        where the sum is left to the optimizer.
    """
    scaling = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    clipping = optimizer.inner_optimizer if scaling else optimizer
    limits = (
        clipping.clipnorm,
        clipping.global_clipnorm,
        clipping.clipvalue,
    )
    if alone() or not (scaling or any(limits)):
        return pairs
    gradients = total([gradient for gradient, _ in pairs])
    scale = optimizer.scale_loss(1.0) if scaling else 1.0
    gradients = _clipped(gradients, *limits, scale)
    return [
        (gradient / count(), weight)
        for gradient, (_, weight) in zip(gradients, pairs, strict=True)
    ]


def _clipped(gradients, norm, global_norm, value, scale):
    """Clips as Keras does, gradients of a loss that has been scaled."""
    if norm:
        clipped = [tf.clip_by_norm(g, norm * scale) for g in gradients]
    elif global_norm:
        clipped, _ = tf.clip_by_global_norm(gradients, global_norm * scale)
    elif value:
        limit = value * scale
        clipped = [tf.clip_by_value(g, -limit, limit) for g in gradients]
    else:
        return gradients
    # Infinity is not clipped: the scale of the loss depends on it.
    return [
        tf.where(tf.math.is_finite(g), c, g)
        for g, c in zip(gradients, clipped, strict=True)
    ]


def _offset(state):
    return tf.cast(tf.stack([number(), 0]), state.dtype)
