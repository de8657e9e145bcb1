"""Real tokens one after the other, and back, against numpy."""

import numpy as np
import pytest
import tensorflow as tf

from tfadv.encoders.packing import Packing, round_up

MASKS = {
    "padded": [[1, 1, 1, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 0]],
    "full": [[1, 1], [1, 1]],
    "one text": [[1, 1, 1, 0]],
    "holes": [[1, 0, 1, 0], [1, 1, 0, 1]],
    "no real token": [[0, 0, 0], [1, 1, 0]],
    "more than is rounded": [[1] * 20 + [0] * 40, [1] * 3 + [0] * 57],
}
each_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)


def real(mask):
    """The mask, with every text's first token."""
    mask = np.array(mask, bool)
    mask[:, 0] = True
    return mask


def normal(*shape, seed=0):
    return tf.random.stateless_normal(shape, [0, seed])


@each_mask
def test_texts_first_tokens_come_first_and_then_the_others(mask):
    x = normal(*np.shape(mask), 4)
    rows = Packing(tf.constant(mask)).pack(x).numpy()
    mask = real(mask)
    batch, count = len(mask), mask.sum()
    np.testing.assert_array_equal(rows[:batch], x[:, 0])
    others = mask.copy()
    others[:, 0] = False
    np.testing.assert_array_equal(rows[batch:count], x.numpy()[others])
    assert len(rows) == min(round_up(count + 1), mask.size)


@each_mask
def test_unpacking_gives_real_tokens_back_and_zeros(mask):
    x = normal(*np.shape(mask), 4)
    packing = Packing(tf.constant(mask))
    found = packing.unpack(packing.pack(x))
    np.testing.assert_array_equal(found, x.numpy() * real(mask)[:, :, None])


@each_mask
def test_heads_of_real_tokens_are_where_attention_wants_them(mask):
    x = normal(*np.shape(mask), 6)
    packing = Packing(tf.constant(mask))
    heads = packing.split(packing.pack(x), 3)
    expected = tf.transpose(tf.reshape(x, [*x.shape[:2], 3, 2]), [2, 0, 1, 3])
    mask = real(mask)
    for one, other in zip(heads.numpy(), expected.numpy(), strict=True):
        np.testing.assert_array_equal(one[mask], other[mask])
    joined = packing.join(heads)
    np.testing.assert_array_equal(
        joined[: mask.sum()], packing.pack(x)[: mask.sum()]
    )


@each_mask
def test_gradients_are_those_of_real_tokens(mask):
    """Of something computed of the heads' and of the rows' real tokens."""
    x = normal(*np.shape(mask), 6)
    packing = Packing(tf.constant(mask))
    kept = tf.cast(real(mask), tf.float32)[:, :, None]
    with tf.GradientTape() as tape:
        tape.watch(x)
        heads = packing.split(tf.sin(packing.pack(x)), 3)
        y = packing.unpack(packing.join(tf.square(heads * kept)))
        loss = tf.reduce_sum(y * normal(*x.shape, seed=1))
    found = tape.gradient(loss, x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = kept * tf.square(tf.sin(x))
        loss = tf.reduce_sum(y * normal(*x.shape, seed=1))
    np.testing.assert_allclose(found, tape.gradient(loss, x), atol=1e-6)


@each_mask
def test_attention_reads_real_tokens_alone(mask):
    packing = Packing(tf.constant(mask))
    mask = real(mask)
    scores = normal(2, *mask.shape[:1], 1, mask.shape[1])
    weights = tf.nn.softmax(scores + packing.attention_bias(tf.float32))
    padding = np.broadcast_to(~mask[:, None], weights.shape)
    assert not weights.numpy()[padding].any()
    np.testing.assert_allclose(tf.reduce_sum(weights, -1), 1, atol=1e-6)


def test_numbers_of_tokens_are_rounded_to_few_distinct_ones():
    numbers = np.arange(4096)
    rounded = np.array([int(round_up(n)) for n in numbers])
    assert np.all(rounded >= numbers)
    assert np.all(rounded <= np.maximum(numbers + 7, numbers * 17 / 16))
    assert len(set(rounded)) <= 1 + 16 + 5 * 16


@each_mask
def test_compiled_by_xla_as_a_whole_it_holds_all_padding(mask):
    x = normal(*np.shape(mask), 4)
    packing = []

    @tf.function(jit_compile=True)
    def there_and_back(x):
        packing.append(Packing(tf.constant(mask)))
        heads = packing[0].split(packing[0].pack(x), 2)
        return heads, packing[0].unpack(packing[0].join(heads))

    heads, found = there_and_back(x)
    expected = tf.transpose(tf.reshape(x, [*x.shape[:2], 2, 2]), [2, 0, 1, 3])
    np.testing.assert_array_equal(heads, expected)
    np.testing.assert_array_equal(found, x.numpy() * real(mask)[:, :, None])
