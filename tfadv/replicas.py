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

import keras
import tensorflow as tf

from tfadv.errors import InputError

STRATEGIES = ("none", "mirrored", "multi_worker")


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
    """Makes a process' only strategy of a kind.

    A second one would count its collective operations from the start again,
    and TensorFlow take them for those of the first.
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
    """Tells whether this process writes the results: the first of all."""
    resolver = tf.distribute.get_strategy().cluster_resolver
    return resolver is None or not resolver.task_id


def broadcast_from_chief(value):
    """Returns the chief's whole number on all workers.

    Args:
        value: int; that of others is not looked at.
    """
    value = value if is_chief() else 0

    def tell():
        context = tf.distribute.get_replica_context()
        first = tf.cast(context.replica_id_in_sync_group == 0, tf.int32)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, first * value)

    strategy = tf.distribute.get_strategy()
    told = strategy.run(tf.function(tell))
    return int(strategy.experimental_local_results(told)[0])


def local_copies(variable):
    """Lists the copies of a variable on this machine, one a replica.

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


def number():
    """Returns the number of this replica, an int32 scalar tensor."""
    context = tf.distribute.get_replica_context()
    return tf.convert_to_tensor(context.replica_id_in_sync_group, tf.int32)


def assign(variable, value) -> None:
    """Sets all copies of a variable on this machine to one value.

    Args:
        variable: `keras.Variable` or `tf.Variable`.
        value: array or tensor.
    """
    # Keras' metrics would share it out, for they are summed when read.
    for copy in local_copies(variable):
        copy.assign(value)


def own_copy(variable):
    """Returns the variable that this replica reads, of a mirrored one.

    A mirrored variable cannot be read in parts.

    Args:
        variable: `tf.Variable`.
    """
    copies = local_copies(variable)
    if len(copies) == 1:
        return copies[0]
    # Each replica has a graph of its own, in which its number is a constant.
    return copies[int(tf.get_static_value(number())) % len(copies)]


def total(values):
    """Sums tensors over the replicas; gradients are summed likewise.

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


def mean(values):
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


def for_keras(results):
    """Prepares a step's results, equal on all replicas, for Keras' `fit`.

    Of several machines Keras averages the first axis, which a scalar lacks.

    Args:
        results: dict of scalar tensors.

    Reference:
     - [Keras issue 20585](https://github.com/keras-team/keras/issues/20585)
    """
    resolver = tf.distribute.get_strategy().cluster_resolver
    if resolver is None or alone():
        return results
    return {name: tf.reshape(value, [1]) for name, value in results.items()}


def log_sum(values):
    """Sums over the replicas, in logarithms.

    Args:
        values: float32 tensor of equal shape on all replicas, the logarithms
            of what is summed.

    Returns:
        tensor of the same shape.
    """
    if alone():
        return values
    before = number()
    rest = count() - 1 - before
    paddings = [[before, rest], *[[0, 0]] * values.shape.rank]
    return tf.reduce_logsumexp(total(tf.pad(values[None], paddings)), axis=0)


def gather(values):
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


def own_rows(values):
    """Takes this replica's rows out of what `gather` has collected.

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
    These rows have weight 0, which makes them no examples.

    Args:
        rows: int scalar tensor: the rows of the batch that this replica has.

    Attributes:
        examples: the examples that this replica's means count for, so that
            those of all replicas together count for the global batch.

    Example:

    ```python
    share = Share(tf.shape(y)[0])
    x, y = share.filled((x, y))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, classifier(x))
    loss = tf.reduce_mean(losses * share.weights(tf.ones(share.examples)))
    # The mean of this over the replicas is the mean of the global batch.
    ```
    """

    def __init__(self, rows):
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

    def filled(self, values):
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

    def weights(self, sample_weight=None):
        """Weighs rows for means over this replica's share.

        Args:
            sample_weight: tensor of shape `[filled rows]` or `[filled rows,
                1]`, or `None`.

        Returns:
            float32 tensor of shape `[filled rows]`: with it, the average of
            the replicas' means is the mean over the global batch. With one
            replica `sample_weight` as it is.
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

    def gather(self, values):
        """Collects the rows of the global batch, without what fills it up.

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

    def own_rows(self, values):
        """Takes this replica's rows out of those of the global batch.

        Args:
            values: tensor of shape `[global batch, ...]`.

        Returns:
            tensor of shape `[filled rows, ...]`; what fills it up is any rows
            of the batch.
        """
        if self._alone:
            return values
        first = tf.reduce_sum(self._counts[: number()])
        index = first + tf.range(self._rows)
        return tf.gather(values, tf.minimum(index, self._total - 1))


@contextlib.contextmanager
def own_seeds(states):
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


def summed_gradients(pairs, optimizer):
    """Sums gradients over the replicas before an optimizer looks at them.

    Keras clips and looks for infinities before it sums over the replicas: it
    would see a replica's share. Where an optimizer does neither, the sum is
    left to it.

    Args:
        pairs: list of `(gradient, weight)`.
        optimizer: `keras.optimizers.Optimizer`.

    Returns:
        list of `(gradient, weight)` for `apply_gradients`, which sums over
        the replicas: with gradients that are equal on all of them.
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
    # Infinity is not clipped: the scale of the loss goes by it.
    return [
        tf.where(tf.math.is_finite(g), c, g)
        for g, c in zip(gradients, clipped, strict=True)
    ]


def _offset(state):
    return tf.cast(tf.stack([number(), 0]), state.dtype)
