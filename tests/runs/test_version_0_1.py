"""A run that version 0.1 made still opens, predicts and is reported.

The run in `tests/golden/run_0_1` is a real one of that version, without its
TensorBoard logs, and `run_0_1.json` is what that version said of it.
"""

import json
import pathlib
import shutil

import numpy as np
import pytest

import tfadv
from tests import tiny_run
from tfadv.data import batching
from tfadv.errors import InputError
from tfadv.inference import evaluation
from tfadv.runs import run_folder
from tfadv.training import loop

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
FOLDER = GOLDEN / "run_0_1"
EXPECTED = json.loads((GOLDEN / "run_0_1.json").read_text())


@pytest.fixture(scope="module")
def run():
    return tfadv.load(FOLDER)


def test_its_record_tells_what_its_files_tell():
    record = run_folder.read_record(FOLDER)
    settings = record.settings
    assert record.version == "0.1"
    assert record.dataset == "train"
    assert record.label_names == ("bad", "good")
    assert record.special_ids == (0, 1, 2, 3, 4)
    assert record.warmup_steps == 48
    assert record.adversary.warmup_steps == 48
    assert settings.method == "carl_rar"
    assert settings.encoder.to_dict() == {
        "name": "encoder",
        "max_length": 16,
        "perturb_at": "word_embeddings",
        "precision": "float32",
    }
    assert settings.adversary == tfadv.FreeLB(2, 0.02, 0.01)
    assert settings.adversary_warmup_proportion == 0.25
    contrastive = settings.objectives["contrastive"]
    assert contrastive.num_negatives is None
    assert contrastive.start_step == 24
    optimization = settings.optimization
    assert optimization.epochs == 16
    assert optimization.learning_rate == 0.01
    assert optimization.deterministic
    assert optimization.seed == 1
    assert record.data.train_file == "train.csv"
    assert record.data.dataset is None


def test_it_predicts_what_it_predicted(run):
    found = run.predict_proba(EXPECTED["texts"])
    np.testing.assert_allclose(found, EXPECTED["probabilities"], atol=1e-6)
    [objective] = run.classifier.objectives
    assert objective.name == "reconstruction"
    assert objective.bias.numpy().any()


def test_it_is_evaluated_as_it_was(run):
    test = batching.tokenize(tiny_run.dataset().test, run.tokenizer)
    measured = evaluation.evaluate(run.classifier, test)
    expected = EXPECTED["evaluation"]
    assert measured["confusion"] == expected["confusion"]
    assert measured["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_report_shows_it(tmp_path):
    from tfadv.report import page

    page.write([FOLDER], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "100.0 %" in text


def test_a_run_made_in_python_has_the_seed_of_its_results(tmp_path):
    """Its flags.cfg is empty."""
    folder = shutil.copytree(FOLDER, tmp_path / "run")
    (folder / "flags.cfg").write_text("")
    record = run_folder.read_record(folder)
    assert record.data is None
    assert record.settings.optimization.seed == 1


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "run.json").write_text('{"format": 2}'),
        lambda folder: (folder / "run.json").write_text("[]"),
        lambda folder: (folder / "flags.cfg").write_text("--epochs=many\n"),
        lambda folder: (folder / "flags.cfg").write_bytes(b"--epochs=\xff"),
    ],
)
def test_a_damaged_one_is_refused(tmp_path, damage):
    folder = shutil.copytree(FOLDER, tmp_path / "run")
    damage(folder)
    with pytest.raises(InputError) as error:
        tfadv.load(folder)
    assert error.value.code == "bad-record"


def test_one_that_was_cut_off_is_not_taken_up(tmp_path):
    folder = shutil.copytree(FOLDER, tmp_path / "run")
    (folder / "results.json").unlink()
    (folder / "robustness.json").unlink()
    with pytest.raises(InputError) as error:
        loop.train(tiny_run.dataset(), tiny_run.settings(), folder)
    assert error.value.code == "another-version"
