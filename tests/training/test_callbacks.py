"""What callbacks of training write and keep."""

import json

import numpy as np
import pytest

import tfadv
from tests import tiny_run
from tfadv.runs.run import part_to_keep
from tfadv.training import callbacks


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return str(tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder")))


def test_an_early_best_epoch_outlives_later_ones(encoder, tmp_path):
    classifier = tfadv.AdversarialClassifier(
        tfadv.Encoder.from_pretrained(encoder), num_classes=2
    )
    best = callbacks.BestWeights(tmp_path / "model.weights.h5")
    best.set_model(classifier)
    for epoch, value in enumerate([0.5, 0.9, 0.9, 0.7]):
        classifier.head.bias.assign([epoch, epoch])
        best.on_epoch_end(epoch, {"val_accuracy": value})
    part_to_keep(classifier).load_weights(best.path)
    assert classifier.head.bias.numpy().tolist() == [1.0, 1.0]
    assert (best.best_epoch, best.best_value) == (2, 0.9)


def test_a_line_per_window_of_updates(tmp_path):
    """Windows end in the middle of epochs, and go over their ends."""
    values = [float(value) for value in range(1, 26)]
    file = callbacks.UpdatesFile(tmp_path / "u.jsonl", 10, 25, lines=7)
    for update in range(25):
        first = update // 10 * 10
        epoch = values[first : update + 1]
        logs = {"loss": np.float32(np.mean(epoch))}
        if update == 12:
            # Goes on in another process.
            state = json.loads(json.dumps(file.get_state()))
            (tmp_path / "u.jsonl").write_text("of a later time")
            file = callbacks.UpdatesFile(tmp_path / "u.jsonl", 10, 25, lines=7)
            file.set_state(state)
        if update >= 13:
            # Joins in the middle of an epoch.
            since = values[max(13, first) : update + 1]
            logs["other_loss"] = np.float32(np.mean(since) / 100)
        file.on_train_batch_end(update, logs)
    lines = [json.loads(s) for s in (tmp_path / "u.jsonl").open()]
    assert [line["update"] for line in lines] == [4, 8, 12, 16, 20, 24, 25]
    assert [line["epoch"] for line in lines] == [
        update / 10 for update in (4, 8, 12, 16, 20, 24, 25)
    ]
    expected = [2.5, 6.5, 10.5, 14.5, 18.5, 22.5, 25.0]
    assert [line["loss"] for line in lines] == pytest.approx(expected)
    others = [line.get("other_loss") for line in lines]
    assert others[:3] == [None] * 3
    assert others[3:] == pytest.approx([0.15, 0.185, 0.225, 0.25])


@pytest.mark.parametrize("total", [1, 199, 200, 201, 100_003])
def test_a_run_writes_no_more_lines_than_a_picture_shows(tmp_path, total):
    file = callbacks.UpdatesFile(tmp_path / "u.jsonl", 37, total)
    for update in range(total):
        file.on_train_batch_end(update, {"loss": 1.0})
    lines = [json.loads(s) for s in (tmp_path / "u.jsonl").open()]
    assert min(total, 100) <= len(lines) <= 200
    assert lines[-1]["update"] == total
    assert {line["loss"] for line in lines} == {1.0}
