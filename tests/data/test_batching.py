"""Batches hold every example, little padding, and the order of a seed."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfadv.data import batching
from tfadv.datasets.examples import Examples

MAX_LENGTH = 64
PAD_ID = 3


def split(examples=200, mean=14.3, seed=0, pad_id=PAD_ID):
    """A split with lengths like those of SST-2, long tail and all.

    Row `i` is told apart by its ids, which all are `1000 * label + i`.
    """
    rng = np.random.default_rng(seed)
    lengths = 2 + rng.gamma(1.6, (mean - 2) / 1.6, examples).astype(int)
    lengths = np.minimum(lengths, MAX_LENGTH)
    labels = rng.integers(0, 4, examples).astype(np.int32)
    rows = [
        [1000 * label + i] * length
        for i, (label, length) in enumerate(zip(labels, lengths, strict=True))
    ]
    return batching.TokenizedExamples(
        token_ids=tf.ragged.constant(rows, tf.int32),
        labels=labels,
        max_length=MAX_LENGTH,
        pad_id=pad_id,
    )


def arrays_of(batches):
    return [
        ({key: value.numpy() for key, value in x.items()}, y.numpy())
        for x, y in batches
    ]


def indices(batches):
    return [x["index"].tolist() for x, _ in arrays_of(batches)]


def flat(lists):
    return [value for values in lists for value in values]


def datasets(tokenized, batch_size=32):
    return {
        "training": batching.training_batches(tokenized, batch_size, seed=1),
        "evaluation": batching.evaluation_batches(tokenized, batch_size),
    }


each_kind = pytest.mark.parametrize("kind", ["training", "evaluation"])


# Both kinds


@each_kind
def test_no_thread_tunes_the_batches(kind):
    """The end of an iterator would wait for it, for seconds or a minute."""
    batches = datasets(split())[kind]
    assert batches.options().autotune.enabled is False
    # Also where somebody builds on them.
    assert batches.take(2).repeat().options().autotune.enabled is False


@each_kind
@pytest.mark.parametrize(
    ("examples", "batch_size"),
    [(200, 32), (192, 32), (200, 1), (200, 200), (200, 1000), (1, 32), (7, 2)],
)
def test_every_example_comes_once_and_one_batch_is_smaller(
    kind, examples, batch_size
):
    found = indices(datasets(split(examples), batch_size)[kind])
    assert sorted(flat(found)) == list(range(examples))
    assert len(found) == -(-examples // batch_size)
    sizes = sorted(map(len, found), reverse=True)
    assert set(sizes[:-1]) <= {batch_size}
    assert sizes[-1] == examples - batch_size * (len(found) - 1)


@each_kind
def test_ids_labels_mask_and_index_of_a_row_belong_together(kind):
    tokenized = split()
    lengths = tokenized.token_ids.row_lengths().numpy()
    for x, y in arrays_of(datasets(tokenized)[kind]):
        assert set(x) == {"token_ids", "padding_mask", "segment_ids", "index"}
        assert all(value.dtype == np.int32 for value in [*x.values(), y])
        assert not x["segment_ids"].any()
        assert x["segment_ids"].shape == x["token_ids"].shape
        for i, label, ids, mask in zip(
            x["index"], y, x["token_ids"], x["padding_mask"], strict=True
        ):
            assert label == tokenized.labels[i]
            length = lengths[i]
            assert mask.tolist() == [1] * length + [0] * (len(mask) - length)
            assert (ids[:length] == 1000 * label + i).all()
            assert (ids[length:] == PAD_ID).all()


@each_kind
def test_widths_are_buckets_and_the_narrowest_that_fit(kind):
    widths = batching.bucket_widths(MAX_LENGTH)
    for x, _ in arrays_of(datasets(split())[kind]):
        width = x["token_ids"].shape[1]
        assert width in widths
        longest = x["padding_mask"].sum(axis=1).max()
        assert longest <= width
        narrower = [w for w in widths if w < width]
        assert not narrower or longest > narrower[-1]


@each_kind
def test_all_batches_have_the_specification_of_one_trace(kind):
    inputs, labels = datasets(split())[kind].element_spec
    for name in ("token_ids", "padding_mask", "segment_ids"):
        assert inputs[name] == tf.TensorSpec([None, None], tf.int32)
    assert inputs["index"] == tf.TensorSpec([None], tf.int32)
    assert labels == tf.TensorSpec([None], tf.int32)


@each_kind
def test_keras_learns_the_number_of_batches_or_is_told_nothing(kind):
    batches = datasets(split())[kind]
    known = batches.cardinality().numpy()
    assert known in (tf.data.UNKNOWN_CARDINALITY, len(indices(batches)))


# Training


def test_the_same_seed_gives_the_same_batches():
    tokenized = split()
    found = [
        indices(batching.training_batches(tokenized, 32, seed=7, epochs=2))
        for _ in range(2)
    ]
    assert found[0] == found[1]
    again = batching.training_batches(tokenized, 32, seed=7, epochs=2)
    assert indices(again) == indices(again) == found[0]


def test_seeds_and_epochs_have_orders_of_their_own():
    tokenized = split()
    per_epoch = 7
    orders = []
    for seed in (0, 1, 2**31 + 5):
        batches = batching.training_batches(tokenized, 32, seed, epochs=3)
        found = indices(batches)
        assert len(found) == 3 * per_epoch
        for start in range(0, 3 * per_epoch, per_epoch):
            epoch = found[start : start + per_epoch]
            assert sorted(flat(epoch)) == list(range(200))
            orders.append(tuple(flat(epoch)))
            # Other examples meet, too; not the same batches in new order.
            orders.append(frozenset(map(frozenset, epoch)))
    assert len(set(orders)) == len(orders)


def test_an_epoch_does_not_depend_on_the_number_of_epochs():
    tokenized = split()
    one = indices(batching.training_batches(tokenized, 32, seed=1, epochs=1))
    two = indices(batching.training_batches(tokenized, 32, seed=1, epochs=2))
    assert two[: len(one)] == one


@pytest.mark.parametrize("skip", [0, 1, 6, 7, 8, 20, 21])
def test_skipped_batches_are_left_out(skip):
    tokenized = split()
    rest = batching.training_batches(tokenized, 32, 1, epochs=3, skip=skip)
    batches = batching.training_batches(tokenized, 32, 1, epochs=3)
    assert indices(rest) == indices(batches)[skip:]


def test_batches_of_all_lengths_come_at_any_time():
    """Sorted epochs would train on short texts first."""
    batches = batching.training_batches(split(2000), 32, seed=1)
    widths = [x["token_ids"].shape[1] for x, _ in arrays_of(batches)]
    assert widths != sorted(widths)
    halves = np.mean(widths[:31]), np.mean(widths[31:])
    assert 0.6 < halves[0] / halves[1] < 1.6


def test_the_smaller_batch_is_not_always_the_last():
    tokenized = split(70)
    places = set()
    for seed in range(10):
        batches = batching.training_batches(tokenized, 32, seed)
        places.add([*map(len, indices(batches))].index(6))
    assert len(places) > 1


def test_padding_is_rare_on_lengths_like_those_of_sst2():
    tokenized = split(6000)
    lengths = tokenized.token_ids.row_lengths().numpy()
    assert 13 < lengths.mean() < 15
    assert lengths.max() > 45
    batches = arrays_of(batching.training_batches(tokenized, 32, seed=1))
    padded = sum(x["token_ids"].size for x, _ in batches) / len(lengths)
    print(f"padded to {padded:.1f} of {lengths.mean():.1f} tokens")
    assert padded <= 1.35 * lengths.mean()
    in_order = np.mean([lengths[i : i + 32].max() for i in range(0, 6000, 32)])
    assert padded < 0.6 * in_order


# Evaluation


def test_evaluation_goes_from_the_shortest_text_to_the_longest():
    tokenized = split()
    lengths = tokenized.token_ids.row_lengths().numpy()
    order = flat(indices(batching.evaluation_batches(tokenized, 32)))
    assert (np.diff(lengths[order]) >= 0).all()
    again = flat(indices(batching.evaluation_batches(tokenized, 7)))
    assert again == order


# Widths


def test_widths_by_hand():
    assert batching.bucket_widths(20) == [8, 16, 20]
    assert batching.bucket_widths(8) == [8]
    assert batching.bucket_widths(3) == [3]
    assert batching.bucket_widths(64) == [8, 16, 24, 32, 40, 48, 56, 64]
    assert batching.bucket_widths(130)[-3:] == [120, 128, 130]
    assert len(batching.bucket_widths(512)) == 32


@pytest.mark.parametrize("batch_size", [1, 32, 500])
def test_what_a_function_returns_is_put_back_in_order(batch_size):
    tokenized = split()

    @tf.function(input_signature=batching.batch_spec())
    def first_and_ids(inputs, labels):
        return inputs["token_ids"][:, 0] + labels, inputs["token_ids"]

    rows = batching.map_in_order(first_and_ids, tokenized, batch_size)
    assert len(rows) == len(tokenized)
    ids = tokenized.token_ids.to_list()
    for (first, row), expected, label in zip(
        rows, ids, tokenized.labels, strict=True
    ):
        assert first == expected[0] + label
        assert row[: len(expected)].tolist() == expected
        assert set(row[len(expected) :]) <= {PAD_ID}


def test_all_batches_have_the_shapes_that_are_told():
    spec = batching.evaluation_batches(split(), 32).element_spec
    assert spec == batching.batch_spec()


@pytest.mark.parametrize("max_length", [1, 7, 64, 100, 128, 511, 512, 2048])
def test_widths_ascend_to_max_length_and_waste_little(max_length):
    widths = batching.bucket_widths(max_length)
    assert widths[-1] == max_length
    assert widths == sorted(set(widths))
    for narrow, wide in itertools.pairwise(widths):
        assert wide - narrow <= max(8, wide / 8)


# Tokenizing


class CountingTokenizer:
    """Splits at spaces and counts the texts it is given."""

    max_length = 16
    pad_id = 0

    def __init__(self):
        self.seen = []

    def tokenize(self, texts):
        self.seen += [text.decode() for text in texts.numpy()]
        return tf.strings.to_number(tf.strings.split(texts), tf.int32)


def examples_of(count):
    """Text `i` is the number `i + 1`, from one to nine times."""
    texts = [" ".join([str(i + 1)] * (1 + i % 9)) for i in range(count)]
    return Examples(texts=texts, labels=np.arange(count) % 3)


def test_each_text_is_tokenized_once_however_many_epochs_follow():
    tokenizer = CountingTokenizer()
    examples = examples_of(100)
    tokenized = batching.tokenize(examples, tokenizer)
    assert tokenizer.seen == list(examples.texts)
    for _ in range(2):
        batches = batching.training_batches(tokenized, 32, seed=1, epochs=3)
        assert len(indices(batches)) == 12
        indices(batching.evaluation_batches(tokenized, 32))
    assert len(tokenizer.seen) == 100


@pytest.mark.parametrize("count", [1, 4096, 4097, 10000])
def test_tokenized_examples_are_in_the_order_of_the_texts(count):
    tokenizer = CountingTokenizer()
    examples = examples_of(count)
    tokenized = batching.tokenize(examples, tokenizer)
    assert len(tokenized) == count
    assert tokenizer.seen == list(examples.texts)
    assert tokenized.max_length == 16
    assert tokenized.labels.dtype == np.int32
    np.testing.assert_array_equal(tokenized.labels, np.arange(count) % 3)
    assert tokenized.token_ids.dtype == tf.int32
    first = tokenized.token_ids[:, :1].flat_values
    np.testing.assert_array_equal(first, np.arange(count) + 1)
    np.testing.assert_array_equal(
        tokenized.token_ids.row_lengths(), 1 + np.arange(count) % 9
    )
