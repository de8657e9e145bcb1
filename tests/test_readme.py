"""README's words hold."""

import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_readme_leads_with_two_commands():
    [first, *_] = re.findall(r"```\n(.*?)```", README, re.DOTALL)
    assert first == "make demo\nmake test\n"
    makefile = (ROOT / "Makefile").read_text()
    for command in first.split("\n")[:-1]:
        assert f"\n{command.removeprefix('make ')}:" in makefile


def test_named_files_exist():
    for text in (README, (ROOT / "WORKSPACE.md").read_text()):
        for path in re.findall(
            r"`((?:tfadv|flags|tools|tests|benchmarks)/[\w./]+)`", text
        ):
            assert (ROOT / path).exists(), path
        for path in re.findall(r"--flagfile=(flags/\S+)", text):
            assert (ROOT / path).exists(), path


@pytest.mark.slow
def test_the_python_example_runs(minilm_folder):
    first, *_ = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names = {}
    exec(first, names)
    assert names["classifier"].predict(
        names["tokenizer"](names["texts"])
    ).shape == (2, 2)


def test_the_maps_objective_trains_and_is_reported(tiny_encoder):
    import keras
    import numpy as np

    import tfadv

    [example] = re.findall(
        r"```python\n(.*?)```", (ROOT / "WORKSPACE.md").read_text(), re.DOTALL
    )
    # It is meant to be short.
    assert len([line for line in example.split("\n") if line]) <= 10
    names = {}
    exec(example, names)
    keras.utils.set_random_seed(0)
    objective = names["Stability"](0.5, name="stability")
    classifier = tfadv.AdversarialClassifier(
        tiny_encoder(dropout=0.0), 2, tfadv.FreeLB(steps=2), [objective]
    )
    classifier.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        run_eagerly=True,
    )
    ids = np.array([[5, 6, 7], [8, 9, 10]], np.int32)
    x = {
        "token_ids": ids,
        "padding_mask": np.ones_like(ids),
        "segment_ids": np.zeros_like(ids),
    }
    history = classifier.fit(x, np.array([0, 1]), epochs=5, verbose=0).history
    assert history["stability_loss"][-1] < history["stability_loss"][0]
    np.testing.assert_allclose(
        history["loss"],
        np.add(
            history["classification_loss"],
            0.5 * np.array(history["stability_loss"]),
        ),
        rtol=1e-5,
    )
