"""What is measured under attack, and what HotFlip exchanges."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfadv
from tests import tiny_run
from tfadv.data import batching
from tfadv.datasets.examples import Examples
from tfadv.inference import evaluation
from tfadv.report import runs
from tfadv.robustness import hotflip, measure, statistics, word_classes


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder")))


@pytest.fixture(scope="module")
def folder(encoder, tmp_path_factory):
    """A FreeLB run with all that tools.attack measures."""
    folder = tmp_path_factory.mktemp("runs") / "freelb"
    settings = tiny_run.settings(
        encoder,
        adversary=tfadv.FreeLB(steps=2, step_size=0.1),
        max_length=16,
        epochs=9,
        batch_size=8,
        learning_rate=0.008,
    )
    tfadv.train(tiny_run.dataset(), settings, folder)
    return folder


@pytest.fixture(scope="module")
def run(folder):
    return tfadv.load(folder)


@pytest.fixture(scope="module")
def examples():
    return tiny_run.examples(21, seed=2)


@pytest.fixture(scope="module")
def measured(run, examples):
    return measure.measure(run, examples, [0.0, 0.3, 3.0], 8, steps=4)


@pytest.fixture(scope="module")
def flips(run, examples):
    attack = hotflip.HotFlip(run, 2, num_neighbors=5, min_cosine=-1.0)
    return attack, attack.attack(examples, batch_size=8)


def test_epsilon_0_gives_clean_accuracy_exactly(run, examples, measured):
    tokenized = batching.tokenize(examples, run.tokenizer)
    clean = evaluation.evaluate(run.classifier, tokenized)
    row = measured[0]["epsilons"][0]
    assert row["accuracy"] == clean["accuracy"]
    assert measured[0]["clean"]["accuracy"] == clean["accuracy"]
    assert row["euclidean"] == 0.0
    assert row["cosine"] == pytest.approx(1.0)
    assert row["delta_norm"] == 0.0


def test_larger_balls_hurt_more(measured):
    rows = measured[0]["epsilons"]
    accuracies = [row["accuracy"] for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert accuracies[-1] < accuracies[0]
    assert rows[1]["euclidean"] < rows[2]["euclidean"]
    for row in rows:
        assert row["delta_norm"] <= row["epsilon"] + 1e-5
        low, high = row["accuracy_interval"]
        assert low <= row["accuracy"] <= high


def test_results_tell_their_settings(measured, examples):
    results, representations = measured
    assert results["attack"] == {"steps": 4}
    assert results["examples"] == len(examples) == 21
    assert results["seed"] == 0
    assert json.loads(json.dumps(results)) == results
    # As the report, and version 0.1, have it.
    assert runs._has_form(results, runs._ROBUSTNESS)
    assert representations["clean"].shape == (21, 8)
    assert representations["attacked"].shape == (3, 21, 8)


def test_batches_do_not_matter(run, examples, measured):
    again, representations = measure.measure(run, examples, [0.3], 5, steps=4)
    row = measured[0]["epsilons"][1]
    assert again["epsilons"][0]["accuracy"] == row["accuracy"]
    np.testing.assert_allclose(
        representations["attacked"][0],
        measured[1]["attacked"][1],
        rtol=1e-4,
        atol=1e-5,
    )


def test_the_norms_of_words_are_those_of_delta(measured, run):
    row = measured[0]["epsilons"][2]
    assert len(row["heat_maps"]) == 12
    for sentence in row["heat_maps"]:
        assert len(sentence["tokens"]) == len(sentence["norms"])
        assert sentence["tokens"][0] == "[CLS]"
        assert np.linalg.norm(sentence["norms"]) <= 3.0 + 1e-3
    counts = row["delta_norm_by_word_class"]
    assert counts["special"]["tokens"] == 2 * 21
    assert {"function word", "content word"} <= set(counts)
    for of_class in counts.values():
        low, high = of_class["mean_interval"]
        assert low <= of_class["mean"] <= high


def test_words_have_classes(run):
    ids = run.tokenizer.tokenize(["the film is good"])[0].numpy()
    pieces = run.tokenizer.ids_to_tokens(ids)
    assert word_classes.classify(pieces, ids, run.tokenizer) == [
        "special",
        "function word",
        "content word",
        "function word",
        "content word",
        "special",
    ]


def test_pieces_of_a_word_are_of_one_class(minilm_folder):
    tokenizer = tfadv.Tokenizer.from_pretrained(minilm_folder, 32)
    ids = tokenizer.tokenize(["it is a stumblebum, never!"])[0].numpy()
    pieces = tokenizer.ids_to_tokens(ids)
    classes = dict(
        zip(
            pieces,
            word_classes.classify(pieces, ids, tokenizer),
            strict=True,
        )
    )
    parts = [piece for piece in pieces if piece.startswith("##")]
    assert parts
    assert {classes[part] for part in parts} == {"content word"}
    assert classes["never"] == "negation"
    assert classes["!"] == classes[","] == "punctuation"
    assert classes["[SEP]"] == "special"


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    low, high = statistics.bootstrap_interval(values)
    error = 1.96 * values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - error, abs=0.03)
    assert high == pytest.approx(values.mean() + error, abs=0.03)
    assert statistics.bootstrap_interval([1.0, 1.0]) == [1.0, 1.0]


def test_values_of_one_example_are_drawn_together():
    rng = np.random.default_rng(2)
    counts = rng.integers(0, 5, 400)
    levels = rng.normal(3.0, 2.0, 400)
    low, high = statistics.bootstrap_interval(levels * counts, counts=counts)
    mean = np.sum(levels * counts) / counts.sum()
    # The delta method for a ratio of sums.
    residuals = counts * (levels - mean)
    error = 1.96 * np.sqrt(np.sum(residuals**2)) / counts.sum()
    assert low == pytest.approx(mean - error, abs=0.03)
    assert high == pytest.approx(mean + error, abs=0.03)


def test_hotflip_changes_at_most_so_many_whole_words(run, examples, flips):
    _, lines = flips
    tokenized = batching.tokenize(examples, run.tokenizer)
    for index, line in enumerate(lines):
        assert line["index"] == index
        assert line["original"] == examples.texts[index]
        assert len(line["changed"]) <= 2
        tokens = run.tokenizer.ids_to_tokens(tokenized.token_ids[index].numpy())
        for change in line["changed"]:
            assert tokens[change["position"]] == change["from"]
            assert change["from"] in tiny_run.WORDS
            assert change["to"] in tiny_run.WORDS
            tokens[change["position"]] = change["to"]
        assert line["adversary"].split() == tokens[1:-1]


def test_hotflip_leaves_what_is_wrong_and_fools_some(run, examples, flips):
    attack, lines = flips
    predicted = run.predict_proba(examples.texts).argmax(axis=1)
    for line, guess, label in zip(
        lines, predicted, examples.labels, strict=True
    ):
        assert line["prediction_before"] == run.label_names[guess]
        if guess != label:
            assert line["changed"] == []
    after = run.predict_proba([line["adversary"] for line in lines])
    right = after.argmax(axis=1) == examples.labels
    summary = attack.summary(lines)
    assert summary["accuracy"] == right.mean()
    assert right.mean() < (predicted == examples.labels).mean()


def test_hotflip_follows_the_gradient(run):
    """One exchange is the one that the first-order estimate prefers."""
    attack = hotflip.HotFlip(run, 1, num_neighbors=8, min_cosine=-1.0)
    one = Examples(["the film is good"], np.array([1], np.int32))
    [line] = attack.attack(one)
    [change] = line["changed"]
    classifier, tokenizer = run.classifier, run.tokenizer
    x = tokenizer(["the film is good"])
    with tf.GradientTape() as tape:
        embeddings = classifier.encoder.embed(x)
        tape.watch(embeddings)
        outputs = classifier.encoder.encode(embeddings, x)
        logits = classifier.classify(outputs)
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([1], logits)
    gradient = tape.gradient(loss, embeddings)[0].numpy()
    table = np.array(classifier.encoder.token_embedding.embeddings)
    ids = x["token_ids"][0].numpy()
    words = [tiny_run.PIECES.index(word) for word in tiny_run.WORDS]
    gains = {
        (i, w): float(gradient[i] @ (table[w] - table[ids[i]]))
        for i in range(1, 5)
        for w in words
        if w != ids[i]
    }
    position, word = max(gains, key=gains.get)
    assert change["position"] == position
    assert change["to"] == tiny_run.PIECES[word]
