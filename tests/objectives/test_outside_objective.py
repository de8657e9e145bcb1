"""An objective from outside the package does what the built-in ones do.

`tests.outside_method` is the whole of it.
"""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfadv
from tests import outside_method, tiny_run
from tfadv.data import batching
from tfadv.fields import flags_of
from tfadv.objectives import registry
from tfadv.text.tokenizer import Tokenizer

EXAMPLES = 17  # batches of 8, 8 and 1
TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_run.encoder_folder(tmp_path_factory.mktemp("encoder"))


def trained(folder, slices=1, steps=6):
    """Trains on whole batches or in slices, without dropout."""
    keras.utils.set_random_seed(3)
    encoder = tfadv.Encoder.from_pretrained(folder, dropout=0.0)
    settings = outside_method.StabilitySettings(weight=0.7, scale=0.5)
    context = registry.Context(
        labels=None,
        special_ids=[0, 1, 2, 3, 4],
        hidden_dim=encoder.hidden_dim,
        embedding_dim=encoder.token_embedding.output_dim,
        vocabulary_size=encoder.token_embedding.input_dim,
    )
    objective = registry.build("stability", settings, context)
    classifier = tfadv.AdversarialClassifier(
        encoder,
        2,
        tfadv.FreeLB(steps=2, step_size=0.5),
        [objective],
        dropout=0.0,
        accumulation_steps=slices,
    )
    classifier.compile(
        keras.optimizers.SGD(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    data = batching.tokenize(
        tiny_run.examples(EXAMPLES, 4), Tokenizer.from_pretrained(folder, 16)
    )
    batches = batching.training_batches(data, 8, seed=5, epochs=100)
    history = classifier.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    ).history
    return classifier, {name: values[-1] for name, values in history.items()}


def largest_gap(found, expected):
    pairs = zip(found.weights, expected.weights, strict=True)
    return max(float(np.abs(a - b).max()) for a, b in pairs)


@pytest.fixture(scope="module")
def whole(folder):
    return trained(folder)


def test_it_trains_and_its_loss_is_reported(whole):
    classifier, history = whole
    [objective] = classifier.objectives
    assert (objective.name, objective.weight, objective.scale) == (
        "stability",
        0.7,
        0.5,
    )
    assert history["stability_loss"] > 0
    assert history["loss"] == pytest.approx(
        history["classification_loss"] + 0.7 * history["stability_loss"]
    )
    # A gradient reaches its own weights.
    assert np.abs(objective.focus - 1.0).max() > 1e-3


def test_slices_do_what_the_batch_does(folder, whole):
    classifier, history = trained(folder, slices=3)
    assert largest_gap(classifier, whole[0]) < TOLERANCE
    assert history == pytest.approx(whole[1], abs=TOLERANCE)


def test_its_weights_are_saved_and_loaded(folder, whole, tmp_path):
    classifier, _ = whole
    classifier.save_weights(tmp_path / "x.weights.h5")
    other, _ = trained(folder, steps=1)
    assert largest_gap(other, classifier) > 1e-3
    other.load_weights(tmp_path / "x.weights.h5")
    assert largest_gap(other, classifier) == 0
    again = tfadv.AdversarialClassifier.from_config(classifier.get_config())
    assert again.objectives[0].get_config() == (
        classifier.objectives[0].get_config()
    )


def test_two_replicas_do_what_one_does():
    called = subprocess.run(
        [sys.executable, "-m", __spec__.name],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert called.returncode == 0, called.stderr[-3000:]
    found = json.loads(called.stdout.splitlines()[-1])
    assert found["weights"] < TOLERANCE
    assert found["metrics"] < TOLERANCE


# The registry


def test_it_is_registered_with_its_settings_and_flags():
    assert "stability" in registry.names()
    assert registry.objective_class("stability") is outside_method.Stability
    settings = registry.settings_of("stability")
    assert [flag for flag, _, _ in flags_of(settings).values()] == [
        "stability_weight",
        "stability_scale",
    ]
    assert settings.from_dict({"scale": 2}).to_dict() == {
        "weight": 0.5,
        "scale": 2.0,
    }
    assert settings().first_step(10, 10) == 0


def test_two_objectives_cannot_have_one_name():
    class Another(tfadv.Objective):
        settings = outside_method.StabilitySettings

    with pytest.raises(tfadv.InputError) as error:
        tfadv.register_objective("stability", Another)
    assert error.value.code == "objective-exists"
    # The same one twice, as when its module is imported again, is no clash.
    tfadv.register_objective("stability", outside_method.Stability)


def test_an_objective_without_settings_is_refused():
    class Bare(tfadv.Objective):
        pass

    with pytest.raises(tfadv.InputError) as error:
        tfadv.register_objective("bare", Bare)
    assert error.value.code == "no-settings"
    assert "bare" not in registry.names()


@pytest.mark.parametrize("name", ["", "Stability", "my-loss", "1st"])
def test_a_name_must_be_one(name):
    with pytest.raises(tfadv.InputError) as error:
        tfadv.register_objective(name, outside_method.Stability)
    assert error.value.code == "not-a-name"


def test_an_unknown_objective_is_told():
    with pytest.raises(tfadv.InputError) as error:
        registry.settings_of("nobody")
    assert error.value.code == "unknown-objective"


def main():
    """Compares two logical devices with one; prints the gaps as JSON."""
    import pathlib
    import tempfile

    from tfadv import replicas

    [cpu] = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()]
    tf.config.set_logical_device_configuration(cpu, logical * 2)
    with tempfile.TemporaryDirectory() as folder:
        folder = tiny_run.encoder_folder(pathlib.Path(folder))
        expected, history = trained(folder)
        with replicas.strategy("mirrored").scope():
            found, other = trained(folder)
    gaps = [abs(value - history[name]) for name, value in other.items()]
    print(
        json.dumps(
            {"weights": largest_gap(found, expected), "metrics": max(gaps)}
        )
    )


if __name__ == "__main__":
    main()
