"""The card of a run: what its files say, and nothing that breaks it."""

import json
import re
import subprocess
import sys

import pytest

import tfadv
from tfadv.errors import InputError
from tfadv.export.model_card import model_card

DESCRIPTION = {
    "format": 2,
    "method": "carl_rar",
    "encoder": "albert/albert-base-v2",
    "dataset": "yelp",
    "label_names": ["bad", "good"],
    "max_length": 64,
    "perturb_at": "word_embeddings",
    "precision": "float32",
    "adversary": {
        "steps": 3,
        "step_size": 0.05,
        "init_magnitude": 0.2,
        "max_norm": 0.0,
        "warmup_steps": 10,
    },
    "objectives": {
        "contrastive": {
            "loss": "nce",
            "weight": 1.0,
            "num_negatives": None,
            "start_step": None,
            "start_epoch": 1.0,
        },
        "reconstruction": {"weight": 0.1, "special_ids": [0, 1]},
    },
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
FLAGS = """\
--batch_size=16
--dataset=yelp
--learning_rate=5e-05
--learning_rate_schedule=constant
--epochs=2
--warmup_proportion=0.1
"""


@pytest.fixture
def folder(tmp_path):
    """Writes a run's folder by hand; returns it."""

    def write(description=(), results=(), **others):
        files = {
            "run": {**DESCRIPTION, **dict(description)},
            "results": {**RESULTS, **dict(results)},
            **others,
        }
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / "flags.cfg").write_text(FLAGS)
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
    return found[:-1]


def test_a_card_tells_what_the_files_say(folder):
    card = model_card(folder(robustness=ROBUSTNESS, evaluation=EVALUATION))
    data, settings, accuracy, attacked = tables(card)
    assert ["dataset", "yelp"] in data
    assert ["training examples", "12,000"] in data
    assert ["classes", "bad, good"] in data
    for row in (
        ["encoder", "albert/albert-base-v2"],
        ["max length", "64"],
        ["adversary: steps", "3"],
        ["adversary: max norm", "no limit"],
        ["CARL: num negatives", "all"],
        ["CARL: start epoch", "1.0"],
        ["RAR: weight", "0.1"],
        ["optimizer: learning rate", "5e-05"],
        ["run: seed", "7"],
    ):
        assert row in settings
    names = [name for name, _ in settings]
    assert "CARL: start step" not in names
    # A constant rate has no warm-up.
    assert "optimizer: warmup proportion" not in names
    assert accuracy[2:] == [["dev", "81.2 %"], ["test", "79.0 %"]]
    assert attacked[2:] == [
        ["none", "78.5 %", "77.0 % to 80.0 %"],
        ["PGD, epsilon 0.1", "60.0 %", "58.0 % to 62.0 %"],
        ["PGD, epsilon 0.25", "30.0 %", "28.0 % to 32.0 %"],
        ["HotFlip, 2 words", "50.0 %", "40.0 % to 60.0 %"],
    ]
    for part in (
        "Method: **carl_rar**",
        "CARL",
        "the dev split of reviews.csv, 1,000 examples: 75.0 %",
        "1,500 examples of the test split of test.csv",
        "first 64 tokens",
        "python -m tools.train --flagfile=flags.cfg",
        f"Written by tfadv {tfadv.__version__}.",
    ):
        assert part in card
    assert "not attacked" not in card
    # Paths are of one machine.
    assert "/home" not in card
    assert str(folder()) not in card


def test_the_front_matter(folder):
    card = model_card(folder())
    _, front, _ = card.split("---\n", 2)
    assert card.startswith("---\n")
    assert front == (
        "library_name: tfadv\n"
        "pipeline_tag: text-classification\n"
        "tags:\n"
        "- text-classification\n"
        "- tensorflow\n"
        "- keras\n"
        "- tfadv\n"
        "- adversarial-training\n"
        "- freelb\n"
        "- carl\n"
        "- rar\n"
        "metrics:\n"
        "- accuracy\n"
    )
    card = model_card(folder(), library_name="transformers")
    assert "\nlibrary_name: transformers\n" in card


def test_a_plain_run_that_was_not_attacked(folder):
    path = folder(
        {"method": "baseline", "adversary": None, "objectives": {}},
        {"dev_accuracy": None, "test_accuracy": None},
    )
    card = model_card(path)
    assert "without an adversary" in card
    assert "adversarial-training" not in card
    assert "neither a dev nor a test split" in card
    assert "not attacked yet" in card
    assert "python -m tools.attack --run_dir=RUN_DIR" in card
    assert len(tables(card)) == 2


def test_a_run_of_the_library_has_no_flags(folder):
    path = folder()
    (path / "flags.cfg").unlink()
    settings = tables(model_card(path))[1]
    assert ["adversary: step size", "0.05"] in settings
    assert not any(name.startswith("optimizer") for name, _ in settings)


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
    card = model_card(
        folder(
            {
                "label_names": NASTY,
                "dataset": " ".join(NASTY),
                "encoder": "/home/someone/a|b\nc",
                "method": NASTY[3],
            },
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
    assert ["encoder", "a&#124;b c"] in found[1]
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
    with pytest.raises(InputError, match=name):
        model_card(path)


@pytest.mark.parametrize("adversary", ["strong", ["strong"]])
def test_a_broken_description_is_named(folder, adversary):
    with pytest.raises(InputError, match=r"run\.json"):
        model_card(folder({"adversary": adversary}))


def test_folders_that_are_no_whole_run(folder, tmp_path):
    with pytest.raises(InputError, match="not the folder of a run"):
        model_card(tmp_path)
    path = folder()
    (path / "results.json").unlink()
    with pytest.raises(InputError, match="not whole"):
        model_card(path)


def test_no_tensorflow_is_needed(folder):
    code = (
        "import sys\n"
        "from tfadv.model_card import model_card\n"
        "model_card(sys.argv[1])\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    called = subprocess.run([sys.executable, "-c", code, folder()])
    assert called.returncode == 0
