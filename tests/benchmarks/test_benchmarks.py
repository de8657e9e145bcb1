"""The benchmarks count rightly, and their peers compute what ours compute."""

import functools
import io
import json
import types

import numpy as np
import pytest
import tensorflow as tf

import tfadv
from benchmarks import growth, lengths, measure, sizes
from tests import checkpoints

each_albert_case = pytest.mark.parametrize(
    "case",
    [
        case
        for case in checkpoints.FREELB_CASES
        if case.family == "albert" and not case.init_scale
    ],
    ids=lambda case: case.name,
)


def test_flops_of_a_tiny_shape_by_hand():
    tiny = sizes.EncoderSizes(
        layers=2,
        hidden=4,
        heads=2,
        intermediate=8,
        embedding=3,
        vocabulary=50,
    )
    # 2 texts of 3 tokens: products of 6 rows; two of [3, 2] and [2, 3] for
    # each of 2 texts and 2 heads, and as much for the weighted values.
    projections = 4 * (2 * 6 * 4 * 4)
    attention = 2 * 2 * (2 * 3 * 2 * 3) + 2 * 2 * (2 * 3 * 3 * 2)
    feedforward = 2 * 6 * 4 * 8 + 2 * 6 * 8 * 4
    other = 2 * 6 * 3 * 4 + 2 * 2 * 4 * 4 + 2 * 2 * 4 * 5
    forward = 2 * (projections + attention + feedforward) + other
    assert sizes.forward_flops(tiny, batch=2, tokens=3, classes=5) == forward
    assert sizes.step_flops(tiny, 2, 3, 5) == 3 * forward
    # In the last layer 2 rows instead of 6, but for keys and values.
    left_out = 2 * (2 * 4 * 4 * 4) + attention * 2 // 3 + feedforward * 2 // 3
    found = sizes.forward_flops(tiny, 2, 3, 5, pooled_only=True)
    assert found == forward - left_out


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponent_of_a_power_law_is_exact(power):
    values = [3, 10, 50, 400]
    seconds = [0.2 * value**power for value in values]
    assert growth.exponent(values, seconds) == pytest.approx(power, abs=1e-12)


def test_growth_is_told_between_the_ends():
    table = growth.report([("tokens", [8, 16, 32], [1.0, 2.0, 4.0])])
    [cells] = [line for line in table.split("\n") if "tokens" in line]
    found = [cell.strip() for cell in cells.strip("|").split("|")]
    assert found == ["tokens", "8 to 32", "4.00", "4.00", "1.00"]


def test_growth_is_drawn(tmp_path):
    found = [(name, [1, 2, 4], [0.1, 0.2, 0.3]) for name in "abc"]
    growth.draw(found, tmp_path / growth.FILE)
    assert (tmp_path / growth.FILE).stat().st_size > 1000


def test_stored_lengths_are_those_of_sst2():
    counts = np.array(lengths.SST2_COUNTS)
    assert counts.sum() == 67349
    mean = (counts * np.arange(len(counts))).sum() / counts.sum()
    assert mean == pytest.approx(14.3, abs=0.1)
    # [CLS], a piece and [SEP].
    assert counts[:3].sum() == 0 < counts[3]
    assert len(counts) <= lengths.MAX_LENGTH


def test_all_sentences_drawn_are_all_there_are():
    counts = (0, 2, 0, 5, 1)
    drawn = lengths.from_counts(counts, 8, np.random.default_rng(0))
    assert tuple(np.bincount(drawn)) == counts


def test_some_of_many_are_at_equal_distances():
    assert measure.evenly(2, 8) == [2, 6]
    assert measure.evenly(5, 5) == [0, 1, 2, 3, 4]


def test_table_is_markdown():
    rows = [["a", 0.123, None], ["b", 12.34, "at most 0.4"], ["c", 1234.5, ""]]
    assert measure.table(["x", "ratio", "aim"], rows).split("\n") == [
        "| x   | ratio | aim         |",
        "| --- | ----- | ----------- |",
        "| a   | 0.12  |             |",
        "| b   | 12.3  | at most 0.4 |",
        "| c   | 1,234 |             |",
    ]


def test_batches_measured_stand_for_all_by_their_tokens():
    # 2.5 and 2.5 ms a token.
    peer = {"seconds": 4.0, "sentences": 40, "tokens": 1600}
    ours = {"seconds": 1.0, "sentences": 20, "tokens": 400}
    report = measure.batches_report(
        {"ours": ours, measure.PEER: peer},
        {"ours": {**ours, "width": 15.0}, measure.PEER: {**peer, "width": 50}},
        {"ours": 0.35},
    )
    lines = [" ".join(line.split()) for line in report.split("\n")]
    assert "| ours | 0.30 | at most 0.35 | 0.30 |" in lines
    assert f"| {measure.PEER} | 1.00 | | 1.00 |" in lines
    assert f"computed: ours 15.0, {measure.PEER} 50.0; " in report
    assert f"measured ours 20.0, {measure.PEER} 40.0" in report
    assert "0.125 s a sentence" in report


def test_batches_are_answered_from_all_widths(monkeypatch):
    questions = [{"lengths": [7]}, {"batches": 1}, {"batches": 5}]
    lines = io.StringIO("".join(json.dumps(q) + "\n" for q in questions))
    printed, called = [], []
    monkeypatch.setattr(measure.sys, "stdin", lines)
    monkeypatch.setattr("builtins.print", lambda x, **_: printed.append(x))

    def make(options, lengths):
        assert lengths == [7]
        shapes = [(2, 9), (2, 3), (1, 5), (2, 1)]
        return [(s, functools.partial(called.append, s[1])) for s in shapes]

    measure.answer_batches(make, types.SimpleNamespace(batches=2))
    answers = [json.loads(x.split(measure._ANSWER)[1]) for x in printed]
    # The middle one; of four in order the second and the last.
    assert called == [5, 3, 9]
    assert answers[0]["width"] == 31 / 7
    assert [a["tokens"] for a in answers] == [5, 6, 18]
    assert [a["sentences"] for a in answers] == [1, 2, 2]
    assert "width" not in answers[1]


def test_workers_answer_in_turns_or_say_how_they_ended(tmp_path, monkeypatch):
    (tmp_path / "echo_system.py").write_text(
        "from benchmarks import measure\n"
        "print('a library talks')\n"
        "measure.answer(lambda number: 10 // number)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(measure, "_REST", 0)
    with measure.workers("echo_system", ["a", "b"], []) as workers:
        answers = measure.in_turns(workers, [{"number": 5}, {"number": 2}])
        assert answers == {"a": [2, 5], "b": [2, 5]}
        with pytest.raises(RuntimeError, match="b ended with code 1"):
            workers["b"].ask(number=0)


def test_sentences_have_the_lengths_asked_for():
    from benchmarks import updates

    sentences = updates.make_sentences([3, 9, 1], vocabulary=50, max_length=16)
    assert sentences.token_ids.row_lengths().numpy().tolist() == [3, 9, 1]
    assert len(sentences) == 3


@each_albert_case
def test_peer_makes_the_passes_of_freelb(case):
    torch = pytest.importorskip("torch")
    from benchmarks import torch_peers
    from tests import torch_reference

    ids, mask, segments, labels = checkpoints.inputs(case)
    segments = np.zeros_like(segments)
    _, _, expected = torch_reference.freelb(
        torch_reference.load_model(case, torch.float64),
        (ids, mask, segments),
        labels,
        case.steps,
        case.step_size,
        checkpoints.initial_delta(case).astype(np.float64),
        case.max_norm,
    )
    model = torch_reference.load_model(case, torch.float64)
    inputs, labels = torch_peers.make_batch(
        ids.astype(np.int64), mask.sum(1), labels.astype(np.int64)
    )
    torch_peers.freelb_gradients(
        model,
        inputs,
        labels,
        case.steps,
        case.step_size,
        max_norm=case.max_norm,
    )
    for name, parameter in model.named_parameters():
        found, wanted = parameter.grad.numpy(), expected[name]
        if "word_embeddings" in name:
            # transformers learns nothing for the padding.
            found, wanted = found[1:], wanted[1:]
        np.testing.assert_allclose(
            found, wanted, rtol=1e-6, atol=1e-9, err_msg=name
        )


@pytest.fixture
def both_models(tmp_path):
    """One small ALBERT classifier, ours and the peer's, and a batch."""
    pytest.importorskip("torch")
    from tests import torch_reference

    case = next(
        case
        for case in checkpoints.ENCODER_CASES
        if case.family == "albert" and case.num_labels == 2
    )
    tensors = checkpoints.random_tensors(case)
    folder = checkpoints.write_checkpoint(tmp_path, case.config, tensors)
    classifier = tfadv.AdversarialClassifier(
        tfadv.Encoder.from_pretrained(folder), 2
    )
    classifier.head.kernel.assign(tensors["classifier.weight"].T)
    classifier.head.bias.assign(tensors["classifier.bias"])
    return classifier, torch_reference.load_model(case), case


def test_peer_attacks_as_ours_does(both_models):
    from benchmarks import torch_peers

    classifier, model, case = both_models
    ids, mask, segments, labels = checkpoints.inputs(case)
    x = {
        "token_ids": ids,
        "padding_mask": mask,
        "segment_ids": np.zeros_like(segments),
    }
    inputs, torch_labels = torch_peers.make_batch(
        ids.astype(np.int64), mask.sum(1), labels.astype(np.int64)
    )
    epsilon, steps = 0.05, 3
    delta, fooled = torch_peers.pgd(model, inputs, torch_labels, epsilon, steps)
    # In a small ball every step climbs: the strongest point is the last one.
    found = tfadv.pgd_attack(classifier, x, labels, epsilon, steps=steps)
    np.testing.assert_allclose(found.delta, delta, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(found.fooled, fooled.numpy())


def test_peer_reconstructs_as_ours_does(both_models):
    import torch

    from benchmarks import torch_peers

    classifier, model, case = both_models
    objective = tfadv.ReconstructionObjective([0, 2, 3])
    objective.attach(classifier.encoder)
    torch_peers.add_reconstruction_head(model)
    head = model.predictions
    arrays = objective.head_variables()
    for name, parameter in (
        ("bias", head.dense.bias),
        ("gamma", head.LayerNorm.weight),
        ("beta", head.LayerNorm.bias),
        ("vocabulary_bias", head.bias),
    ):
        arrays[name].assign(parameter.detach().numpy())
    arrays["kernel"].assign(head.dense.weight.detach().numpy().T)
    rng = np.random.default_rng(0)
    ids = rng.integers(4, case.config["vocab_size"], [2, 5])
    # As many words in each text: then the means of both kinds are one.
    ids[:, [0, 4]] = [2, 3]
    hidden = rng.normal(size=[2, 5, case.config["hidden_size"]])
    hidden = hidden.astype(np.float32)
    x = {
        "token_ids": tf.constant(ids, tf.int32),
        "padding_mask": tf.ones([2, 5], tf.int32),
    }
    ours = objective.loss(x, None, None, {"sequence_output": hidden})
    with torch.no_grad():
        peer = torch_peers.reconstruction_loss(
            model, torch.from_numpy(ids), torch.from_numpy(hidden)
        )
    assert float(ours) == pytest.approx(peer.item(), rel=1e-5)


def test_peer_contrasts_as_ours_does():
    torch = pytest.importorskip("torch")
    from benchmarks import torch_peers

    rng = np.random.default_rng(0)
    labels = np.array([0, 1] * 6)
    clean, adversarial = rng.normal(size=[2, 12, 8]).astype(np.float32)
    clean /= np.linalg.norm(clean, axis=1, keepdims=True)
    adversarial /= np.linalg.norm(adversarial, axis=1, keepdims=True)
    index = np.array([3, 4, 8])
    objective = tfadv.ContrastiveObjective(labels, num_negatives=None)
    objective.attach(types.SimpleNamespace(hidden_dim=8))
    objective.bank.write(np.arange(12), clean, adversarial)
    # Their rows are the batch itself: the peer takes the positive from there.
    ours = objective.loss(
        {"index": tf.constant(index)},
        labels[index],
        {"pooled_output": tf.constant(clean[index])},
        {"pooled_output": tf.constant(adversarial[index])},
    )
    memory = torch_peers.Memory(
        labels, torch.from_numpy(clean), torch.from_numpy(adversarial), 6
    )
    peer = memory.loss(
        torch.from_numpy(clean[index]),
        torch.from_numpy(adversarial[index]),
        torch.from_numpy(index),
    )
    assert float(ours) == pytest.approx(peer.item(), rel=1e-4)


def test_peer_trains_by_every_method():
    pytest.importorskip("torch")
    from benchmarks import torch_peers

    options = types.SimpleNamespace(
        encoder="tiny",
        steps=2,
        gamma=0.1,
        batch=3,
        tokens=5,
        examples=20,
        negatives=4,
    )
    for name in ("plain", "FreeLB", "CARL", "RAR"):
        torch_peers.make_update(name, options)()
    torch_peers.make_part("CARL", options)()
