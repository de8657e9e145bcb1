"""The examples of docstrings and pages run, on small stand-ins."""

import ast
import contextlib
import importlib
import pathlib
import re
import shutil

import pytest

from tests import binaries, tiny_run
from tests.test_layers import MODULES
from tfadv.errors import InputError

ROOT = pathlib.Path(__file__).parent.parent
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)

# What does not run here, and why.
NOT_RUN = {
    "tfadv.datasets.split_ids.describe": "the dataset comes from the network",
    "tfadv.datasets.tfds_datasets.load": "the dataset comes from the network",
    "tfadv.datasets.yahoo_answers.YahooAnswers": "so does this one",
    "README.md 3": "needs TextAttack; robustness/test_textattack.py runs it",
}
SLOW = {
    "tfadv.training.loop.train",
    "tfadv.tuning.search.search",
}


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
    """What examples find: an encoder, runs, an exported checkpoint."""
    folder = tmp_path_factory.mktemp("examples")
    tiny_run.write_all(folder)
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
    from tfadv.sources import pip_archives

    monkeypatch.setattr(
        pip_archives, "encoder_folder", lambda name: folder / "encoder"
    )
    monkeypatch.setattr(movie_reviews, "load", tiny_run.dataset)
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
    """Functions that make what an example takes for granted."""
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

    return {
        "batches": lambda: batching.training_batches(train(), 32, 1).take(2),
        "batching": lambda: batching,
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
        "pathlib": lambda: pathlib,
        "run": lambda: tfadv.load("runs/freelb"),
        "tf": lambda: tf,
        "tfadv": lambda: tfadv,
        "tokenizer": tokenizer,
        "train": train,
    }


def run(name, place):
    """Runs an example among the names of its module, and of the stand-ins."""
    code = EXAMPLES[name]
    namespace = {"__name__": "example"}
    used = {n.id for n in ast.walk(ast.parse(code)) if isinstance(n, ast.Name)}
    for each, make in stand_ins(place).items():
        if each in used:
            namespace[each] = make()
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
