"""What RAR's head reads in attacked embeddings, as lines and as counts."""

import dataclasses
import shutil
import types

import numpy as np
import pytest

import tfadv
from tests import tiny_run
from tfadv import files, progress
from tfadv.data import loading
from tfadv.data.settings import DataSettings
from tfadv.datasets.examples import Examples
from tfadv.errors import InputError
from tfadv.robustness import text_adversary
from tfadv.runs import run_folder

TEST = tiny_run.dataset().test
SETTINGS = {"epsilon": 2.0, "steps": 3}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that classifies, and copies, without a mistake."""
    folder = tmp_path_factory.mktemp("text_adversary")
    (folder / "encoder").mkdir()
    settings = tiny_run.settings(
        tiny_run.encoder_folder(folder / "encoder"),
        method="rar",
        adversary=tfadv.FreeLB(steps=1, init_magnitude=0.1),
        max_length=16,
        epochs=15,
        batch_size=8,
        learning_rate=0.008,
    )
    # Without a dev split the last epoch counts.
    results = tfadv.train(tiny_run.dataset(dev=0), settings, folder / "rar")
    assert results["test_accuracy"] == 1.0
    return tfadv.load(folder / "rar")


@pytest.fixture(scope="module")
def victim(run):
    """Another run: it reads six words of a text, not fourteen."""
    folder = run.folder.with_name("victim")
    shutil.copytree(run.folder, folder)
    settings = tiny_run.changed(run.record.settings, max_length=8)
    record = dataclasses.replace(run.record, settings=settings)
    files.write_json(folder / run_folder.RECORD, record.to_dict())
    return tfadv.load(folder)


@pytest.fixture(scope="module")
def found(run, victim):
    """The test split's lines and their summary."""
    return text_adversary.reconstruct(run, TEST, victim=victim, **SETTINGS)


@pytest.fixture(scope="module")
def lines(found):
    return found[0]


@pytest.fixture
def no_attack(run, monkeypatch):
    """Leaves the embeddings clean, which is faster."""

    def clean(classifier, x, y, epsilon, **settings):
        return types.SimpleNamespace(delta=0.0)

    monkeypatch.setattr(text_adversary, "pgd_attack", clean)


def predicted(run, texts):
    probabilities = run.predict_proba(texts)
    return [run.label_names[i] for i in np.argmax(probabilities, axis=1)]


def column(lines, name):
    return [line[name] for line in lines]


def flips(lines, name):
    return [
        line["index"]
        for line in lines
        if line[f"{name}_before"] == line["label"]
        and line[f"{name}_after"] != line["label"]
    ]


def test_there_is_a_line_an_example_in_order(lines):
    assert column(lines, "index") == list(range(24))
    assert column(lines, "original") == TEST.texts
    assert column(lines, "label") == [("bad", "good")[i] for i in TEST.labels]
    for line in lines:
        assert set(line) == {
            "index",
            "original",
            "reconstruction",
            "label",
            "prediction_before",
            "prediction_after",
            "changed",
            "victim_before",
            "victim_after",
        }


def test_changes_turn_the_original_into_the_reconstruction(run, lines):
    changes = 0
    for line in lines:
        ids = run.tokenizer.tokenize([line["original"]])[0].numpy()
        tokens = run.tokenizer.ids_to_tokens(ids)
        for change in line["changed"]:
            assert set(change) == {"position", "from", "to"}
            assert tokens[change["position"]] == change["from"]
            assert change["to"] != change["from"]
            # Neither [CLS] and [SEP] change, nor does a word become one.
            assert {change["from"], change["to"]} <= set(tiny_run.WORDS)
            tokens[change["position"]] = change["to"]
        positions = column(line["changed"], "position")
        assert positions == sorted(set(positions))
        ids = [tiny_run.PIECES.index(token) for token in tokens]
        assert run.tokenizer.detokenize(ids) == line["reconstruction"]
        changes += len(positions)
    assert changes > 0


def test_predictions_are_those_on_the_texts(run, victim, lines):
    for opened, name in ((run, "prediction"), (victim, "victim")):
        for when, text in (
            ("before", "original"),
            ("after", "reconstruction"),
        ):
            assert column(lines, f"{name}_{when}") == predicted(
                opened, column(lines, text)
            )


def test_the_summary_counts_the_lines(found):
    lines, summary = found
    changed = np.mean([len(line["changed"]) for line in lines])
    assert summary == text_adversary.Summary(
        examples=24,
        blank=0,
        changed_tokens=pytest.approx(changed),
        flipped=len(flips(lines, "prediction")),
        victim_flipped=len(flips(lines, "victim")),
    )
    assert 0 < summary.victim_flipped < summary.flipped < 24
    assert str(summary) == (
        f"{summary.flipped} of 24 predictions flip from right to wrong; "
        f"{changed:.2f} tokens changed on average; "
        f"{summary.victim_flipped} flip on the other run"
    )


def test_without_an_attack_the_head_copies_what_it_knows(run):
    long = " ".join(["good", *["plot", "film"] * 10])
    texts = [*TEST.texts, "Good, the FILM", long]
    labels = np.append(TEST.labels, [1, 1]).astype(np.int32)
    lines, summary = text_adversary.reconstruct(
        run, Examples(texts, labels), epsilon=0.0, steps=1
    )
    reconstructions = column(lines, "reconstruction")
    assert reconstructions[:24] == TEST.texts
    # The comma is unknown, and stays so; 14 words fit into 16 tokens.
    assert reconstructions[24] == "good [UNK] the film"
    assert reconstructions[25] == " ".join(long.split()[:14])
    assert not any(column(lines, "changed"))
    assert column(lines, "prediction_before") == predicted(run, texts)
    assert summary.changed_tokens == summary.flipped == 0


def test_batches_do_not_change_the_lines(run, lines):
    others, summary = text_adversary.reconstruct(
        run, TEST, batch_size=7, **SETTINGS
    )
    # Without a victim there is nothing of it.
    assert summary.victim_flipped is None
    assert "other run" not in str(summary)
    assert others == [
        {k: v for k, v in line.items() if not k.startswith("victim")}
        for line in lines
    ]


def test_progress_is_shown(run, no_attack, monkeypatch, caplog):
    """A line now and then, so that a log shows life."""
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    caplog.set_level("INFO", "tfadv")
    text_adversary.reconstruct(run, TEST, epsilon=0.1, batch_size=7)
    lines = [m for m in caplog.messages if m.startswith("attacking")]
    assert len(lines) == 4
    assert "24" not in lines[0]


def test_blank_reconstructions_are_left_out_and_counted(
    run, no_attack, monkeypatch
):
    texts = ["", "bad film", "good film", " \n", "bad"]
    left_texts = [texts[i] for i in (1, 2, 4)]
    some = Examples(TEST.texts[:5], TEST.labels[:5])
    read = iter(texts)
    monkeypatch.setattr(run.tokenizer, "detokenize", lambda ids: next(read))
    lines, summary = text_adversary.reconstruct(run, some, epsilon=0.1)
    assert column(lines, "index") == [1, 2, 4]
    assert column(lines, "original") == [some.texts[i] for i in (1, 2, 4)]
    assert column(lines, "reconstruction") == left_texts
    assert column(lines, "prediction_after") == predicted(run, left_texts)
    assert (summary.examples, summary.blank) == (3, 2)
    assert summary.flipped == len(flips(lines, "prediction"))
    assert str(summary).endswith("; 2 blank reconstructions left out")


def test_only_what_was_right_before_can_flip(run, no_attack, monkeypatch):
    labels = TEST.labels[:3].copy()
    labels[2] = 1 - labels[2]
    # Right and then wrong, right and right, wrong and then right.
    names = ("bad", "good")
    read = iter([names[1 - labels[0]], TEST.texts[1], names[labels[2]]])
    monkeypatch.setattr(run.tokenizer, "detokenize", lambda ids: next(read))
    lines, summary = text_adversary.reconstruct(
        run, Examples(TEST.texts[:3], labels), epsilon=0.1
    )
    right = [
        [line[f"prediction_{when}"] == line["label"] for line in lines]
        for when in ("before", "after")
    ]
    assert right == [[True, True, False], [False, True, True]]
    assert summary.flipped == 1


def test_nothing_but_blanks_gives_no_line(run, victim, no_attack, monkeypatch):
    monkeypatch.setattr(run.tokenizer, "detokenize", lambda ids: " ")
    some = Examples(TEST.texts[:2], TEST.labels[:2])
    lines, summary = text_adversary.reconstruct(
        run, some, epsilon=0.1, victim=victim
    )
    assert lines == []
    assert summary == text_adversary.Summary(0, 2, 0.0, 0, 0)


def test_a_run_without_a_head_is_refused(run):
    baseline = dataclasses.replace(
        run,
        classifier=tfadv.AdversarialClassifier(run.classifier.encoder, 2),
    )
    with pytest.raises(InputError) as caught:
        text_adversary.reconstruct(baseline, TEST, epsilon=0.1)
    assert caught.value.code == "no-reconstruction-head"


def test_settings_reach_the_attack(run):
    with pytest.raises(InputError) as caught:
        text_adversary.reconstruct(run, TEST, epsilon=0.1, norm="l1")
    assert caught.value.argument == "norm"


def test_written_lines_can_be_trained_on(lines, tmp_path):
    train_file = tiny_run.write_csv(
        tmp_path / "train.csv", tiny_run.dataset().train
    )
    files.write_lines(tmp_path / run_folder.ADVERSARIES, lines)
    settings = DataSettings(
        train_file=str(train_file),
        augment_file=str(tmp_path / run_folder.ADVERSARIES),
    )
    augmented = loading.load_data(settings).train
    original = tiny_run.dataset().train
    assert augmented.texts == original.texts + column(lines, "reconstruction")
    np.testing.assert_array_equal(
        augmented.labels, np.concatenate([original.labels, TEST.labels])
    )
    assert augmented.labels.dtype == np.int32
