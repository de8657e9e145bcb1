"""The card of a run: what its files say, and nothing that breaks it."""

import dataclasses
import json
import re
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

import tfadv
from tests import tiny_run
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.export.model_card import model_card
from tfadv.objectives.settings import ContrastiveSettings
from tfadv.runs import methods
from tfadv.runs.record import Record

SETTINGS = {
    "method": "carl_rar",
    "encoder": "albert/albert-base-v2",
    "max_length": 64,
    "adversary": tfadv.FreeLB(3, 0.05, 0.2, 0.0),
    "epochs": 2,
    "seed": 7,
    "objectives": {"contrastive": ContrastiveSettings(num_negatives=None)},
}
RESULTS = {
    "method": "carl_rar",
    "dev_accuracy": 0.8125,
    "test_accuracy": 0.79,
    "num_parameters": 1234,
    "train_examples": 12000,
    "seed": 7,
    "best_epoch": 2,
    "steps": 750,
}
ROBUSTNESS = {
    "dataset": "/home/someone/test.csv",
    "split": "test",
    "examples": 1500,
    "attack": {"steps": 10, "step_size": None, "norm": "l2", "restarts": 1},
    "clean": {"accuracy": 0.785, "accuracy_interval": [0.77, 0.8]},
    "epsilons": [
        {"epsilon": 0.1, "accuracy": 0.6, "accuracy_interval": [0.58, 0.62]},
        {"epsilon": 0.25, "accuracy": 0.3, "accuracy_interval": [0.28, 0.32]},
    ],
    "hotflip": {
        "max_flips": 2,
        "accuracy": 0.5,
        "accuracy_interval": [0.4, 0.6],
    },
}
EVALUATION = {
    "dataset": "reviews.csv",
    "split": "dev",
    "accuracy": 0.75,
    "examples": 1000,
}


def make_record(label_names=("bad", "good"), **changes):
    """The record of a run on Yelp, of whose settings some are changed."""
    return Record(
        settings=tiny_run.settings(**{**SETTINGS, **changes}),
        dataset="yelp",
        label_names=tuple(label_names),
        data=DataSettings(dataset="yelp"),
        special_ids=(0, 1),
        warmup_steps=10,
    )


@pytest.fixture
def folder(tmp_path):
    """Writes a run's folder by hand; returns it."""

    def write(record=None, results=(), **others):
        contents = {
            "settings": (record or make_record()).to_dict(),
            "results": {**RESULTS, **dict(results)},
            **others,
        }
        for name, content in contents.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        return tmp_path

    return write


def tables(card):
    """Lists the tables: lists of rows, which are lists of cells."""
    found = [[]]
    for line in card.split("\n"):
        if line.startswith("|"):
            found[-1].append(line.strip("| ").split(" | "))
        elif found[-1]:
            found.append([])
    # A cell is padded to the width of its column.
    return [
        [[cell.strip() for cell in row] for row in table]
        for table in found[:-1]
    ]


def test_a_card_tells_what_the_files_say(folder):
    card = model_card(folder(robustness=ROBUSTNESS, evaluation=EVALUATION))
    data, settings, accuracy, attacked = tables(card)
    assert ["dataset", "yelp"] in data
    assert ["training examples", "12,000"] in data
    assert ["classes", "bad, good"] in data
    for row in (
        ["encoder.name", "albert/albert-base-v2"],
        ["encoder.max_length", "64"],
        ["adversary.steps", "3"],
        ["adversary.max_norm", "no limit"],
        ["adversary.warmup_steps", "10"],
        ["objectives.contrastive.num_negatives", "all"],
        ["objectives.contrastive.start_epoch", "1.0"],
        ["objectives.reconstruction.weight", "0.1"],
        ["optimization.learning_rate", "5e-05"],
        ["optimization.epochs", "2"],
        ["optimization.seed", "7"],
        ["best epoch", "2"],
        ["parameters", "1,234"],
        ["updates", "750"],
    ):
        assert row in settings
    names = [name for name, _ in settings]
    assert "objectives.contrastive.start_step" not in names
    # A constant rate has no warm-up.
    assert "optimization.warmup_proportion" not in names
    assert accuracy[2:] == [["dev", "81.2 %"], ["test", "79.0 %"]]
    assert attacked[2:] == [
        ["none", "78.5 %", "77.0 % to 80.0 %"],
        ["PGD, epsilon 0.1", "60.0 %", "58.0 % to 62.0 %"],
        ["PGD, epsilon 0.25", "30.0 %", "28.0 % to 32.0 %"],
        ["HotFlip, 2 words", "50.0 %", "40.0 % to 60.0 %"],
    ]
    for part in (
        "Method: **CARL + RAR** (carl_rar)",
        "the dev split of reviews.csv, 1,000 examples: 75.0 %",
        "1,500 examples of the test split of test.csv",
        "first 64 tokens",
        "python -m tools.train --flagfile=flags.cfg",
        f"written by tfadv {tfadv.__version__}.",
    ):
        assert part in card
    assert "not attacked" not in card
    assert "{" not in card
    # Paths are of one machine.
    assert "/home" not in card
    assert str(folder()) not in card


def test_the_front_matter(folder):
    found = ModelCard(model_card(folder())).data.to_dict()
    assert found == {
        "library_name": "tfadv",
        "metrics": ["accuracy"],
        "pipeline_tag": "text-classification",
        "tags": [
            "text-classification",
            "tensorflow",
            "keras",
            "tfadv",
            "adversarial-training",
            "freelb",
            "carl_rar",
        ],
    }
    card = model_card(folder(), library_name="transformers")
    assert ModelCard(card).data.library_name == "transformers"


def test_a_plain_run_that_was_not_attacked(folder):
    path = folder(
        make_record(method="baseline", objectives={}),
        {"dev_accuracy": None, "test_accuracy": None},
    )
    card = model_card(path)
    assert "without an adversary" in card
    assert "adversarial-training" not in card
    assert "adversary." not in " ".join(n for n, _ in tables(card)[1])
    assert "neither a dev nor a test split" in card
    assert "best on the dev split" not in card
    assert "not attacked yet" in card
    assert "python -m tools.attack --run_dir=RUN_DIR" in card
    assert len(tables(card)) == 2


def test_a_run_made_in_python_has_a_whole_card(folder, monkeypatch):
    record = dataclasses.replace(make_record(), data=None)
    card = model_card(folder(record))
    assert tables(card)[:2] == tables(model_card(folder()))[:2]
    assert "--flagfile" not in card
    [code] = re.findall("```python\n(.+?)```", card, re.DOTALL)
    calls = []
    monkeypatch.setattr(
        tfadv, "train", lambda *args: calls.append(args), raising=False
    )
    exec(code.replace("RUN_DIR", str(folder(record))), {"dataset": "texts"})
    assert [call[:2] for call in calls] == [("texts", record.settings)]


def test_a_method_from_outside_has_the_words_of_its_entry(folder, monkeypatch):
    monkeypatch.setattr(methods, "_METHODS", methods.registered())
    tfadv.register_method(
        tfadv.Method("still", "Stillness", "FreeLB, and *nothing* moves")
    )
    card = model_card(folder(make_record(method="still", objectives={})))
    words = "**Stillness** (still): FreeLB, and \\*nothing\\* moves."
    assert words in card
    assert "still" in ModelCard(card).data.tags


NASTY = [
    "a|b",
    "c\\|d",
    "e\\",
    "line\n\n| one |\n# two\u2028\u0085three",
    "<script>&amp;</script>",
    "**bold** _it_ a__b `code` ~~x~~ $y$",
    "![x](http://x/y.png) [z](javascript:w)",
    "\ud800\x00\u0007half",
    "---",
]


def test_names_are_no_markup(folder):
    record = make_record(NASTY, encoder="/home/someone/a|b\nc")
    record = dataclasses.replace(
        record, dataset=" ".join(NASTY), version=NASTY[3]
    )
    card = model_card(
        folder(
            record,
            robustness={**ROBUSTNESS, "dataset": NASTY[3], "split": "a|b"},
            evaluation={**EVALUATION, "dataset": NASTY[3], "split": "a\n|b"},
        )
    )
    card.encode()
    found = tables(card)
    assert len(found) == 4
    for table in found:
        assert len({len(row) for row in table}) == 1
        assert not any(
            re.search(r"(?<!\\)\||[<>]", cell) for row in table for cell in row
        )
    assert sum(line.startswith("#") for line in card.split("\n")) == 7
    assert card.split("\n").count("---") == 2
    assert ["encoder.name", "a&#124;b c"] in found[1]
    names = found[0][4][1]
    for part in (
        "a&#124;b",
        "c\\\\&#124;d",
        "e\\\\,",
        "&lt;script&gt;&amp;amp;&lt;/script&gt;",
        "\\*\\*bold\\*\\* \\_it\\_ a\\_\\_b \\`code\\` \\~\\~x\\~\\~ \\$y\\$",
        "!\\[x\\](http://x/y.png)",
        "half",
    ):
        assert part in names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("results.json", "{"),
        ("results.json", "[]"),
        ("results.json", '{"train_examples": "many"}'),
        ("robustness.json", "null"),
        ("robustness.json", '{"clean": {}}'),
        ("evaluation.json", '{"split": 1}'),
        ("evaluation.json", "[" * 100_000),
    ],
)
def test_a_broken_file_is_named(folder, name, content):
    path = folder()
    (path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        model_card(path)
    assert caught.value.code in ("bad-json", "odd-form")
    assert name in str(caught.value)


def test_a_broken_record_is_named(folder):
    path = folder()
    (path / "settings.json").write_text('{"format": 3, "settings": "strong"}')
    with pytest.raises(InputError) as caught:
        model_card(path)
    assert caught.value.code == "bad-record"


def test_folders_that_are_no_whole_run(folder, tmp_path):
    with pytest.raises(InputError) as caught:
        model_card(tmp_path)
    assert caught.value.code == "no-run"
    path = folder()
    (path / "results.json").unlink()
    with pytest.raises(InputError) as caught:
        model_card(path)
    assert caught.value.code == "not-whole"


def test_no_tensorflow_is_needed(folder):
    code = (
        "import sys\n"
        "from tfadv.export.model_card import model_card\n"
        "model_card(sys.argv[1])\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    called = subprocess.run([sys.executable, "-c", code, folder()])
    assert called.returncode == 0
