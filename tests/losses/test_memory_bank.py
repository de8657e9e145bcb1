"""The memory bank against NumPy, block by block and draw by draw."""

import numpy as np
import pytest
import tensorflow as tf

from tfadv.errors import InputError
from tfadv.losses import memory_bank
from tfadv.losses.memory_bank import MemoryBank

# Three unbalanced classes, in no order.
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [25, 9, 6]))
HIDDEN = 16


def random(*shape, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32)


def filled(labels=LABELS, num_negatives=None, **settings):
    bank = MemoryBank(labels, HIDDEN, num_negatives, **settings)
    shape = [len(labels), HIDDEN]
    bank.write(np.arange(len(labels)), random(*shape), random(*shape, seed=1))
    return bank


def draw(labels, num_negatives, seed=(1, 2), bank_labels=LABELS):
    bank = MemoryBank(bank_labels, 1, num_negatives)
    return mask(bank.draw(labels, seed))


def mask(negatives):
    """Returns which rows are whose negatives, `[batch, rows]`."""
    drawn = negatives.drawn.numpy()
    assert drawn.dtype == bool
    # What is read are the rows that some class has drawn, once each.
    read = negatives.index.numpy()[: negatives.size]
    np.testing.assert_array_equal(read, np.flatnonzero(drawn.any(axis=0)))
    found = drawn[negatives.classes.numpy()]
    np.testing.assert_array_equal(negatives.counts, found.sum(axis=1))
    return found


def read_all(bank, table, negatives):
    """Returns the rows read, at length 1, and whose negatives they are."""
    count, read = bank.blocks(table, negatives)
    rows, inverse, drawn = zip(*(read(i) for i in range(count)), strict=True)
    unit = np.concatenate(rows) * np.concatenate(inverse)[:, None]
    drawn = np.concatenate(drawn, axis=1)
    return unit[: negatives.size], drawn


# write and update


def test_a_new_bank_is_zero():
    bank = MemoryBank([0, 1, 0], 4, None)
    assert len(bank) == 3
    for table in (bank.clean, bank.adversarial):
        assert not table.trainable
        np.testing.assert_array_equal(table, np.zeros([3, 4]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_write_sets_rows_and_no_others(dtype):
    bank = filled(dtype=dtype)
    before = bank.clean.numpy(), bank.adversarial.numpy()
    rows = random(3, HIDDEN, seed=5), random(3, HIDDEN, seed=6)
    index = [30, 2, 11]
    bank.write(tf.constant(index), *rows)
    for table, old, new in zip(
        (bank.clean, bank.adversarial), before, rows, strict=True
    ):
        assert table.dtype == dtype
        expected = old.copy()
        expected[index] = new.astype(old.dtype)
        np.testing.assert_array_equal(table.numpy(), expected)


@pytest.mark.parametrize("momentum", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-6)]
)
def test_rows_average_as_eq_5_says(momentum, dtype, tolerance):
    bank = filled(momentum=momentum, dtype=dtype)
    expected = [
        table.numpy().astype(np.float64)
        for table in (bank.clean, bank.adversarial)
    ]
    for step in range(6):
        index = np.random.default_rng(step).permutation(len(bank))[:15]
        rows = [random(15, HIDDEN, seed=10 * step + i) for i in range(2)]
        bank.update(tf.constant(index), *(tf.constant(r) for r in rows))
        for table, new in zip(expected, rows, strict=True):
            table[index] = momentum * table[index] + (1 - momentum) * new
    for table, found in zip(
        expected, (bank.clean, bank.adversarial), strict=True
    ):
        found = found.numpy().astype(np.float64)
        np.testing.assert_allclose(found, table, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_update_leaves_other_rows_bit_for_bit(dtype):
    bank = filled(dtype=dtype)
    before = bank.clean.numpy(), bank.adversarial.numpy()
    index = [0, 7, 39]
    bank.update(index, random(3, HIDDEN, seed=2), random(3, HIDDEN, seed=3))
    others = np.delete(np.arange(len(bank)), index)
    for table, old in zip((bank.clean, bank.adversarial), before, strict=True):
        table = table.numpy()
        assert table[others].tobytes() == old[others].tobytes()
        assert (table[index] != old[index]).any(axis=1).all()


def test_update_is_not_normalised():
    bank = MemoryBank([0, 1], 2, None, momentum=0.5)
    bank.write([0], [[3.0, 0.0]], [[0.0, 1.0]])
    bank.update([0], [[0.0, 8.0]], [[6.0, 0.0]])
    np.testing.assert_array_equal(bank.clean[0], [1.5, 4.0])
    np.testing.assert_array_equal(bank.adversarial[0], [3.0, 0.5])


# draw


@pytest.mark.parametrize("num_negatives", [1, 10, 15, 16, 31, 34])
def test_m_rows_of_other_classes_are_drawn_or_all_there_are(num_negatives):
    labels = np.array([0, 1, 2, 0, 2, 1])
    drawn = draw(labels, num_negatives)
    assert not drawn[labels[:, None] == LABELS].any()
    others = np.array([15, 31, 34])[labels]
    np.testing.assert_array_equal(
        drawn.sum(axis=1), np.minimum(num_negatives, others)
    )


@pytest.mark.parametrize("num_negatives", [None, 34, 16000])
def test_all_of_the_other_classes_are_taken(num_negatives):
    labels = np.array([2, 0, 1])
    drawn = draw(labels, num_negatives)
    np.testing.assert_array_equal(drawn, labels[:, None] != LABELS)


def test_a_seed_is_a_draw():
    labels = [0, 1, 2]
    first = draw(labels, 10, seed=(1, 2))
    np.testing.assert_array_equal(draw(labels, 10, seed=(1, 2)), first)
    for seed in ((1, 3), (2, 2), (2, 1)):
        other = draw(labels, 10, seed=seed)
        assert (other != first).any(axis=1).all()


def test_examples_of_one_class_share_their_negatives():
    drawn = draw([1, 0, 1], 10)
    np.testing.assert_array_equal(drawn[0], drawn[2])


@pytest.mark.parametrize("num_negatives", [None, 10])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8])
def test_labels_of_any_int_type_are_alike(dtype, num_negatives):
    labels = np.array([0, 2])
    bank = MemoryBank(LABELS.astype(dtype), 1, num_negatives)
    drawn = bank.draw(tf.constant(labels, dtype), tf.constant([1, 2]))
    np.testing.assert_array_equal(mask(drawn), draw(labels, num_negatives))


def test_a_graph_draws_as_eager_does():
    bank = MemoryBank(LABELS, 1, 10)
    drawn = tf.function(bank.draw)(tf.constant([0, 1]), tf.constant([1, 2]))
    np.testing.assert_array_equal(mask(drawn), draw([0, 1], 10))


def test_a_compiled_graph_draws_m_rows_of_other_classes():
    # XLA has random numbers of its own.
    sample = tf.function(MemoryBank(LABELS, 1, 10).draw, jit_compile=True)
    labels = np.array([0, 1, 2])
    drawn, same, other = (
        mask(sample(tf.constant(labels), tf.constant([1, i])))
        for i in (2, 2, 3)
    )
    assert not drawn[labels[:, None] == LABELS].any()
    np.testing.assert_array_equal(drawn.sum(axis=1), 10)
    np.testing.assert_array_equal(same, drawn)
    assert (other != drawn).any(axis=1).all()


def test_all_rows_and_all_pairs_are_drawn_equally_often():
    draws, drawn_each = 600, 10
    bank = MemoryBank(LABELS, 1, drawn_each)
    sample = tf.function(lambda seed: bank.draw([0, 1, 2], seed))
    masks = [mask(sample(tf.constant([7, i]))) for i in range(draws)]
    masks = np.stack(masks)
    for label in range(3):
        drawn = masks[:, label, label != LABELS].astype(np.float64)
        others = drawn.shape[1]
        # Chi-square, for draws without replacement.
        share = drawn_each / others
        statistic = ((drawn.sum(axis=0) - draws * share) ** 2).sum()
        statistic *= (others - 1) / others / (draws * share * (1 - share))
        degrees = others - 1
        assert abs(statistic - degrees) < 4 * np.sqrt(2 * degrees)
        # Which pairs come together.
        share *= (drawn_each - 1) / (others - 1)
        joint = (drawn.T @ drawn)[np.triu_indices(others, 1)]
        deviation = np.sqrt(draws * share * (1 - share))
        assert np.abs(joint - draws * share).max() < 5 * deviation


# blocks


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("num_negatives", [None, 4])
@pytest.mark.parametrize("rows", [1, 2, 7, 20, 21, 39, 40, 41, 8192])
def test_blocks_of_any_size_read_what_was_drawn(
    rows, num_negatives, dtype, monkeypatch
):
    monkeypatch.setattr(memory_bank, "_ROWS_AT_ONCE", rows)
    bank = filled(num_negatives=num_negatives, dtype=dtype)
    labels = [2, 0, 2, 1]
    negatives = bank.draw(labels, [1, 2])
    expected = mask(negatives)
    chosen = np.flatnonzero(expected.any(axis=0))
    if num_negatives:
        assert len(chosen) < len(bank)
    for table in (bank.clean, bank.adversarial):
        unit, drawn = read_all(bank, table, negatives)
        array = table.numpy().astype(np.float64)[chosen]
        array /= np.linalg.norm(array, axis=1, keepdims=True)
        np.testing.assert_allclose(unit, array, rtol=1e-5)
        np.testing.assert_array_equal(
            drawn[:, : len(chosen)], expected[:, chosen]
        )
        # Nor does what fills up the last block count.
        assert not drawn[:, len(chosen) :].any()
        assert drawn.shape[1] - len(chosen) < min(rows, len(bank))


def test_a_zero_row_is_no_direction():
    bank = filled()
    bank.write([3, 39], tf.zeros([2, HIDDEN]), tf.zeros([2, HIDDEN]))
    unit, _ = read_all(bank, bank.clean, bank.draw([0, 1], [1, 2]))
    np.testing.assert_array_equal(unit[[3, 39]], 0)
    assert np.isfinite(unit).all()


# memory


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float32", 412_876_800), ("bfloat16", 206_438_400)]
)
def test_memory_is_that_of_both_tables(dtype, expected):
    assert MemoryBank.memory(67_200, 768, dtype) == expected
    bank = filled(dtype=dtype)
    found = bank.clean.numpy().nbytes + bank.adversarial.numpy().nbytes
    assert MemoryBank.memory(len(bank), HIDDEN, dtype) == found


# settings


def test_too_few_negatives_warn_once(monkeypatch):
    warnings = []
    monkeypatch.setattr(
        memory_bank.logger,
        "warning",
        lambda message, *values: warnings.append(message % values),
    )
    bank = filled(num_negatives=16)
    bank.draw([0, 0], [1, 2])
    assert len(warnings) == 1
    assert "class 0 has 15 examples of other classes" in warnings[0]
    assert "16 negatives" in warnings[0]


@pytest.mark.parametrize("num_negatives", [15, None])
def test_enough_negatives_do_not_warn(num_negatives, monkeypatch):
    monkeypatch.setattr(
        memory_bank.logger, "warning", lambda *values: pytest.fail(str(values))
    )
    filled(num_negatives=num_negatives).draw([0, 1], [1, 2])


@pytest.mark.parametrize("labels", [[1, 1, 1], []])
def test_one_class_has_no_negatives(labels):
    with pytest.raises(InputError) as error:
        MemoryBank(labels, HIDDEN, None)
    assert (error.value.code, error.value.argument) == (
        "no-negatives",
        "labels",
    )


def test_one_replica_cannot_share_a_bank_out():
    with pytest.raises(InputError) as error:
        MemoryBank([0, 1], HIDDEN, None, sharded=True)
    assert error.value.code == "one-replica"
