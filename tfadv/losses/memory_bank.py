"""The memory of CARL: every training example's representations."""

import typing
from collections.abc import Callable, Sequence

import numpy as np
import psutil
import tensorflow as tf

from tfadv import replicas
from tfadv.errors import InputError
from tfadv.log import logger

# Rows in float32 at a time: 3 MB at 768 dimensions, which a cache holds.
_ROWS_AT_ONCE = 1024


class Negatives(typing.NamedTuple):
    """Tells which rows of a replica are negatives of which examples.

    Args:
        index: int32 tensor of shape `[rows]`, the numbers of the rows that
            some class has drawn; zeros behind them.
        size: int32 scalar, the number of these rows.
        drawn: bool tensor of shape `[classes, rows]`: whether a class has
            drawn a row, by the rows' numbers.
        classes: int tensor of shape `[batch]`, the examples' rows in `drawn`.
        counts: float32 tensor of shape `[batch]`: how many negatives an
            example has.
    """

    index: tf.Tensor
    size: tf.Tensor
    drawn: tf.Tensor
    classes: tf.Tensor
    counts: tf.Tensor


class MemoryBank:
    """Remembers the representations of all training examples.

    It has two tables of `[examples, hidden]`, one of clean and one of
    adversarial representations. An example's stable index addresses its rows.
    They are moving averages: `bank[i] = M * bank[i] + (1 - M) *
    representation`, the paper's Eq. 5 as it is written. Rows are stored as
    they are and normalised where they are scored. Updates do not renormalise
    them.

    The bank draws negatives and reads them; their scores and the losses are
    elsewhere (`tfadv.losses.contrastive`).

    Where several replicas train, each has the whole bank, and a row that is
    written on one of them is written on all. If the bank is sharded, each
    replica holds an equal part of the rows instead. It then draws and reads
    only its own rows.

    Args:
        labels: int array of shape `[examples]`, the class of every training
            example.
        hidden_dim: int, the size of a representation.
        num_negatives: int, m: negatives per example; `None` for every example
            of another class.
        momentum: float, M.
        dtype: string: `"float32"` or `"bfloat16"`, of the tables only.
        sharded: bool, whether each replica holds a part of the rows. The bank
            must then be built in the scope of its strategy.

    Attributes:
        clean: `tf.Variable` of shape `[rows, hidden]`.
        adversarial: `tf.Variable` of shape `[rows, hidden]`.
        rows: int, the number of rows that a replica holds.

    Raises:
        InputError: there is only one class, or `sharded` is true with only one
            replica.

    Example:

    ```python
    bank = MemoryBank([0, 1, 0], hidden_dim=4, num_negatives=None)
    bank.write([0, 1, 2], clean=np.eye(3, 4), adversarial=np.ones([3, 4]))
    negatives = bank.draw([0], seed=[1, 2])
    count, read = bank.blocks(bank.clean, negatives)
    rows, inverse, drawn = read(0)  # drawn: [[True, False, False]]
    ```

    Reference:
     - CARL and RAR paper, section 3.2, Eq. 5
     - [Wu et al. 2018](https://arxiv.org/abs/1805.01978)
    """

    def __init__(
        self,
        labels: Sequence[int] | np.ndarray,
        hidden_dim: int,
        num_negatives: int | None,
        momentum: float = 0.5,
        dtype: str = "float32",
        sharded: bool = False,
    ):
        labels = np.asarray(labels, np.int32)
        classes, counts = np.unique(labels, return_counts=True)
        if len(classes) < 2:
            raise InputError(
                "no-negatives",
                "expected at least two classes, or there are no negatives, "
                f"found {len(classes)} in {len(labels)} labels",
                "give examples of another class, too",
                argument="labels",
            )
        if sharded:
            _check_replicas()
        self.labels = labels
        self.hidden_dim = hidden_dim
        self.num_negatives = num_negatives
        self.momentum = float(momentum)
        self.dtype = dtype
        self.sharded = bool(sharded)
        self.rows = self.rows_held(len(labels), sharded)
        self._classes = classes
        self._strategy = tf.distribute.get_strategy()
        self.clean = self._table("clean")
        self.adversarial = self._table("adversarial")
        fewest = len(labels) - counts.max()
        if num_negatives is not None and fewest < num_negatives:
            logger.warning(
                "class %d has %d examples of other classes, fewer than the "
                "%d negatives asked for: all of them are taken",
                classes[counts.argmax()],
                fewest,
                num_negatives,
            )

    @staticmethod
    def rows_held(num_examples: int, sharded: bool = False) -> int:
        """Returns how many rows a replica of the current strategy holds."""
        return -(-num_examples // (replicas.count() if sharded else 1))

    @staticmethod
    def memory(
        num_examples: int, hidden_dim: int, dtype: str = "float32"
    ) -> int:
        """Returns the bytes that both tables take."""
        return 2 * num_examples * hidden_dim * tf.dtypes.as_dtype(dtype).size

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def variables(self) -> list[tf.Variable]:
        """The tables' variables; those of all replicas if it is sharded."""
        tables = (self.clean, self.adversarial)
        return [v for t in tables for v in self._shards(t)]

    def numpy(self, table: tf.Variable) -> np.ndarray:
        """Returns all rows of a table, wherever they are.

        Args:
            table: `self.clean` or `self.adversarial`.

        Returns:
            array of shape `[examples, hidden]`.
        """
        shards = [shard.numpy() for shard in self._shards(table)]
        return np.concatenate(shards)[: len(self)]

    def assign(self, table: tf.Variable, rows: np.ndarray | tf.Tensor) -> None:
        """Sets all rows of a table, wherever they are.

        Args:
            table: `self.clean` or `self.adversarial`.
            rows: array of shape `[examples, hidden]`.
        """
        rows = tf.cast(rows, self.dtype)
        shards = self._shards(table)
        rows = tf.pad(rows, [[0, self.rows * len(shards) - len(self)], [0, 0]])
        for shard, part in zip(
            shards, tf.split(rows, len(shards)), strict=True
        ):
            shard.assign(part)

    def write(
        self,
        index: Sequence[int] | tf.Tensor,
        clean: np.ndarray | tf.Tensor,
        adversarial: np.ndarray | tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Sets rows, which fills the bank.

        Args:
            index: int tensor of shape `[batch]`, without repeats.
            clean: tensor of shape `[batch, hidden]`.
            adversarial: tensor of shape `[batch, hidden]`.
            sample_weight: tensor of shape `[batch]`, or `None`. Rows of
                weight 0 are left out.
        """
        self._set(
            *self._for_rows_held(index, clean, adversarial, sample_weight)
        )

    def update(
        self,
        index: Sequence[int] | tf.Tensor,
        clean: np.ndarray | tf.Tensor,
        adversarial: np.ndarray | tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        """Moves rows towards new representations: Eq. 5.

        Args:
            index: int tensor of shape `[batch]`, without repeats.
            clean: tensor of shape `[batch, hidden]`.
            adversarial: tensor of shape `[batch, hidden]`.
            sample_weight: tensor of shape `[batch]`, or `None`. Rows of
                weight 0 are left out.
        """
        index, clean, adversarial = self._for_rows_held(
            index, clean, adversarial, sample_weight
        )
        self._set(
            index,
            self._averaged(self.clean, index, clean),
            self._averaged(self.adversarial, index, adversarial),
        )

    def draw(
        self,
        labels: Sequence[int] | tf.Tensor,
        seed: Sequence[int] | tf.Tensor,
    ) -> Negatives:
        """Draws negatives: a uniform choice among the other classes' rows.

        Rows are drawn without replacement. Examples of one class share their
        negatives when one call draws them.

        Args:
            labels: int tensor of shape `[batch]`, of the bank's classes.
            seed: int tensor of shape `[2]`, the same on all replicas. Unused
                where all negatives are taken.

        Returns:
            `Negatives`, of the rows that this replica holds.
        """
        classes = tf.constant(self._classes)[:, None]
        if self.num_negatives is None:
            drawn = classes != self.labels
        else:
            # The first m of another class, in a random order of all rows.
            order = tf.argsort(tf.random.stateless_uniform([len(self)], seed))
            others = classes != tf.gather(self.labels, order)
            rank = tf.cumsum(tf.cast(others, tf.int32), axis=1)
            drawn = others & (rank <= self.num_negatives)
            order = tf.math.invert_permutation(order)
            drawn = tf.gather(drawn, order, axis=1)
        if self.sharded:
            filling = self.rows * replicas.count() - len(self)
            drawn = tf.pad(drawn, [[0, 0], [0, filling]])
            drawn = tf.slice(drawn, [0, self._first()], [-1, self.rows])
        is_class = tf.cast(labels, tf.int32)[:, None] == self._classes
        which = tf.argmax(tf.cast(is_class, tf.int32), axis=1)
        counts = tf.reduce_sum(tf.cast(drawn, tf.float32), axis=1)
        index, size = _numbers(tf.reduce_any(drawn, axis=0))
        return Negatives(index, size, drawn, which, tf.gather(counts, which))

    def blocks(
        self, table: tf.Variable, negatives: Negatives
    ) -> tuple[
        tf.Tensor,
        Callable[[int | tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]],
    ]:
        """Reads negatives in blocks, each of them once for all examples.

        Args:
            table: `self.clean` or `self.adversarial`.
            negatives: `Negatives`.

        Returns:
            `(count, read)`: the number of blocks, an int32 scalar; and a
            callable of a block's number that returns its rows, float32 of
            shape `[block, hidden]`; their inverse lengths, `[block]`; and
            whether a row is an example's negative, bool of shape `[batch,
            block]`.
        """
        table = replicas.own_copy(table)
        size = min(_ROWS_AT_ONCE, self.rows)

        def read(block):
            place = block * size + tf.range(size)
            # The last block is filled up.
            index = tf.gather(negatives.index, tf.minimum(place, self.rows - 1))
            rows = tf.cast(tf.gather(table, index), tf.float32)
            squares = tf.reduce_sum(tf.square(rows), axis=1)
            drawn = tf.gather(negatives.drawn, index, axis=1)
            drawn = tf.gather(drawn, negatives.classes)
            return (
                rows,
                tf.math.rsqrt(tf.maximum(squares, 1e-12)),
                drawn & (place < negatives.size),
            )

        return -(-negatives.size // size), read

    def _table(self, name):
        aggregation = tf.VariableAggregation
        return tf.Variable(
            tf.zeros([self.rows, self.hidden_dim], self.dtype),
            trainable=False,
            name=name,
            # Without aggregation a replica writes only its own copy.
            aggregation=aggregation.NONE
            if self.sharded
            else aggregation.ONLY_FIRST_REPLICA,
        )

    def _shards(self, table):
        if not self.sharded:
            return [table]
        return list(self._strategy.experimental_local_results(table))

    def _first(self):
        """The number of the first row that this replica holds."""
        return replicas.number() * self.rows if self.sharded else 0

    def _for_rows_held(self, index, clean, adversarial, sample_weight):
        """Collects what all replicas have for the rows that this one holds."""
        rows = (index, clean, adversarial)
        if sample_weight is None:
            rows = replicas.gather(rows)
            wanted = tf.ones_like(rows[0], tf.bool)
        else:
            weights = tf.reshape(sample_weight, [-1])
            *rows, weights = replicas.gather((*rows, weights))
            wanted = weights != 0
        if self.sharded:
            wanted &= rows[0] // self.rows == replicas.number()
        index, clean, adversarial = (tf.boolean_mask(v, wanted) for v in rows)
        return index - self._first(), clean, adversarial

    def _set(self, index, clean, adversarial):
        for table, rows in (
            (self.clean, clean),
            (self.adversarial, adversarial),
        ):
            rows = tf.cast(rows, table.dtype)
            table.scatter_update(tf.IndexedSlices(rows, index))

    def _averaged(self, table, index, new):
        old = tf.gather(replicas.own_copy(table), index)
        old = tf.cast(old, tf.float32)
        new = tf.cast(new, tf.float32)
        return self.momentum * old + (1.0 - self.momentum) * new


def _numbers(chosen):
    """Returns the positions that are chosen, and their number.

    Args:
        chosen: bool tensor of shape `[n]`.

    Returns:
        int32 tensor of shape `[n]`, zeros behind the positions, because XLA
        needs sizes that are known; and int32 scalar.
    """
    total = tf.size(chosen)
    count = tf.cumsum(tf.cast(chosen, tf.int32))
    # Those not chosen come together behind the end.
    place = tf.where(chosen, count - 1, total)
    index = tf.scatter_nd(place[:, None], tf.range(total), [total + 1])
    return index[:total], count[-1]


def check_memory(
    num_examples: int, hidden_dim: int, dtype: str, sharded: bool
) -> None:
    """Logs the memory that a bank takes, and refuses one that cannot fit.

    Args:
        num_examples: int, the training examples.
        hidden_dim: int, the size of a representation.
        dtype: string, of the tables.
        sharded: bool, whether each replica holds a part of the rows.

    Raises:
        InputError: there is not enough memory, or `sharded` is true with only
            one replica.
    """
    if sharded:
        _check_replicas()
    rows = MemoryBank.rows_held(num_examples, sharded)
    needed = MemoryBank.memory(rows, hidden_dim, dtype) / 2**20
    free = psutil.virtual_memory().available / 2**20
    what = (
        f"CARL's memory bank: 2 x {rows:,} x {hidden_dim} {dtype}, "
        f"{needed:,.1f} MiB"
    )
    if replicas.count() > 1:
        what += f" on each of {replicas.count()} replicas"
    if needed > free:
        smaller = "" if dtype == "bfloat16" else "`bank_dtype`=bfloat16, "
        if replicas.count() > 1 and not sharded:
            smaller += "`bank_sharding`, "
        raise InputError(
            "bank-too-large",
            f"{what}, but {free:,.1f} MiB of memory are free",
            f"take {smaller}fewer training examples or more memory",
        )
    logger.info("%s (%s MiB are free)", what, f"{free:,.0f}")


def _check_replicas():
    if replicas.count() == 1:
        raise InputError(
            "one-replica",
            "expected several devices, each of which holds a part of the "
            "banks, found one",
            "omit it, or train in the scope of a strategy of several",
            argument="bank_sharding",
        )
