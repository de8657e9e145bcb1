"""The contrastive losses against NumPy, from scores and from vectors."""

import types

import numpy as np
import pytest
import tensorflow as tf

from tfadv.losses import contrastive as contrastive_losses
from tfadv.losses import memory_bank
from tfadv.objectives.contrastive import ContrastiveObjective

BATCH, ROWS, HIDDEN = 5, 30, 8
LABELS = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [15, 9, 6]))
INDEX = np.array([4, 0, 21, 13, 29])


# The formulas, in float64.


def mean_normalizer(positive, negatives, drawn):
    """Z: N times the mean of h over all pairs of a batch."""
    pairs = np.concatenate([positive, negatives[drawn]])
    return negatives.shape[1] * np.exp(pairs).mean()


def nce(positive, negatives, drawn, z):
    """Returns losses and their derivatives by the scores.

    With P = e^s / Z, h = P / (P + m / N), the loss is -log h of the positive
    and -log(1 - h) of the negatives; dh / ds = h (1 - h).
    """
    noise = drawn.sum(axis=1) / negatives.shape[1]
    likelihood = np.exp(positive) / z
    right = likelihood / (likelihood + noise)
    d_positive = -noise / (likelihood + noise)
    losses = -np.log(right)
    d_negatives = np.zeros_like(negatives)
    for i, j in zip(*np.nonzero(drawn), strict=True):
        likelihood = np.exp(negatives[i, j]) / z
        losses[i] -= np.log(noise[i] / (likelihood + noise[i]))
        d_negatives[i, j] = likelihood / (likelihood + noise[i])
    return losses, d_positive, d_negatives


def infonce(positive, negatives, drawn, z=None):
    """Returns losses and their derivatives by the scores: a softmax's."""
    right = np.exp(positive)
    wrong = np.where(drawn, np.exp(negatives), 0)
    total = right + wrong.sum(axis=1)
    losses = -np.log(right / total)
    return losses, -wrong.sum(axis=1) / total, wrong / total[:, None]


FORMULAS = {"nce": nce, "infonce": infonce}


# What is under test.


def as_scores(negatives, drawn, block=ROWS):
    """Gives scores by blocks: the products of vectors with unit rows."""
    count = negatives.shape[1]
    starts = tf.range(0, count, block)
    # The last block is filled up.
    rows = tf.pad(tf.eye(count), [[0, block], [0, 0]])
    drawn = tf.pad(drawn, [[0, 0], [0, block]])

    def read(i):
        return (
            tf.slice(rows, [starts[i], 0], [block, -1]),
            tf.ones([block]),
            tf.slice(drawn, [0, starts[i]], [-1, block]),
        )

    return contrastive_losses.Scores(negatives, tf.size(starts), read, 1.0)


def counts(drawn):
    return tf.constant(drawn.sum(axis=1), tf.float32)


def log_normalizer(positive, negatives, drawn):
    return contrastive_losses.log_normalizer(
        positive,
        as_scores(negatives, drawn).log_sum(),
        counts(drawn),
        negatives.shape[1],
    )


def library_losses(
    name, positive, negatives, drawn, z=None, log_z=None, block=ROWS
):
    """Returns losses and the gradients of their sum."""
    if log_z is None and z is not None:
        log_z = np.log(z)
    positive = tf.cast(positive, tf.float32)
    negatives = tf.cast(negatives, tf.float32)
    loss = getattr(contrastive_losses, name)
    constants = []
    if name == "nce":
        constants = [counts(drawn), tf.cast(log_z, tf.float32)]
        constants.append(negatives.shape[1])
    with tf.GradientTape() as tape:
        tape.watch([positive, negatives])
        scores = as_scores(negatives, drawn, block)
        losses = loss(positive, scores, *constants)
    assert losses.dtype == tf.float32
    assert losses.shape == positive.shape
    gradients = tape.gradient(losses, [positive, negatives])
    return [losses.numpy(), *(g.numpy() for g in gradients)]


def random_scores(temperature, seed=0):
    """Scores that float32 has, and masks with 1 to all rows."""
    rng = np.random.default_rng(seed)
    scores = [
        (rng.uniform(-1, 1, shape) / temperature)
        .astype(np.float32)
        .astype(np.float64)
        for shape in ([BATCH], [BATCH, ROWS])
    ]
    drawn = rng.uniform(size=[BATCH, ROWS]) < rng.uniform(size=[BATCH, 1])
    drawn[:, 0] = True
    return *scores, drawn


# Losses on scores


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("temperature", [1.0, 0.07, 0.01])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("block", [1, 7, 29, 30, 31])
def test_losses_and_gradients_are_the_formulas(name, temperature, seed, block):
    scores = random_scores(temperature, seed)
    z = mean_normalizer(*scores)
    expected = FORMULAS[name](*scores, z)
    found = library_losses(name, *scores, z, block=block)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5)
    for gradient, derivative in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(gradient, derivative, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_rows_that_are_not_drawn_do_not_matter(name):
    positive, negatives, drawn = random_scores(0.07)
    found = library_losses(name, positive, negatives, drawn, 1e3)
    others = np.where(drawn, negatives, 1 / 0.07)
    np.testing.assert_array_equal(
        library_losses(name, positive, others, drawn, 1e3)[0], found[0]
    )
    assert not found[2][~drawn].any()
    assert (found[2][drawn] > 0).all()


@pytest.mark.parametrize("name", FORMULAS)
def test_a_row_without_negatives_is_finite(name):
    positive, negatives, drawn = random_scores(0.07)
    drawn[2] = False
    z = mean_normalizer(positive, negatives, drawn)
    found = library_losses(name, positive, negatives, drawn, z)
    for values in found:
        assert np.isfinite(values).all()
    assert not found[2][2].any()
    # The others are as ever.
    others = np.arange(BATCH) != 2
    expected = FORMULAS[name](
        positive[others], negatives[others], drawn[others], z
    )
    np.testing.assert_allclose(found[0][others], expected[0], rtol=1e-5)


def test_a_softmax_without_negatives_has_no_loss():
    positive, negatives, drawn = random_scores(0.07)
    found = library_losses("infonce", positive, negatives, drawn & False)
    for values in found:
        assert not values.any()


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("temperature", [0.07, 0.01, 1e-3, 1e-6])
def test_extreme_scores_do_not_overflow(name, sign, temperature):
    positive = tf.fill([2], sign / temperature)
    negatives = tf.fill([2, 4], -sign / temperature)
    drawn = np.full([2, 4], True)
    log_z = log_normalizer(positive, negatives, drawn)
    # N = 4. Of 5 equal shares one is the positives', the others vanish.
    share = 1 / 5 if sign == 1 else 4 / 5
    np.testing.assert_allclose(
        log_z, np.log(4 * share) + 1 / temperature, rtol=1e-6
    )
    found = library_losses(name, positive, negatives, drawn, log_z=log_z)
    for values in found:
        assert np.isfinite(values).all()


def test_the_normalizer_is_the_mean_over_the_batch():
    scores = random_scores(0.07)
    expected = np.log(mean_normalizer(*scores))
    assert scores[2].mean() < 0.9
    log_z = log_normalizer(
        *(tf.constant(s, tf.float32) for s in scores[:2]), scores[2]
    )
    assert log_z.shape == ()
    np.testing.assert_allclose(log_z, expected, rtol=1e-6)


# Losses on representations: Eq. 2 to 4.


def random(*shape, seed):
    """What float32 has, in float64."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape).astype(np.float32).astype(np.float64)


BANKS = random(ROWS, HIDDEN, seed=1), random(ROWS, HIDDEN, seed=2)
# Clean, and an adversary not far from it.
R = 3 * random(BATCH, HIDDEN, seed=3)
R_ADV = 2 * R + random(BATCH, HIDDEN, seed=4)


def make_objective(loss, num_negatives=None, **settings):
    objective = ContrastiveObjective(
        LABELS, loss=loss, num_negatives=num_negatives, **settings
    )
    objective.attach(types.SimpleNamespace(hidden_dim=HIDDEN))
    objective.bank.write(np.arange(ROWS), *BANKS)
    return objective


def objective_loss(objective, clean, adversarial, weight=None, index=INDEX):
    """Returns the loss and its gradients by both representations."""
    clean = tf.constant(clean, tf.float32)
    adversarial = tf.constant(adversarial, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch([clean, adversarial])
        loss = objective.loss(
            {"index": tf.constant(index)},
            tf.constant(LABELS[index]),
            {"pooled_output": clean},
            {"pooled_output": adversarial},
            weight if weight is None else tf.constant(weight, tf.float32),
        )
    assert loss.dtype == tf.float32
    assert loss.shape == ()
    return [loss, *tape.gradient(loss, [clean, adversarial])]


def cosines(rows, others):
    rows = rows / np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows @ (others / np.linalg.norm(others, axis=-1, keepdims=True)).T


def eq_2(name, clean, adversarial, temperature=0.07, drawn=None, z=None):
    """Returns every example's loss, and Z of both anchors."""
    if drawn is None:
        drawn = LABELS[INDEX][:, None] != LABELS
    losses, normalizers = 0, []
    for anchor, other, bank in (
        (adversarial, clean, BANKS[0]),
        (clean, adversarial, BANKS[1]),
    ):
        positive = np.diag(cosines(anchor, other)) / temperature
        scores = positive, cosines(anchor, bank) / temperature, drawn
        normalizers.append(mean_normalizer(*scores))
        fixed = normalizers[-1] if z is None else z[len(normalizers) - 1]
        losses = losses + FORMULAS[name](*scores, fixed)[0]
    return losses, normalizers


def finite_differences(function, array, step=1e-6):
    gradient = np.zeros_like(array)
    for entry in np.ndindex(array.shape):
        moved = [array.copy(), array.copy()]
        moved[0][entry] += step
        moved[1][entry] -= step
        gradient[entry] = (function(moved[0]) - function(moved[1])) / 2 / step
    return gradient


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_objective_is_eq_2_on_representations(name, temperature):
    objective = make_objective(name, temperature=temperature)
    loss, d_clean, d_adversarial = objective_loss(objective, R, R_ADV)
    expected, z = eq_2(name, R, R_ADV, temperature)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)

    def mean(clean, adversarial):
        return eq_2(name, clean, adversarial, temperature, z=z)[0].mean()

    for found, function, at in (
        (d_clean, lambda clean: mean(clean, R_ADV), R),
        (d_adversarial, lambda adversarial: mean(R, adversarial), R_ADV),
    ):
        gradient = finite_differences(function, at)
        np.testing.assert_allclose(
            found, gradient, rtol=1e-4, atol=1e-5 * np.abs(gradient).max()
        )


@pytest.mark.parametrize("name", FORMULAS)
def test_lengths_of_representations_do_not_matter(name):
    loss, *_ = objective_loss(make_objective(name), R, R_ADV)
    longer, *_ = objective_loss(make_objective(name), 10 * R, 0.1 * R_ADV)
    np.testing.assert_allclose(longer, loss, rtol=1e-5)


@pytest.mark.parametrize("graph", [False, True])
def test_the_first_batch_fixes_z(graph):
    objective = make_objective("nce")
    assert np.isnan(objective.log_z).all()
    compute = objective.loss
    if graph:
        compute = tf.function(compute)

    def call(clean, adversarial):
        inputs = {"index": tf.constant(INDEX)}
        outputs = [
            {"pooled_output": tf.constant(values, tf.float32)}
            for values in (clean, adversarial)
        ]
        return compute(inputs, tf.constant(LABELS[INDEX]), *outputs)

    call(R, R_ADV)
    _, z = eq_2("nce", R, R_ADV)
    np.testing.assert_allclose(objective.log_z, np.log(z), rtol=1e-5)
    first = objective.log_z.numpy()
    other = random(BATCH, HIDDEN, seed=8), random(BATCH, HIDDEN, seed=9)
    loss = call(*other)
    np.testing.assert_array_equal(objective.log_z, first)
    expected, other_z = eq_2("nce", *other, z=z)
    assert not np.isclose(other_z, z, rtol=0.01).any()
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_weights_act_linearly(name):
    objective = make_objective(name)
    _, z = eq_2(name, R, R_ADV)
    plain, *_ = objective_loss(objective, R, R_ADV)
    ones, *_ = objective_loss(objective, R, R_ADV, np.ones(BATCH))
    assert ones == plain
    losses, _ = eq_2(name, R, R_ADV, z=z)
    weights = np.array([0.5, 0.0, 2.0, 1.0, 3.0])
    loss, *_ = objective_loss(objective, R, R_ADV, weights)
    np.testing.assert_allclose(loss, (losses * weights).mean(), rtol=1e-5)


@pytest.mark.parametrize("name", FORMULAS)
def test_an_example_of_weight_0_has_no_part(name):
    objective = make_objective(name)
    objective_loss(objective, R, R_ADV)
    weights = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    found = objective_loss(objective, R, R_ADV, weights)
    for gradient in found[1:]:
        gradient = gradient.numpy()
        assert not gradient[2].any()
        assert gradient[[0, 1, 3, 4]].any(axis=1).all()
    clean, adversarial = R.copy(), R_ADV.copy()
    clean[2], adversarial[2] = -adversarial[2], [*range(1, HIDDEN + 1)]
    changed = objective_loss(objective, clean, adversarial, weights)
    np.testing.assert_array_equal(changed[0], found[0])


@pytest.mark.parametrize("name", FORMULAS)
def test_a_seed_draws_the_negatives(name):
    objective = make_objective(name, num_negatives=4, seed=3)
    twin = make_objective(name, num_negatives=4, seed=3)
    z, losses = None, []
    # Drawn anew for every batch.
    for _ in range(3):
        drawn = twin.bank.draw(LABELS[INDEX], twin.seed_generator.next())
        drawn = drawn.drawn.numpy()[drawn.classes]
        np.testing.assert_array_equal(drawn.sum(axis=1), 4)
        expected, normalizers = eq_2(name, R, R_ADV, drawn=drawn, z=z)
        z = normalizers if z is None else z
        losses.append(objective_loss(objective, R, R_ADV)[0].numpy())
        np.testing.assert_allclose(losses[-1], expected.mean(), rtol=1e-5)
    assert len(set(losses)) == 3


@pytest.mark.parametrize("name", FORMULAS)
def test_both_anchors_have_the_negatives_drawn(name, monkeypatch):
    objective = make_objective(name, num_negatives=4)
    draw, draws = objective.bank.draw, []

    def noted(labels, seed):
        draws.append((labels.numpy(), draw(labels, seed)))
        return draws[-1][1]

    monkeypatch.setattr(objective.bank, "draw", noted)
    loss, *_ = objective_loss(objective, R, R_ADV)
    # One draw, for the classes of the training set's rows.
    [(labels, negatives)] = draws
    np.testing.assert_array_equal(labels, LABELS[INDEX])
    drawn = negatives.drawn.numpy()[negatives.classes]
    expected, _ = eq_2(name, R, R_ADV, drawn=drawn)
    np.testing.assert_allclose(loss, expected.mean(), rtol=1e-5)


# Blocks of the bank's rows, in every kind of graph

# Ways to call a function of `[batch, HIDDEN]` vectors.
MODES = {
    "eager": lambda function: function,
    "graph": tf.function,
    "open_batch": tf.function(
        input_signature=[tf.TensorSpec([None, HIDDEN], tf.float32)]
    ),
    "compiled": tf.function(jit_compile=True),
}
SUMS = ("log_sum", "softplus_sum")


def make_bank(**settings):
    bank = memory_bank.MemoryBank(LABELS, HIDDEN, **settings)
    bank.write(np.arange(ROWS), *BANKS)
    return bank


def sum_over_blocks(bank, kind, labels, wanted=True):
    """Makes a function of vectors that returns a sum and its gradient."""

    def function(vectors):
        negatives = bank.draw(labels, [1, 2])
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            scores = contrastive_losses.Scores(
                tf.nn.l2_normalize(vectors, axis=1),
                *bank.blocks(bank.clean, negatives),
                0.2,
            )
            if kind == "log_sum":
                found = scores.log_sum(wanted)
            else:
                found = scores.softplus_sum(tf.ones_like(vectors[:, 0]))
            upstream = tf.cast(tf.range(1, 1 + tf.size(found)), tf.float32)
        return found, tape.gradient(found, vectors, upstream)

    return function


def dense_sum(table, kind, drawn, vectors):
    """The same with all scores at once."""
    table = tf.cast(table, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(vectors)
        scores = tf.matmul(
            tf.nn.l2_normalize(vectors, axis=1),
            tf.nn.l2_normalize(table, axis=1),
            transpose_b=True,
        )
        scores /= 0.2
        if kind == "log_sum":
            found = tf.reduce_logsumexp(tf.where(drawn, scores, -1e9), axis=1)
        else:
            parts = tf.where(drawn, tf.nn.softplus(scores - 1.0), 0.0)
            found = tf.reduce_sum(parts, axis=1)
        upstream = tf.range(1.0, 1.0 + len(vectors))
    return found, tape.gradient(found, vectors, upstream)


@pytest.mark.parametrize("kind", SUMS)
def test_sums_that_are_looked_up_have_the_gradient_of_sums(kind):
    """As replicas look up those of their own rows."""
    bank = make_bank(num_negatives=None)
    negatives = bank.draw(tf.constant([0, 1, 0]), [1, 2])
    vectors = tf.random.stateless_normal([3, HIDDEN], [0, 9])
    gradients = []
    for look_up in (
        lambda sums: tf.gather(sums, [2, 0]),
        lambda sums: tf.stack([sums[2], sums[0]]),
    ):
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            scores = contrastive_losses.Scores(
                vectors, *bank.blocks(bank.clean, negatives), 0.2
            )
            if kind == "log_sum":
                found = look_up(scores.log_sum(True))
            else:
                found = look_up(scores.softplus_sum(tf.ones([3])))
        upstream = tf.constant([2.0, 3.0])
        gradients.append(tape.gradient(found, vectors, upstream))
    assert not gradients[0][1].numpy().any()
    np.testing.assert_allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("rows", [7, 10, 8192])
@pytest.mark.parametrize("num_negatives", [None, 4])
def test_sums_over_blocks_are_those_over_all_scores(
    kind, mode, rows, num_negatives, monkeypatch
):
    # 30 rows: an incomplete last block, complete ones, one alone.
    monkeypatch.setattr(memory_bank, "_ROWS_AT_ONCE", rows)
    bank = make_bank(num_negatives=num_negatives)
    labels = tf.constant(LABELS[INDEX])
    vectors = tf.constant(R, tf.float32)
    found = MODES[mode](sum_over_blocks(bank, kind, labels))(vectors)
    # XLA has random numbers of its own.
    draw = tf.function(bank.draw, jit_compile=mode == "compiled")
    negatives = draw(labels, tf.constant([1, 2]))
    drawn = negatives.drawn.numpy()[negatives.classes]
    for values, expected in zip(
        found, dense_sum(bank.clean, kind, drawn, vectors), strict=True
    ):
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", SUMS)
def test_bfloat16_rows_are_scored_in_float32(kind, monkeypatch):
    monkeypatch.setattr(memory_bank, "_ROWS_AT_ONCE", 7)
    bank = make_bank(num_negatives=None, dtype="bfloat16")
    vectors = tf.constant(R, tf.float32)
    found = sum_over_blocks(bank, kind, LABELS[INDEX])(vectors)
    drawn = LABELS[INDEX][:, None] != LABELS
    expected = dense_sum(bank.clean, kind, drawn, vectors)
    for values, dense in zip(found, expected, strict=True):
        np.testing.assert_allclose(values, dense, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("mode", MODES)
def test_zero_vectors_and_zero_rows_are_finite(kind, mode):
    bank = make_bank(num_negatives=None)
    bank.write([3, ROWS - 1], *2 * [tf.zeros([2, HIDDEN])])
    vectors = tf.constant(np.concatenate([R[:1], 0 * R[1:2]]), tf.float32)
    labels = tf.constant(LABELS[INDEX[:2]])
    found, gradient = MODES[mode](sum_over_blocks(bank, kind, labels))(vectors)
    drawn = labels.numpy()[:, None] != LABELS
    expected, slope = dense_sum(bank.clean, kind, drawn, vectors)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(gradient[0], slope[0], rtol=1e-5, atol=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("mode", MODES)
def test_what_is_not_wanted_is_not_read(mode):
    bank = make_bank(num_negatives=None)
    # What would be read.
    bank.clean.assign(np.nan * bank.clean)
    labels = tf.constant(LABELS[INDEX])
    vectors = tf.constant(R, tf.float32)
    for wanted in (False, True):
        function = MODES[mode](sum_over_blocks(bank, "log_sum", labels, wanted))
        found = function(vectors)[0].numpy()
        assert np.isfinite(found).all() != wanted


@pytest.mark.parametrize("open_batch", [False, True])
def test_no_tensor_has_more_than_a_block_of_rows(open_batch, monkeypatch):
    monkeypatch.setattr(memory_bank, "_ROWS_AT_ONCE", 7)
    bank = make_bank(num_negatives=None)
    batch = 9
    labels = tf.constant(np.resize(LABELS[INDEX], batch))
    for kind in SUMS:
        function = sum_over_blocks(bank, kind, labels)
        sizes = tensor_sizes(function, open_batch, batch)
        # Three classes' masks; neither a copy of the table nor all scores.
        assert 7 * HIDDEN in sizes
        assert max(sizes) == 3 * ROWS
        drawn = labels.numpy()[:, None] != LABELS
        dense = tensor_sizes(
            lambda v, kind=kind, drawn=drawn: dense_sum(
                bank.clean, kind, drawn, v
            ),
            open_batch=False,
            batch=batch,
        )
        assert max(dense) == batch * ROWS > max(sizes)


def tensor_sizes(function, open_batch, batch):
    """Lists the elements of all tensors of a graph and of its loops.

    Open dimensions count as the batch.
    """
    spec = tf.TensorSpec([None if open_batch else batch, HIDDEN])
    graph = tf.function(function).get_concrete_function(spec).graph
    loops = [
        graph._get_function(loop.signature.name).graph
        for loop in graph.as_graph_def().library.function
    ]
    shapes = [
        output.shape
        for part in (graph, *loops)
        for operation in part.get_operations()
        for output in operation.outputs
        if output.shape.rank is not None
    ]
    return [np.prod([d or batch for d in shape]) for shape in shapes]
