"""From texts to batches: tokenized once, bucketed by length, shuffled by seed.

All of it is `tf.data`: an epoch's order is a pure function of the seed and
the epoch's number, so that a run can be repeated, or taken up in its middle.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from tfadv import progress
from tfadv.datasets.examples import Examples
from tfadv.text.tokenizer import Tokenizer

_TEXTS_AT_ONCE = 4096
_PREFETCHED = 2
# By how many tokens widths grow. Batches of nearly one length train worse: on
# 960 film reviews FreeLB reached 70 % with steps of 2, and 80 % with 8.
_STEP = 8


@dataclasses.dataclass(frozen=True)
class TokenizedExamples:
    """A split as token ids, all in memory: about 4 bytes a token.

    Args:
        token_ids: int32 `tf.RaggedTensor` of shape `[examples, (tokens)]`,
            special tokens included.
        labels: int32 array of shape `[examples]`.
        max_length: int. No row is longer.
        pad_id: int. The token id that padding has.
    """

    token_ids: tf.RaggedTensor
    labels: np.ndarray
    max_length: int
    pad_id: int

    def __len__(self):
        return len(self.labels)

    def order_by_length(self) -> np.ndarray:
        """Returns the examples' indices, from the shortest to the longest."""
        return np.argsort(self.token_ids.row_lengths(), kind="stable")


def tokenize(
    examples: Examples, tokenizer: Tokenizer, name: str = "texts"
) -> TokenizedExamples:
    """Tokenizes a split once, before any epoch.

    Args:
        examples: `tfadv.datasets.examples.Examples`.
        tokenizer: `tfadv.Tokenizer`.
        name: string, what the progress bar calls it.

    Returns:
        `TokenizedExamples`, in the order of `examples`.

    Example:

    ```python
    from tfadv.datasets import catalogue

    dataset = catalogue.load("movie_reviews")
    tokenizer = tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 64)
    train = tokenize(dataset.train, tokenizer)
    ```
    """
    starts = range(0, len(examples), _TEXTS_AT_ONCE)
    parts = [
        tokenizer.tokenize(
            tf.constant(examples.texts[start : start + _TEXTS_AT_ONCE])
        )
        for start in progress.track(
            starts, f"tokenizing {name}", verbose=len(starts) >= 4
        )
    ]
    return TokenizedExamples(
        token_ids=tf.concat(parts, axis=0),
        labels=np.asarray(examples.labels, np.int32),
        max_length=tokenizer.max_length,
        pad_id=tokenizer.pad_id,
    )


def bucket_widths(max_length: int) -> list[int]:
    """Returns the widths that batches are padded to.

    Widths grow by a step, and where it is more, by an eighth of the next lower
    power of two, so that padding to them adds at most an eighth to a long
    batch while even 512 tokens need only 32 shapes.

    Args:
        max_length: int, in tokens.

    Returns:
        List of ints, ascending; the last one is `max_length`.

    Example:

    ```python
    bucket_widths(20)  # [8, 16, 20]
    ```
    """
    widths, width = [], 0
    while width < max_length:
        width += max(_STEP, 1 << max(0, width.bit_length() - 4))
        widths.append(min(width, max_length))
    return widths


def training_batches(
    tokenized: TokenizedExamples,
    batch_size: int,
    seed: int,
    epochs: int = 1,
    skip: int = 0,
) -> tf.data.Dataset:
    """Batches a split for training, newly shuffled in every epoch.

    Examples are shuffled, ordered by bucket and cut into batches, and the
    batches are shuffled: texts of like length meet, padding is rare, and only
    one batch an epoch is smaller than the others. An encoder does not compute
    padding, but attention does.

    Args:
        tokenized: `TokenizedExamples`.
        batch_size: int.
        seed: int. The same seed gives the same batches.
        epochs: int.
        skip: int. Leaves out that many batches at the beginning, without
            making them.

    Returns:
        `tf.data.Dataset` of `(inputs, labels)` over all epochs one after the
        other, `ceil(examples / batch_size)` batches each. `inputs` is a dict
        of int32 tensors of shape `[batch, tokens]`: `token_ids`,
        `padding_mask`, `segment_ids`, and `index`, of shape `[batch]`: the
        example's position in its split.

    Example:

    ```python
    batches = training_batches(train, batch_size=32, seed=1, epochs=2)
    classifier.fit(batches.take(10))
    ```
    """
    buckets = tf.constant(_buckets(tokenized))
    starts = tf.range(0, len(tokenized), batch_size)

    def epoch_batches(epoch):
        shuffle = tf.random.experimental.stateless_shuffle
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        examples = shuffle(tf.range(len(tokenized)), key)
        by_bucket = tf.argsort(tf.gather(buckets, examples), stable=True)
        examples = tf.gather(examples, by_bucket)
        key = tf.random.experimental.stateless_fold_in(key, 1)
        return tf.data.Dataset.from_tensor_slices(shuffle(starts, key)).map(
            lambda start: examples[start : start + batch_size]
        )

    first, skip = divmod(skip, len(starts))
    rows = tf.data.Dataset.range(first, epochs).flat_map(epoch_batches)
    return _gather(rows.skip(skip), tokenized)


def evaluation_batches(
    tokenized: TokenizedExamples, batch_size: int
) -> tf.data.Dataset:
    """Batches a split for evaluation, from its shortest text to its longest.

    Args:
        tokenized: `TokenizedExamples`.
        batch_size: int.

    Returns:
        `tf.data.Dataset`, as `training_batches` gives it. `index` tells which
        example a row is.
    """
    order = tokenized.order_by_length()
    rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    return _gather(rows, tokenized)


def batch_spec() -> tuple[dict, tf.TensorSpec]:
    """Returns the open shapes of all batches, for a `tf.function` of them.

    Returns:
        `(inputs, labels)` of `tf.TensorSpec`, as `evaluation_batches` has it.
    """
    inputs = {
        name: tf.TensorSpec([None, None], tf.int32)
        for name in ("token_ids", "padding_mask", "segment_ids")
    }
    inputs["index"] = tf.TensorSpec([None], tf.int32)
    return inputs, tf.TensorSpec([None], tf.int32)


def map_in_order(
    function: Callable,
    tokenized: TokenizedExamples,
    batch_size: int = 32,
    description: str | None = None,
) -> list:
    """Calls a function on batches of like length, and undoes their order.

    Args:
        function: callable of a batch's inputs and labels, best a
            `tf.function(input_signature=batch_spec())`, so that it has one
            graph. It returns a tensor, or a nest of tensors, whose first axis
            is the batch's.
        tokenized: `TokenizedExamples`.
        batch_size: int.
        description: string, what the progress bar says; `None` for no bar.

    Returns:
        List, an entry an example in the order of `tokenized`: what the
        function returned for it, as NumPy arrays without the batch's axis.
        An array that has an axis of tokens is padded as its batch was.

    Example:

    ```python
    logits = np.stack(map_in_order(lambda x, _: classifier(x), tokenized))
    ```
    """
    rows = [None] * len(tokenized)
    batches = progress.track(
        evaluation_batches(tokenized, batch_size),
        description or "",
        verbose=description is not None,
    )
    for inputs, labels in batches:
        results = tf.nest.map_structure(np.asarray, function(inputs, labels))
        for row, index in enumerate(inputs["index"].numpy()):
            rows[index] = tf.nest.map_structure(
                lambda array, row=row: array[row], results
            )
    return rows


def _buckets(tokenized):
    """Numbers the bucket of each example: the narrowest that it fits into."""
    widths = bucket_widths(tokenized.max_length)
    lengths = tokenized.token_ids.row_lengths().numpy()
    return np.searchsorted(widths, lengths).astype(np.int32)


def _gather(rows, tokenized):
    """Turns batches of row numbers into padded batches of examples."""
    # Looked up in the graph: the dataset holds one copy of the token ids.
    token_ids = tokenized.token_ids
    labels = tf.constant(tokenized.labels)
    widths = tf.constant(bucket_widths(tokenized.max_length), tf.int64)

    def batch(index):
        ids = tf.gather(token_ids, index)
        width = tf.reduce_max(ids.row_lengths())
        width = widths[tf.searchsorted(widths, width[None])[0]]
        mask = tf.sequence_mask(ids.row_lengths(), width, tf.int32)
        inputs = {
            "token_ids": ids.to_tensor(
                tokenized.pad_id, shape=tf.stack([-1, width])
            ),
            "padding_mask": mask,
            "segment_ids": tf.zeros_like(mask),
            "index": tf.cast(index, tf.int32),
        }
        inputs["token_ids"].set_shape([None, None])
        return inputs, tf.gather(labels, index)

    # Without the thread that tunes: now and then an iterator's end waits for
    # its next turn, up to a minute. Batches come far faster than they train.
    options = tf.data.Options()
    options.autotune.enabled = False
    return rows.map(batch).prefetch(_PREFETCHED).with_options(options)
