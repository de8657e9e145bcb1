"""Objectives in the training step, against a naive one; CARL's bank, RAR."""

import itertools
import json

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from tests import checkpoints
from tests.adversaries.test_freelb import (
    assert_all_close,
    batch,
    number_of_ops,
    padded,
    relative,
    rows,
)
from tests.update.test_classifier import CountingClassifier
from tfadv.adversaries import perturbation
from tfadv.adversaries.freelb import FreeLB
from tfadv.data import batching
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.objectives.contrastive import ContrastiveObjective
from tfadv.objectives.reconstruction import ReconstructionObjective
from tfadv.runs.run import part_to_keep
from tfadv.training import callbacks
from tfadv.update.classifier import AdversarialClassifier

# The training set: its classes, and token ids that are not words.
LABELS = np.random.default_rng(7).permutation(np.arange(17) % 2)
SPECIAL_IDS = [0, 1, 2, 3]
INDEX = np.array([11, 3, 16, 6], np.int32)

KINDS = {
    "nce": ["nce"],
    "infonce": ["infonce"],
    "reconstruction": ["reconstruction"],
    "both": ["nce", "reconstruction"],
}
# Where the first pass is: at the clean embeddings, which makes it the clean
# pass as well, or apart from them.
each_start = pytest.mark.parametrize("start", ["clean", "apart"])
each_family = pytest.mark.parametrize("family", ["albert", "bert"])


def contrastive(loss="nce", **settings):
    """CARL's objective; all other classes' rows are negatives."""
    return ContrastiveObjective(
        LABELS,
        loss=loss,
        **{"num_negatives": None, "temperature": 0.2, **settings},
    )


def reconstruction(**settings):
    return ReconstructionObjective(SPECIAL_IDS, **settings)


def objectives_of(kind, weights=(0.7, 1.3), **settings):
    """Objectives for one of `KINDS`; settings are the contrastive one's."""
    return [
        reconstruction(weight=weights[1])
        if name == "reconstruction"
        else contrastive(name, weight=weights[0], **settings)
        for name in KINDS[kind]
    ]


def make(
    encoder,
    objectives=(),
    adversary=None,
    dropout=0.0,
    cls=AdversarialClassifier,
    **options,
):
    """A compiled classifier; equal calls give equal ones.

    Contrastive objectives are not started yet, and their banks are full.
    """
    if adversary is None:
        adversary = adversary_of("clean")
    classifier = cls(encoder, 2, adversary, objectives, dropout=dropout)
    rng = np.random.default_rng(0)
    for layer in [classifier.head, *objectives]:
        for weight in layer.trainable_weights:
            weight.assign(rng.normal(size=weight.shape))
    for objective in objectives:
        if isinstance(objective, ContrastiveObjective):
            objective.bank.write(np.arange(len(LABELS)), *filling())
    settings = {
        "optimizer": keras.optimizers.SGD(0.05),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        "run_eagerly": True,
        **options,
    }
    classifier.compile(**settings)
    classifier.optimizer.build(classifier.trainable_variables)
    return classifier


def filling(seed=5):
    """Rows for both tables of the tiny encoders' bank."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=[2, len(LABELS), 8]).astype(np.float32)


def join(classifier):
    """Lets all objectives take part, with the banks as they are."""
    for objective in classifier.objectives:
        if isinstance(objective, ContrastiveObjective):
            objective.join()
    return classifier


def fit(classifier, batches, **options):
    return classifier.fit(batches, shuffle=False, verbose=0, **options).history


def tables(objective):
    bank = objective.bank
    return np.stack([bank.clean.numpy(), bank.adversarial.numpy()])


def bits(objective):
    return tables(objective).tobytes()


def indexed_batch():
    """A batch of the training set."""
    x, _ = batch()
    return {**x, "index": INDEX}, LABELS[INDEX].astype(np.int32)


def padded_batch(x, extra):
    others = {key: value for key, value in x.items() if key != "index"}
    return {**padded(others, extra), "index": x["index"]}


class ShiftedFreeLB(FreeLB):
    """FreeLB whose start is given, and apart from the clean embeddings."""

    def initialize(self, padding_mask, embedding_dim, seed_generator):
        mask = tf.cast(padding_mask, tf.float32)
        tokens = tf.range(tf.shape(mask)[1])[:, None]
        numbers = tokens * embedding_dim + tf.range(embedding_dim)
        delta = 0.1 * tf.sin(tf.cast(numbers, tf.float32)) * mask[:, :, None]
        return perturbation.project(delta, self.max_norm)


def adversary_of(start, steps=2, **settings):
    """An adversary of `each_start`."""
    settings = {"steps": steps, "step_size": 0.5, **settings}
    if start == "clean":
        return FreeLB(**settings)
    return ShiftedFreeLB(init_magnitude=0.3, **settings)


def gradients_by_id(step):
    return {id(weight): np.array(gradient) for gradient, weight in step[0]}


# The naive step: everything anew, every tensor whole.


def outputs_at(classifier, x, delta):
    encoder = classifier.encoder
    outputs = encoder.encode(encoder.embed(x) + delta, x)
    return {**outputs, "logits": classifier.classify(outputs)}


def class_losses(y, outputs):
    return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs["logits"])


def naive_deltas(classifier, x, y, sample_weight=1.0):
    """Ascends along the classification loss alone, pass by pass."""
    adversary = classifier.adversary
    mask = x["padding_mask"]
    dim = classifier.encoder.embedding_dim
    deltas = [adversary.initialize(mask, dim, seed_generator=None)]
    for _ in range(adversary.steps - 1):
        with tf.GradientTape() as tape:
            tape.watch(deltas[-1])
            losses = class_losses(y, outputs_at(classifier, x, deltas[-1]))
            losses *= sample_weight
        gradient = tape.gradient(losses, deltas[-1])
        delta = perturbation.step(
            deltas[-1], gradient, mask, adversary.step_size
        )
        deltas.append(perturbation.project(delta, adversary.max_norm))
    return deltas


def represented(objective, outputs):
    if objective.options.representation == "cls":
        return outputs["sequence_output"][:, 0, :]
    return outputs["pooled_output"]


def dense_contrastive(objective, x, clean, adversarial, sample_weight):
    """Eq. 2 to 4, for every example of the batch."""
    counts = sample_weight != 0
    normed = [
        tf.nn.l2_normalize(values, axis=-1)
        for values in (
            represented(objective, adversarial),
            represented(objective, clean),
            *tables(objective),
        )
    ]
    temperature = objective.options.temperature
    positive = tf.reduce_sum(normed[0] * normed[1], axis=1) / temperature
    drawn = LABELS[x["index"]][:, None] != LABELS
    losses = tf.zeros_like(positive)
    for anchor, table in zip(normed[:2], normed[2:], strict=True):
        scores = tf.matmul(anchor, table, transpose_b=True) / temperature
        h = tf.where(drawn, tf.exp(scores), 0.0)
        h_positive = tf.exp(positive)
        if objective.options.loss == "infonce":
            share = h_positive / (h_positive + tf.reduce_sum(h, axis=1))
            losses -= tf.math.log(share)
            continue
        # Z is a constant.
        count = drawn.sum(axis=1).astype(np.float32)
        z = float(tf.reduce_sum(h[counts]) + tf.reduce_sum(h_positive[counts]))
        z *= len(LABELS) / (count[counts].sum() + counts.sum())
        noise = z * count / len(LABELS)
        losses -= tf.math.log(h_positive / (h_positive + noise))
        right = noise[:, None] / (tf.exp(scores) + noise[:, None])
        losses -= tf.reduce_sum(tf.where(drawn, tf.math.log(right), 0.0), 1)
    return losses


def dense_logits(encoder, objective, hidden):
    """The head of masked language models, with the logits of all tokens."""
    hidden = tf.matmul(hidden, objective.dense.kernel) + objective.dense.bias
    hidden = keras.activations.gelu(
        hidden, approximate=encoder.activation == "gelu_new"
    )
    mean, variance = tf.nn.moments(hidden, axes=[-1], keepdims=True)
    hidden = (hidden - mean) / tf.sqrt(variance)
    norm = objective.layer_norm
    hidden = hidden * norm.gamma + norm.beta
    table = tf.convert_to_tensor(encoder.token_embedding.embeddings)
    return tf.matmul(hidden, table, transpose_b=True) + objective.bias


def dense_reconstruction(encoder, objective, x, hidden):
    """Every example's mean cross-entropy over its words."""
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        x["token_ids"], dense_logits(encoder, objective, hidden)
    )
    words = ~np.isin(x["token_ids"], SPECIAL_IDS) & (x["padding_mask"] == 1)
    words = words.astype(np.float32)
    total = tf.reduce_sum(losses * words, axis=1)
    return total / np.maximum(words.sum(axis=1), 1)


def naive_step(classifier, x, y, sample_weight=None):
    """Gradients by weight, losses of all passes and of the objectives."""
    if sample_weight is None:
        sample_weight = np.ones(len(y), np.float32)

    def mean(losses):
        return tf.reduce_mean(losses * sample_weight)

    deltas = naive_deltas(classifier, x, y, sample_weight)
    with tf.GradientTape() as tape:
        passes = [outputs_at(classifier, x, delta) for delta in deltas]
        clean = outputs_at(classifier, x, 0.0)
        class_loss = [mean(class_losses(y, outputs)) for outputs in passes]
        loss = tf.add_n(class_loss) / len(deltas)
        losses = {}
        for objective in classifier.objectives:
            if isinstance(objective, ContrastiveObjective):
                of_examples = dense_contrastive(
                    objective, x, clean, passes[-1], sample_weight
                )
            else:
                of_examples = dense_reconstruction(
                    classifier.encoder,
                    objective,
                    x,
                    passes[-1]["sequence_output"],
                )
            losses[objective.name] = mean(of_examples)
            loss += objective.weight * losses[objective.name]
    weights = classifier.trainable_weights
    gradients = tape.gradient(loss, weights)
    gradients = [np.array(tf.convert_to_tensor(g)) for g in gradients]
    return gradients, loss, class_loss, losses


def assert_as_naive(classifier, x, y, sample_weight=None):
    step = classifier.adversarial_gradients(x, y, sample_weight)
    gradients, loss, class_loss, losses = naive_step(
        classifier, x, y, sample_weight
    )
    weights = classifier.trainable_weights
    assert [id(weight) for _, weight in step.gradients] == [*map(id, weights)]
    for (found, weight), expected in zip(
        step.gradients, gradients, strict=True
    ):
        assert relative(found.numpy(), expected) < 1e-4, weight.path
    np.testing.assert_allclose(step.loss, loss, rtol=1e-4)
    np.testing.assert_allclose(step.statistics[:, 0], class_loss, rtol=1e-4)
    assert step.objective_losses.keys() == losses.keys()
    for name, value in losses.items():
        np.testing.assert_allclose(step.objective_losses[name], value, 1e-4)


def naive_cases():
    """All combinations; the fast ones leave out much of a lone objective."""
    for kind, steps, (i, start), (j, family) in itertools.product(
        KINDS,
        [1, 2, 3],
        enumerate(["clean", "apart"]),
        enumerate(["albert", "bert"]),
    ):
        slow = kind != "both" and (steps != 2 or i == j)
        marks = [pytest.mark.slow] if slow else []
        yield pytest.param(kind, steps, start, family, marks=marks)


@pytest.mark.parametrize(("kind", "steps", "start", "family"), [*naive_cases()])
def test_a_step_is_the_naive_one(tiny_encoder, kind, steps, start, family):
    x, y = indexed_batch()
    adversary = adversary_of(start, steps)
    classifier = make(tiny_encoder(family), objectives_of(kind), adversary)
    assert_as_naive(join(classifier), x, y)


@each_start
def test_a_step_in_a_ball_behind_the_embeddings_is_the_naive_one(
    tiny_encoder, start
):
    x, y = indexed_batch()
    encoder = tiny_encoder("albert", perturb_at="embedding_block")
    # The two ascents leave the ball.
    adversary = adversary_of(start, steps=3, max_norm=0.4)
    classifier = join(make(encoder, objectives_of("both"), adversary))
    assert_as_naive(classifier, x, y)


@pytest.mark.parametrize("name", ["nce", "infonce"])
def test_the_last_state_of_cls_can_stand_for_the_sentence(tiny_encoder, name):
    x, y = indexed_batch()
    objective = contrastive(name, representation="cls", momentum=0.0)
    classifier = join(make(tiny_encoder(), [objective]))
    assert_as_naive(classifier, x, y)
    step = classifier.adversarial_gradients(x, y)
    objective.update(x, step.clean, step.adversarial)
    for table, outputs in zip(
        tables(objective), (step.clean, step.adversarial), strict=True
    ):
        expected = outputs["sequence_output"][:, 0]
        np.testing.assert_array_equal(table[INDEX], expected)
    again = ContrastiveObjective.from_config(objective.get_config())
    assert again.options.representation == "cls"


def test_an_unknown_representation_is_told():
    with pytest.raises(InputError) as error:
        contrastive("nce", representation="mean")
    assert error.value.code == "not-a-choice"
    assert error.value.argument == "representation"


@each_start
def test_weighted_examples_take_the_naive_step(tiny_encoder, start):
    x, y = indexed_batch()
    adversary = adversary_of(start)
    classifier = make(tiny_encoder(), objectives_of("both"), adversary)
    weights = np.array([0.5, 0.0, 2.0, 1.0], np.float32)
    assert_as_naive(join(classifier), x, y, weights)


def test_an_example_of_weight_0_leaves_its_rows_as_they_are(tiny_encoder):
    x, y = indexed_batch()
    objective = contrastive("nce")
    classifier = join(make(tiny_encoder(), [objective]))
    before = tables(objective)
    classifier.train_step((x, y, np.array([0.5, 0.0, 2.0, 0.0], np.float32)))
    moved = np.any(tables(objective) != before, axis=(0, 2))
    assert set(np.flatnonzero(moved)) == {INDEX[0], INDEX[2]}


def test_a_batch_of_weight_0_does_not_tell_z(tiny_encoder):
    x, y = indexed_batch()
    objective = contrastive("nce")
    classifier = join(make(tiny_encoder(), [objective]))
    results = classifier.train_step((x, y, np.zeros(len(y), np.float32)))
    assert results["loss"] == 0
    assert np.isnan(objective.log_z).all()
    classifier.train_step((x, y))
    assert np.isfinite(objective.log_z).all()


@pytest.mark.parametrize("frozen", ["encoder", "token_embedding"])
def test_frozen_weights_have_no_gradient_and_others_stay_as_they_are(
    tiny_encoder, frozen
):
    x, y = indexed_batch()
    encoder = tiny_encoder()
    expected = gradients_by_id(
        join(make(encoder, objectives_of("both"))).adversarial_gradients(x, y)
    )
    layer = encoder if frozen == "encoder" else encoder.token_embedding
    layer.trainable = False
    classifier = join(make(encoder, objectives_of("both")))
    step = classifier.adversarial_gradients(x, y)
    table = encoder.token_embedding.embeddings
    for gradient, weight in step.gradients:
        assert weight is not table
        if id(weight) in expected:
            assert_all_close([gradient], [expected[id(weight)]])
    own = [classifier.head, *classifier.objectives]
    if frozen == "encoder":
        assert len(step.gradients) == sum(len(o.weights) for o in own)


@each_family
def test_word_embeddings_learn_through_the_lookup_and_the_tie(
    tiny_encoder, family
):
    x, y = indexed_batch()
    encoder = tiny_encoder(family)
    table = encoder.token_embedding.embeddings
    objective = reconstruction(weight=1.0)
    classifier = make(encoder, [objective])
    step = classifier.adversarial_gradients(x, y)
    with_tie = gradients_by_id(step)[id(table)]
    without = gradients_by_id(make(encoder).adversarial_gradients(x, y))
    without = without[id(table)]
    # What the projection alone adds, at given representations.
    with tf.GradientTape() as tape:
        losses = dense_reconstruction(
            encoder, objective, x, step.adversarial["sequence_output"]
        )
        loss = tf.reduce_mean(losses)
    tie = np.array(tape.gradient(loss, table))
    absent = np.setdiff1d(np.arange(len(tie)), x["token_ids"])
    assert not without[absent].any()
    assert with_tie[absent].any(axis=1).all()
    assert relative(with_tie[absent], tie[absent]) < 1e-4
    words = np.setdiff1d(x["token_ids"], SPECIAL_IDS)
    through_lookup = (with_tie - without - tie)[words]
    assert (np.abs(through_lookup).max(axis=1) > 1e-4).all()


# What objectives must leave alone


@each_start
@pytest.mark.parametrize("kind", ["infonce", "both"])
def test_objectives_of_weight_0_leave_the_gradients_of_freelb(
    tiny_encoder, kind, start
):
    x, y = indexed_batch()
    encoder = tiny_encoder()
    adversary = adversary_of(start, steps=3)
    expected = make(encoder, adversary=adversary)
    expected = gradients_by_id(expected.adversarial_gradients(x, y))
    objectives = objectives_of(kind, weights=(0.0, 0.0))
    classifier = join(make(encoder, objectives, adversary))
    found = gradients_by_id(classifier.adversarial_gradients(x, y))
    # The heads of encoder objects in use are the classifiers' own.
    for weight in encoder.trainable_weights:
        difference = relative(found[id(weight)], expected[id(weight)])
        # The keys' biases have gradients of rounding alone.
        assert difference < 1e-5, weight.path
    for objective in objectives:
        for weight in objective.trainable_weights:
            assert not found[id(weight)].any()


@each_start
def test_delta_never_ascends_along_the_objectives(tiny_encoder, start):
    x, y = indexed_batch()
    encoder = tiny_encoder("albert")
    adversary = adversary_of(start, steps=3)
    expected = make(encoder, adversary=adversary)
    expected = expected.adversarial_gradients(x, y).statistics
    for kind, weights in [
        ("both", (1.0, 0.0)),
        ("infonce", (1e3, 0.0)),
        ("reconstruction", (0.0, 1e3)),
    ]:
        classifier = join(
            make(encoder, objectives_of(kind, weights), adversary)
        )
        step = classifier.adversarial_gradients(x, y)
        assert step.statistics.shape == (3, 3)
        np.testing.assert_allclose(step.statistics, expected, rtol=1e-6)


def test_an_objective_that_has_not_started_leaves_freelb(tiny_encoder):
    x, y = indexed_batch()
    encoder = tiny_encoder()
    expected = make(encoder).adversarial_gradients(x, y)
    objective = contrastive()
    step = make(encoder, [objective]).adversarial_gradients(x, y)
    assert not objective.active
    assert step.objective_losses == {}
    assert step.loss == expected.loss
    assert_all_close(
        [g for g, _ in step.gradients], [g for g, _ in expected.gradients]
    )


# Dropout


@each_family
@pytest.mark.parametrize("init_magnitude", [0.0, 1e-12])
def test_clean_and_adversarial_pass_have_the_same_dropout_masks(
    tiny_encoder, init_magnitude, family
):
    x, y = indexed_batch()
    # Too small to change anything in float32.
    adversary = FreeLB(2, step_size=1e-12, init_magnitude=init_magnitude)
    classifier = make(
        tiny_encoder(family, dropout=0.5),
        objectives_of("both"),
        adversary,
        dropout=0.5,
    )
    join(classifier)
    steps = [classifier.adversarial_gradients(x, y) for _ in range(2)]
    for step in steps:
        # The contrastive objective reads no other tokens than the first.
        assert "sequence_output" not in step.clean
        assert "sequence_output" in step.adversarial
        for name in ("pooled_output", "logits"):
            np.testing.assert_allclose(
                step.clean[name], step.adversarial[name], atol=1e-5
            )
        np.testing.assert_allclose(*step.statistics[:, 0], rtol=1e-5)
    pooled = [step.clean["pooled_output"].numpy() for step in steps]
    assert not np.isclose(*pooled, atol=1e-3).all(axis=1).any()


# The rows of the memory bank


@pytest.fixture
def eager_functions():
    """Runs what is a `tf.function` eagerly: tracing takes seconds."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def training_set():
    """All examples of the training set, of three buckets."""
    rng = np.random.default_rng(3)
    lengths = rng.permutation(np.linspace(2, 20, len(LABELS)).astype(int))
    return batching.TokenizedExamples(
        token_ids=tf.ragged.constant(
            [rng.integers(1, 50, n).tolist() for n in lengths], tf.int32
        ),
        labels=LABELS.astype(np.int32),
        max_length=20,
        pad_id=0,
    )


@pytest.fixture(scope="module")
def batches(training_set):
    """One epoch: three batches of 5 and one of 2."""
    return batching.training_batches(training_set, 5, seed=1)


@pytest.fixture(scope="module")
def alone(tiny_encoder, training_set):
    """The representations of each example by itself, `[2, examples, 8]`."""
    classifier = make(tiny_encoder())
    found = []
    for i, label in enumerate(LABELS):
        ids = training_set.token_ids[i : i + 1].to_tensor()
        x = {
            "token_ids": ids,
            "padding_mask": tf.ones_like(ids),
            "segment_ids": tf.zeros_like(ids),
        }
        deltas = naive_deltas(classifier, x, [label])
        found.append(
            [
                outputs_at(classifier, x, delta)["pooled_output"][0]
                for delta in deltas
            ]
        )
    return np.array(found).transpose(1, 0, 2)


def standing(encoder, momentum=0.0, **settings):
    """A classifier whose weights stay as they are, and its objective."""
    objective = contrastive(momentum=momentum, **settings)
    optimizer = keras.optimizers.SGD(0.0)
    return make(encoder, [objective], optimizer=optimizer), objective


def test_rows_are_distinct_and_moved_by_the_adversary(alone):
    for i, j in itertools.combinations(range(len(LABELS)), 2):
        assert np.abs(alone[0, i] - alone[0, j]).max() > 0.01
    assert (np.abs(alone[0] - alone[1]).max(axis=1) > 0.01).all()


@pytest.mark.usefixtures("eager_functions")
def test_start_and_an_epoch_leave_each_row_what_its_example_gives(
    tiny_encoder, batches, alone
):
    classifier, objective = standing(tiny_encoder())
    objective.start(classifier, batches, verbose=0)
    np.testing.assert_allclose(tables(objective), alone, atol=1e-5)
    objective.bank.write(np.arange(len(LABELS)), *filling())
    fit(classifier, batches)
    np.testing.assert_allclose(tables(objective), alone, atol=1e-5)


def test_rows_average_over_epochs_as_eq_5_says(
    tiny_encoder, training_set, alone
):
    classifier, objective = standing(tiny_encoder(), momentum=0.5)
    join(classifier)
    epochs = batching.training_batches(training_set, 5, seed=1, epochs=2)
    fit(classifier, epochs)
    expected = 0.5 * (0.5 * filling() + 0.5 * alone) + 0.5 * alone
    np.testing.assert_allclose(tables(objective), expected, atol=1e-5)


def test_rows_of_the_dropped_batch_stay(tiny_encoder, batches, alone):
    classifier, objective = standing(tiny_encoder(), momentum=0.0)
    join(classifier)
    seen = np.concatenate([x["index"] for x, _ in batches.take(3)])
    fit(classifier, batches.take(3))
    expected = filling()
    others = np.setdiff1d(np.arange(len(LABELS)), seen)
    assert len(others) in (2, 5)
    np.testing.assert_array_equal(
        tables(objective)[:, others], expected[:, others]
    )
    np.testing.assert_allclose(
        tables(objective)[:, seen], alone[:, seen], atol=1e-5
    )


@pytest.mark.parametrize("bank_dtype", ["float32", "bfloat16"])
def test_evaluate_and_predict_leave_the_bank_bit_for_bit(
    tiny_encoder, batches, bank_dtype
):
    classifier, objective = standing(tiny_encoder(), bank_dtype=bank_dtype)
    join(classifier)
    fit(classifier, batches.take(1))
    before = bits(objective)
    log_z = objective.log_z.numpy()
    found = classifier.evaluate(batches, verbose=0, return_dict=True)
    assert set(found) == {"loss"}
    classifier.predict(batches, verbose=0)
    assert bits(objective) == before
    np.testing.assert_array_equal(objective.log_z, log_z)


# The start


@pytest.mark.usefixtures("eager_functions")
def test_losses_come_with_the_start_and_add_up(tiny_encoder, batches):
    objectives = objectives_of("both")
    carl = objectives[0]
    classifier = make(tiny_encoder(), objectives)
    names = {
        "loss",
        "clean_accuracy",
        "delta_norm",
        "classification_loss",
        "reconstruction_loss",
    }
    logs = fit(classifier, batches.take(1))
    assert not carl.active
    assert set(logs) == names
    carl.start(classifier, batches, verbose=0)
    assert carl.active
    logs = fit(classifier, batches.take(1))
    assert set(logs) == names | {"contrastive_loss"}
    expected = (
        logs["classification_loss"][0]
        + 0.7 * logs["contrastive_loss"][0]
        + 1.3 * logs["reconstruction_loss"][0]
    )
    assert logs["loss"][0] == pytest.approx(expected, rel=1e-5)
    assert logs["contrastive_loss"][0] > 0.1


@pytest.mark.usefixtures("eager_functions")
def test_start_changes_no_weight_and_no_state_of_the_optimizer(
    tiny_encoder, batches
):
    objective = contrastive()
    optimizer = keras.optimizers.Adam(0.01)
    classifier = make(tiny_encoder(), [objective], optimizer=optimizer)
    fit(classifier, batches.take(1))
    states = [*classifier.weights, *optimizer.variables]
    before = [state.numpy() for state in states]
    assert any(state.any() for state in before[len(classifier.weights) :])
    old = tables(objective)
    objective.start(classifier, batches, verbose=0)
    for state, value in zip(states, before, strict=True):
        np.testing.assert_array_equal(state, value)
    assert (tables(objective) != old).any(axis=2).all()
    assert np.isnan(objective.log_z).all()


@pytest.mark.usefixtures("eager_functions")
def test_start_tells_how_many_examples_are_left_out(tiny_encoder, batches):
    objective = contrastive()
    classifier = make(tiny_encoder(), [objective])
    sizes = [len(y) for _, y in batches]
    missing = len(LABELS) - sum(sizes[:3])
    with pytest.raises(InputError) as error:
        objective.start(classifier, batches.take(3), verbose=0)
    assert error.value.code == "examples-missing"
    assert f"{missing} of 17 examples" in error.value.problem
    assert not objective.active


class StepLogs(keras.callbacks.Callback):
    """Keeps the logs of every step, and the functions that were steps."""

    def __init__(self):
        super().__init__()
        self.steps = []
        self.functions = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(dict(logs))
        self.functions.append(self.model.train_function)


@pytest.mark.parametrize(
    ("start_step", "run_eagerly"),
    [
        (0, True),
        (5, True),
        pytest.param(5, False, marks=pytest.mark.slow),
    ],
)
def test_the_callback_starts_at_its_step_and_tracing_is_not_timed(
    tiny_encoder, batches, start_step, run_eagerly, request
):
    if run_eagerly:
        request.getfixturevalue("eager_functions")
    objective = contrastive()
    classifier = make(tiny_encoder(), [objective], run_eagerly=run_eagerly)
    logs, timer = StepLogs(), callbacks.StepTimer()
    start = callbacks.StartObjective(objective, batches, start_step)
    fit(classifier, batches, epochs=2, callbacks=[start, timer, logs])
    assert len(logs.steps) == 8
    found = ["contrastive_loss" in step for step in logs.steps]
    assert found == [step >= start_step for step in range(8)]
    losses = [step["contrastive_loss"] for step in logs.steps[start_step:]]
    assert np.isfinite(losses).all()
    traced = len({id(function) for function in logs.functions})
    assert traced == (2 if start_step else 1)
    assert timer.steps == 8 - traced
    assert timer.seconds > 0


def test_reconstruction_waits_for_its_step(
    tiny_encoder, batches, eager_functions
):
    logs, objective = StepLogs(), reconstruction()
    objective.wait()
    classifier = make(tiny_encoder(), [objective], run_eagerly=True)
    plain = make(tiny_encoder(), [], run_eagerly=True)
    start = callbacks.StartObjective(objective, batches, start_step=2)
    fit(classifier, batches, callbacks=[start, logs])
    found = ["reconstruction_loss" in step for step in logs.steps]
    assert found == [False, False, True, True]
    alone = StepLogs()
    fit(plain, batches, callbacks=[alone])
    losses = [[step["loss"] for step in log.steps] for log in (logs, alone)]
    np.testing.assert_allclose(losses[0][:2], losses[1][:2], rtol=1e-6)


# Weights in files


def saved_and_loaded(classifier, path, encoder, objectives, **options):
    """A fresh classifier with the weights of another."""
    classifier.save_weights(path)
    found = make(encoder, objectives, **options)
    for objective in found.objectives:
        if isinstance(objective, ContrastiveObjective):
            objective.bank.write(np.arange(len(LABELS)), *filling(seed=8))
    found.load_weights(path)
    return found


@pytest.mark.parametrize("bank_dtype", ["float32", "bfloat16"])
def test_training_goes_on_after_loading_as_if_never_interrupted(
    tiny_encoder, batches, tmp_path, bank_dtype
):
    def objectives():
        return objectives_of("both", bank_dtype=bank_dtype)

    def adam():
        return keras.optimizers.Adam(0.01)

    classifier = make(tiny_encoder(), objectives(), optimizer=adam())
    join(classifier)
    fit(classifier, batches.take(1))
    found = saved_and_loaded(
        classifier,
        tmp_path / "w.weights.h5",
        tiny_encoder(),
        objectives(),
        optimizer=adam(),
    )
    old, new = classifier.objectives[0], found.objectives[0]
    assert new.active
    assert new.bank.clean.dtype == bank_dtype
    assert bits(new) == bits(old)
    assert np.isfinite(old.log_z).all()
    np.testing.assert_array_equal(new.log_z, old.log_z)
    rest = batches.skip(2)
    expected = fit(classifier, rest)
    history = fit(found, rest)
    assert "contrastive_loss" in history
    assert history.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-5)
    assert_all_close(found.get_weights(), classifier.get_weights())
    np.testing.assert_array_equal(tables(new), tables(old))


def test_weights_from_before_the_start_load_without_it(tiny_encoder, tmp_path):
    classifier = make(tiny_encoder(), objectives_of("both"))
    found = saved_and_loaded(
        classifier,
        tmp_path / "w.weights.h5",
        tiny_encoder(),
        objectives_of("both"),
    )
    assert not found.objectives[0].active
    np.testing.assert_array_equal(tables(found.objectives[0]), filling(seed=8))


def test_a_bank_of_another_size_does_not_load(tiny_encoder, tmp_path):
    classifier = join(make(tiny_encoder(), [contrastive()]))
    path = tmp_path / "w.weights.h5"
    classifier.save_weights(path)
    other = ContrastiveObjective(np.arange(18) % 2, num_negatives=None)
    found = AdversarialClassifier(tiny_encoder(), 2, FreeLB(), [other])
    # Keras collects what its layers refuse, in an error of its own.
    with pytest.raises(ValueError, match="a saved memory bank of shape"):
        found.load_weights(path)
    assert not other.active


@pytest.mark.parametrize("kind", ["nce", "both"])
def test_weights_without_objectives_lack_the_head_of_rar_alone(
    tiny_encoder, tmp_path, kind
):
    path = tmp_path / "w.weights.h5"
    freelb = make(tiny_encoder("bert"))
    freelb.save_weights(path)
    classifier = make(tiny_encoder(), objectives_of(kind))
    if kind == "both":
        with pytest.raises(ValueError, match="reconstruction"):
            classifier.load_weights(path)
    else:
        classifier.load_weights(path)
    assert not classifier.objectives[0].active


def test_what_a_run_keeps_has_no_bank_and_predicts_the_same(
    tiny_encoder, batches, tmp_path
):
    x, _ = batch()
    classifier = join(make(tiny_encoder(), objectives_of("both")))
    fit(classifier, batches.take(1))
    path = tmp_path / "kept.weights.h5"
    part_to_keep(classifier).save_weights(path)
    shapes = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: shapes.update(
                {name: getattr(item, "shape", None)}
            )
        )
    assert not any("contrastive" in name for name in shapes)
    assert (len(LABELS), 8) not in shapes.values()
    kept = AdversarialClassifier(
        tiny_encoder(), 2, FreeLB(), [reconstruction()]
    )
    kept.load_weights(path)
    np.testing.assert_array_equal(kept(x), classifier(x))
    hidden = classifier.encoder(x)["sequence_output"]
    np.testing.assert_array_equal(
        kept.objectives[0].reconstruct(hidden),
        classifier.objectives[1].reconstruct(hidden),
    )


# Reconstruction


@pytest.fixture(scope="module")
def rar(tiny_encoder):
    """A classifier with RAR's objective."""
    return make(tiny_encoder("albert"), [reconstruction()])


def hidden_states(shape, seed=1):
    rng = np.random.default_rng(seed)
    return tf.constant(rng.normal(size=[*shape, 8]), tf.float32)


def loss_and_gradient(objective, x, hidden, sample_weight=None):
    with tf.GradientTape() as tape:
        tape.watch(hidden)
        loss = objective.loss(
            {key: tf.constant(value) for key, value in x.items()},
            None,
            None,
            {"sequence_output": hidden},
            sample_weight,
        )
    return loss.numpy(), tape.gradient(loss, hidden).numpy()


def test_words_are_neither_specials_nor_padding(rar):
    x = {
        "token_ids": tf.constant([[2, 9, 3, 40, 0, 4], [1, 5, 49, 0, 9, 8]]),
        "padding_mask": tf.constant([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]),
    }
    expected = [[0, 1, 0, 1, 0, 0], [0, 1, 1, 0, 1, 0]]
    found = rar.objectives[0].words(x)
    assert found.dtype == tf.bool
    np.testing.assert_array_equal(found, np.array(expected, bool))


def test_the_loss_is_the_dense_one_with_its_gradients(rar):
    x, _ = batch()
    objective = rar.objectives[0]
    hidden = hidden_states(x["token_ids"].shape)
    table = rar.encoder.token_embedding.embeddings
    sources = [hidden, table, *objective.trainable_weights]
    found = []
    for dense in (False, True):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            if dense:
                loss = tf.reduce_mean(
                    dense_reconstruction(rar.encoder, objective, x, hidden)
                )
            else:
                loss = objective.loss(x, None, {}, {"sequence_output": hidden})
        found.append((loss, tape.gradient(loss, sources)))
    (loss, gradients), (expected, dense_gradients) = found
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    for one, other in zip(gradients, dense_gradients, strict=True):
        assert relative(np.array(one), np.array(other)) < 1e-5


def test_longer_padding_and_other_examples_do_not_change_an_example(rar):
    x, _ = batch()
    objective = rar.objectives[0]
    hidden = hidden_states(x["token_ids"].shape)
    loss, gradient = loss_and_gradient(objective, x, hidden)
    longer = tf.concat([hidden, hidden_states([4, 7], seed=2)], axis=1)
    found = loss_and_gradient(objective, padded(x, 7), longer)
    np.testing.assert_allclose(found[0], loss, rtol=1e-6)
    np.testing.assert_allclose(found[1][:, :9], gradient, atol=1e-6)
    assert not found[1][:, 9:].any()
    singles = [
        loss_and_gradient(objective, rows(x, [i]), hidden[i : i + 1])
        for i in range(4)
    ]
    # An example's share of a batch of 4.
    np.testing.assert_allclose(
        np.concatenate([g for _, g in singles]) / 4, gradient, atol=1e-6
    )
    assert np.mean([s for s, _ in singles]) == pytest.approx(loss, rel=1e-6)


@each_start
def test_longer_padding_does_not_change_a_step(tiny_encoder, start):
    x, y = indexed_batch()
    steps = []
    for inputs in (x, padded_batch(x, 7)):
        adversary = adversary_of(start)
        classifier = make(
            tiny_encoder("albert"), objectives_of("both"), adversary
        )
        steps.append(join(classifier).adversarial_gradients(inputs, y))
    for (found, _), (expected, _) in zip(
        steps[1].gradients, steps[0].gradients, strict=True
    ):
        assert relative(found.numpy(), expected.numpy()) < 1e-4
    np.testing.assert_allclose(steps[1].loss, steps[0].loss, rtol=1e-5)


def test_an_example_of_weight_0_is_not_reconstructed(rar):
    x, _ = batch()
    objective = rar.objectives[0]
    hidden = hidden_states(x["token_ids"].shape)
    weights = np.array([1.0, 0.0, 1.0, 1.0], np.float32)
    loss, gradient = loss_and_gradient(objective, x, hidden, weights)
    kept = [0, 2, 3]
    expected, of_kept = loss_and_gradient(
        objective, rows(x, kept), tf.gather(hidden, kept)
    )
    # Keras divides by the number of all examples.
    np.testing.assert_allclose(loss, expected * 3 / 4, rtol=1e-6)
    np.testing.assert_allclose(gradient[kept], of_kept * 3 / 4, atol=1e-6)
    assert not gradient[1].any()


def test_an_example_without_words_costs_nothing(rar):
    x, _ = batch(lengths=(3, 5), tokens=5)
    x["token_ids"][0] = [2, 1, 3, 0, 0]
    hidden = hidden_states([2, 5])
    loss, gradient = loss_and_gradient(rar.objectives[0], x, hidden)
    assert np.isfinite(loss)
    assert not gradient[0].any()
    assert gradient[1].any()


def test_reconstructed_words_are_the_likeliest_that_are_no_specials(
    tiny_encoder,
):
    objective = reconstruction()
    encoder = make(tiny_encoder(), [objective]).encoder
    # So that many words, and specials, are likeliest somewhere.
    objective.bias.assign(0.1 * objective.bias.numpy())
    hidden = hidden_states([5, 40])
    logits = dense_logits(encoder, objective, hidden).numpy()
    barred = np.isin(logits.argmax(axis=-1), SPECIAL_IDS)
    assert barred.any()
    assert not barred.all()
    logits[..., SPECIAL_IDS] = -np.inf
    found = objective.reconstruct(hidden)
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, logits.argmax(axis=-1))


def test_the_head_adds_to_albert_base_its_number_of_parameters(tmp_path):
    config = checkpoints.albert_config(30000, 128, 768, 12, 12, 1, 1, 3072, 512)
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = Encoder.from_pretrained(tmp_path, load_weights=False)
    objectives = objectives_of("both")
    classifier = AdversarialClassifier(encoder, 2, FreeLB(), objectives)
    assert objectives[1].count_params() == 128_688
    assert classifier.count_params() == 11_813_810
    kept = part_to_keep(classifier)
    assert kept.count_params() == 11_813_810


# Settings


def test_objectives_need_an_adversary(tiny_encoder):
    with pytest.raises(InputError) as error:
        AdversarialClassifier(
            tiny_encoder(), 2, adversary=None, objectives=[reconstruction()]
        )
    assert error.value.code == "objectives-without-adversary"


def test_objectives_need_different_names(tiny_encoder):
    objectives = [reconstruction(name="same"), contrastive(name="same")]
    with pytest.raises(InputError) as error:
        AdversarialClassifier(tiny_encoder(), 2, FreeLB(), objectives)
    assert error.value.code == "objectives-of-one-name"


@pytest.mark.parametrize("weight", [-1, float("nan"), float("inf")])
@pytest.mark.parametrize("objective", [contrastive, reconstruction])
def test_weights_out_of_range_are_told(objective, weight):
    with pytest.raises(InputError) as error:
        objective(weight=weight)
    assert error.value.argument == "weight"


def test_a_config_builds_the_classifier_with_its_objectives(tiny_encoder):
    objectives = objectives_of(
        "both", momentum=0.25, bank_dtype="bfloat16", num_negatives=6
    )
    classifier = make(tiny_encoder(), objectives)
    config = classifier.get_config()
    json.dumps(config["objectives"])
    found = AdversarialClassifier.from_config(config)
    assert found.adversary.get_config() == classifier.adversary.get_config()
    assert [type(o) for o in found.objectives] == [*map(type, objectives)]
    for one, other in zip(found.objectives, objectives, strict=True):
        assert one.get_config() == other.get_config()
    assert found.objectives[0].options.loss == "nce"
    assert found.objectives[0].bank.momentum == 0.25
    np.testing.assert_array_equal(found.objectives[0].bank.labels, LABELS)
    found.set_weights(classifier.get_weights())
    x, _ = batch()
    np.testing.assert_array_equal(found(x), classifier(x))


def test_a_whole_model_comes_back_from_its_file(tiny_encoder, tmp_path):
    x, _ = indexed_batch()
    classifier = join(make(tiny_encoder(), objectives_of("both")))
    classifier.save(tmp_path / "model.keras")
    found = keras.models.load_model(tmp_path / "model.keras")
    assert found.objectives[0].active
    assert bits(found.objectives[0]) == bits(classifier.objectives[0])
    for one, other in zip(found.weights, classifier.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(found(x), classifier(x))


def test_inputs_without_index_are_told(tiny_encoder):
    x, y = batch()
    classifier = join(make(tiny_encoder(), [contrastive()]))
    with pytest.raises(InputError) as error:
        classifier.fit(x, y, verbose=0)
    assert error.value.code == "no-index"


# The graph


@pytest.mark.parametrize(
    ("start", "fewest"),
    [("clean", 3), pytest.param("apart", 2, marks=pytest.mark.slow)],
)
def test_graph_does_not_grow_with_the_number_of_passes(
    tiny_encoder, start, fewest
):
    x, y = indexed_batch()
    x = {key: tf.constant(value) for key, value in x.items()}
    sizes = []
    for steps in (fewest, 30):
        adversary = adversary_of(start, steps, max_norm=0.5)
        classifier = join(make(tiny_encoder(), [contrastive()], adversary))
        step = tf.function(classifier.adversarial_gradients)
        sizes.append(number_of_ops(step.get_concrete_function(x, y)))
    assert sizes[0] == sizes[1]


def test_batches_of_new_shapes_are_not_traced_anew(
    tiny_encoder, training_set, batches
):
    assert len({tuple(x["token_ids"].shape) for x, _ in batches}) >= 3
    classifier = make(
        tiny_encoder(),
        objectives_of("both"),
        cls=CountingClassifier,
        run_eagerly=False,
    )
    join(classifier)
    fit(classifier, batches.take(1))
    traces = classifier.traces
    # TensorFlow traces a step that creates variables, metrics here, twice.
    assert traces in (1, 2)
    epochs = batching.training_batches(training_set, 5, seed=2, epochs=2)
    fit(classifier, epochs)
    assert classifier.traces == traces


@pytest.mark.slow
@each_start
def test_a_compiled_graph_gives_the_same_losses_and_weights(
    tiny_encoder, batches, start
):
    found = []
    for jit_compile in (False, True):
        classifier = make(
            tiny_encoder(),
            objectives_of("both"),
            adversary_of(start),
            run_eagerly=False,
            jit_compile=jit_compile,
        )
        join(classifier)
        history = fit(classifier, batches.take(2))
        found.append((history, classifier))
    (history, compiled), (expected, plain) = found[1], found[0]
    assert history.keys() == expected.keys()
    for key, values in expected.items():
        np.testing.assert_allclose(history[key], values, rtol=1e-4)
    assert_all_close(compiled.get_weights(), plain.get_weights(), 1e-5)
    np.testing.assert_allclose(
        tables(compiled.objectives[0]),
        tables(plain.objectives[0]),
        atol=1e-5,
    )


# Precision


def test_bfloat16_trains_on_both_objectives(tiny_encoder, batches):
    encoder = tiny_encoder("albert", dtype="mixed_bfloat16")
    objectives = objectives_of("both", bank_dtype="bfloat16")
    classifier = join(make(encoder, objectives))
    before = tables(objectives[0])
    weights = classifier.get_weights()
    history = fit(classifier, batches.take(2))
    for values in history.values():
        assert np.isfinite(values).all()
    found = tables(objectives[0]).astype(np.float32)
    assert np.isfinite(found).all()
    assert (found != before.astype(np.float32)).any()
    assert {weight.dtype for weight in classifier.weights} == {"float32"}
    for one, other in zip(classifier.get_weights(), weights, strict=True):
        assert np.isfinite(one).all()
        assert (one != other).any()
