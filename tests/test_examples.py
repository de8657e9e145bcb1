"""The examples of docstrings and pages run, on small stand-ins."""

import ast
import builtins
import contextlib
import importlib
import pathlib
import re
import runpy
import shutil
import sys

import pytest

from tests import binaries, tiny_run
from tests.test_layers import MODULES
from tfadv.errors import InputError

ROOT = pathlib.Path(__file__).parent.parent
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)

# What does not run here, and why.
NOT_RUN = {
    "tfadv.datasets.split_ids.describe": "the dataset comes from the network",
    "tfadv.datasets.split_ids.read": "needs a run on such a dataset",
    "tfadv.datasets.tfds_datasets.load": "the dataset comes from the network",
    "tfadv.datasets.yahoo_answers.YahooAnswers": "so does this one",
    "tfadv.export.frozen.split": "a step of FrozenEncoder, whose example runs",
    "tfadv.flags.generated.Flags": "defines flags of this process",
    "README.md 4": "needs TextAttack; robustness/test_textattack.py runs it",
}
SLOW = {
    "tfadv.export.comparison.compare",
    "tfadv.training.loop.train",
    "tfadv.tuning.search.search",
    "tfadv.tuning.trials.TrialTuner",
}
# Modules by the names that examples use: the last part of a dotted name.
MODULE_NAMES = {name.rpartition(".")[2]: name for name in MODULES}


def examples():
    """Maps names to code: a docstring's place, or a page and a number."""
    found = {}
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node, name in documented(tree, module):
            blocks = FENCE.findall(ast.get_docstring(node) or "")
            if blocks:
                found[name] = "\n".join(blocks)
    for page in ("README.md", "WORKSPACE.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for number, block in enumerate(FENCE.findall(text), 1):
            found[f"{page} {number}"] = block
    return found


def documented(node, name):
    """Yields modules, classes and functions, and their dotted names."""
    yield node, name
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            yield from documented(child, f"{name}.{child.name}")


EXAMPLES = examples()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What examples find: encoders, texts, runs, an exported checkpoint."""
    folder = tmp_path_factory.mktemp("examples")
    tiny_run.write_all(folder, positions=128)
    for name in ("mine", "unlabelled"):
        shutil.copy(folder / "test.csv", folder / f"{name}.csv")
    (folder / "albert-base-v2").mkdir()
    (folder / "albert-base-v2" / "spiece.model").write_bytes(
        tiny_run.sentencepiece_model(tiny_run.examples(90, 0).texts, 40)
    )
    # A method of one's own, as the docstrings write it.
    (folder / "stability.py").write_text(
        EXAMPLES["tfadv.objectives.objective.Objective"].partition(
            "tfadv.register_objective"
        )[0]
        + EXAMPLES["tfadv.runs.methods.Method"]
    )
    called = binaries.call(
        "tools.train",
        *(f"--{s}_file={folder}/{s}.csv" for s in ("train", "dev", "test")),
        f"--encoder={folder}/encoder",
        f"--output_dir={folder}/runs/freelb",
        "--method=rar",
        "--max_length=16",
        "--max_steps=2",
        "--adv_steps=1",
    )
    assert called.returncode == 0, called.stderr
    for name in ("baseline", "rar", "mine"):
        shutil.copytree(folder / "runs" / "freelb", folder / "runs" / name)
    called = binaries.call(
        "tools.export",
        f"--run_dir={folder}/runs/freelb",
        "--format=huggingface",
        f"--output_dir={folder}/exported",
    )
    assert called.returncode == 0, called.stderr
    return folder


@pytest.fixture
def place(folder, tmp_path, monkeypatch):
    """A copy of it to work in, under the names that examples use."""
    from tfadv.datasets import movie_reviews
    from tfadv.objectives import registry
    from tfadv.runs import methods
    from tfadv.sources import pip_archives

    monkeypatch.setattr(
        pip_archives, "encoder_folder", lambda name: folder / "encoder"
    )
    monkeypatch.setattr(movie_reviews, "load", tiny_run.dataset)
    # What an example registers is forgotten.
    # Other tests of this process may have registered the examples' names.
    objectives = {**registry._OBJECTIVES}
    objectives.pop("stability", None)
    monkeypatch.setattr(registry, "_OBJECTIVES", objectives)
    known = {**methods._METHODS}
    known.pop("stability", None)
    monkeypatch.setattr(methods, "_METHODS", known)
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def eagerly(request):
    """To trace a graph would take longer than to compute so little."""
    import tensorflow as tf

    # What is exported is a graph.
    tf.config.run_functions_eagerly("export" not in request.node.name)
    yield
    tf.config.run_functions_eagerly(False)


def stand_ins(place):
    """Functions that make what examples take for granted."""
    import keras
    import numpy as np
    import tensorflow as tf

    import tfadv
    from tfadv.data import batching

    def encoder():
        return tfadv.Encoder.from_pretrained("all-minilm-l6-v2")

    def tokenizer():
        return tfadv.Tokenizer.from_pretrained("all-minilm-l6-v2", 16)

    def train():
        return batching.tokenize(tiny_run.dataset().train, tokenizer())

    def loss():
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def classifier():
        made = tfadv.AdversarialClassifier(encoder(), 2, tfadv.FreeLB(steps=1))
        made.compile(keras.optimizers.Adam(), loss())
        return made

    def inputs():
        return tokenizer()(["the film is good", "bad"])

    def stability():
        names = runpy.run_path(str(place / "stability.py"))
        return names["Stability"]

    return {
        "Stability": stability,
        "batches": lambda: batching.training_batches(train(), 32, 1).take(2),
        "classifier": classifier,
        "dataset": tiny_run.dataset,
        "embeddings": lambda: encoder().embed(inputs()),
        "encoder": encoder,
        "folder": lambda: place / "encoder",
        "inputs": inputs,
        "keras": lambda: keras,
        "loss": loss,
        "np": lambda: np,
        "objective": lambda: tfadv.ContrastiveObjective(
            train().labels, num_negatives=5
        ),
        "optimizer": keras.optimizers.Adam,
        "run": lambda: tfadv.load("runs/freelb"),
        "tf": lambda: tf,
        "tfadv": lambda: tfadv,
        "tokenized": train,
        "tokenizer": tokenizer,
        "train": train,
        "x": inputs,
        "y": lambda: tf.constant([1, 0]),
    }


def run(name, place):
    """Runs an example among the names of its module, and of the stand-ins."""
    code = EXAMPLES[name]
    namespace = {"__name__": "example"}
    made = stand_ins(place)
    nodes = list(ast.walk(ast.parse(code)))
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    own = {node.name for node in nodes if isinstance(node, ast.ClassDef)}
    for each in used - own - vars(builtins).keys():
        if each in made:
            namespace[each] = made[each]()
        elif each in sys.stdlib_module_names:
            namespace[each] = importlib.import_module(each)
        elif each in MODULE_NAMES:
            namespace[each] = importlib.import_module(MODULE_NAMES[each])
    module = name
    while module and module not in MODULES:
        module = module.rpartition(".")[0]
    if module:
        namespace |= vars(importlib.import_module(module))
    raises = code.startswith("raise ")
    with pytest.raises(InputError) if raises else contextlib.nullcontext():
        exec(compile(code, name, "exec"), namespace)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else [])
        for name in EXAMPLES
        if name not in NOT_RUN
    ],
)
def test_an_example_runs(name, place):
    run(name, place)


def test_what_is_listed_is_there():
    assert {*NOT_RUN, *SLOW} <= EXAMPLES.keys()
