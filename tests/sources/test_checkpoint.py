"""A checkpoint's files are read once, and by one set of names."""

import json

import numpy as np
import pytest
import safetensors.numpy
import safetensors.tensorflow
import tensorflow as tf

from tests import checkpoints, tiny_run
from tfadv import files
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.sources import families, names
from tfadv.sources.checkpoint import Checkpoint
from tfadv.sources.tensors import Tensors
from tfadv.text.tokenizer import Tokenizer


def write_config(folder, **config):
    (folder / "config.json").write_text(json.dumps(config))
    return Checkpoint(folder)


def code_of(call, *arguments):
    with pytest.raises(InputError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value.code


def test_one_checkpoint_is_read_once(tmp_path, monkeypatch):
    """By the tokenizer, the encoder and the masked-LM head together."""
    folder = tiny_run.encoder_folder(tmp_path)
    read, opened = [], []
    read_json, init = files.read_json, Tensors.__init__
    monkeypatch.setattr(
        files,
        "read_json",
        lambda path, **options: (
            read.append(path.name) or read_json(path, **options)
        ),
    )
    monkeypatch.setattr(
        Tensors,
        "__init__",
        lambda self, *arguments: opened.append(1) or init(self, *arguments),
    )
    checkpoint = names.open_checkpoint(folder)
    Tokenizer.from_pretrained(checkpoint, 8)
    Encoder.from_pretrained(checkpoint)
    assert families.masked_lm_head(checkpoint) is None
    assert read.count("config.json") == len(opened) == 1
    config = checkpoint.config
    assert checkpoint.config is config


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"model_type": "bert"}, "bert"),
        ({"model_type": "deberta-v2"}, "deberta-v2"),
        ({"class_name": "AlbertBackbone"}, "albert"),
        ({"class_name": "RobertaBackbone"}, "roberta"),
    ],
)
def test_the_family_is_named(tmp_path, config, family):
    checkpoint = write_config(tmp_path, **config)
    assert checkpoint.family == family
    assert checkpoint.is_keras_hub == ("class_name" in config)


def test_a_tokenizer_by_itself_names_its_family(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    path.write_text('{"tokenizer_class": "AlbertTokenizerFast"}')
    assert Checkpoint(tmp_path).family == "albert"


def test_a_config_without_an_architecture_is_refused(tmp_path):
    checkpoint = write_config(tmp_path, hidden_size=8)
    assert code_of(lambda: checkpoint.family) == "no-architecture"


def test_defaults_are_those_of_the_familys_class(tmp_path):
    checkpoint = write_config(tmp_path, model_type="albert", hidden_size=64)
    assert checkpoint.config.hidden_act == "gelu_new"
    assert checkpoint.config.embedding_size == 128
    assert checkpoint.config.hidden_size == 64
    assert checkpoint.config_json == {"model_type": "albert", "hidden_size": 64}


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_size": "large"},
        {"layer_norm_eps": None},
        {"hidden_act": 3},
        {"id2label": [1]},
        {"self": 1},
        {"__class__": 1},
    ],
    ids=str,
)
def test_what_transformers_refuses_is_refused_in_one_line(tmp_path, config):
    checkpoint = write_config(tmp_path, model_type="bert", **config)
    assert code_of(lambda: checkpoint.config) == "bad-config"


def test_a_number_of_labels_does_not_fill_the_memory(tmp_path):
    config = {"model_type": "bert", "num_labels": 10**12}
    assert write_config(tmp_path, **config).config.hidden_size == 768


def test_errors_name_the_argument_that_the_checkpoint_was_given_for(tmp_path):
    checkpoint = Checkpoint(tmp_path, argument="run_dir", value="runs/a")
    for call in (
        lambda: checkpoint.config_json,
        lambda: checkpoint.tensors,
        lambda: checkpoint.find("vocab.txt"),
        lambda: Encoder.from_pretrained(checkpoint),
        lambda: Tokenizer.from_pretrained(checkpoint),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert caught.value.argument == "run_dir"
        assert caught.value.value == "runs/a"


# Tensors


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions_are_read_as_float32(tmp_path, dtype):
    values = tf.cast(tf.linspace(-3.0, 3.0, 12), dtype)
    safetensors.tensorflow.save_file(
        {"a": tf.reshape(values, [3, 4])}, tmp_path / "model.safetensors"
    )
    found = Tensors(tmp_path).read("a", (3, 4))
    assert found.dtype == np.float32
    expected = tf.reshape(tf.cast(values, tf.float32), [3, 4])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "stored",
    [
        "bert.a.LayerNorm.weight",
        "bert.a.LayerNorm.gamma",
        "a.LayerNorm.weight",
        "a.LayerNorm.gamma",
    ],
)
def test_a_tensor_is_found_by_its_other_names(tmp_path, stored):
    safetensors.numpy.save_file(
        {stored: np.ones(3, np.float32)}, tmp_path / "model.safetensors"
    )
    tensors = Tensors(tmp_path, "bert")
    assert "bert.a.LayerNorm.weight" in tensors
    assert tensors.read("bert.a.LayerNorm.weight").shape == (3,)
    assert "bert.a.LayerNorm.bias" not in tensors


def test_a_tensor_that_is_missing_or_of_another_shape(tmp_path):
    safetensors.numpy.save_file(
        {"a": np.ones([3, 2], np.float32)}, tmp_path / "model.safetensors"
    )
    tensors = Tensors(tmp_path)
    assert code_of(tensors.read, "b") == "missing-tensor"
    assert code_of(tensors.read, "a", (2, 3)) == "wrong-shape"


@pytest.mark.parametrize("family", families.FAMILIES)
def test_keras_hub_reads_no_hugging_face_folder(tmp_path, family, monkeypatch):
    """Its converters ignore most of a config."""
    import keras_hub

    def refuse(*arguments, **options):
        raise AssertionError("KerasHub's reader was called")

    monkeypatch.setattr(keras_hub.models.Backbone, "from_preset", refuse)
    [case, *_] = [c for c in checkpoints.ENCODER_CASES if c.family == family]
    checkpoints.write_checkpoint(
        tmp_path, case.config, checkpoints.random_tensors(case)
    )
    Encoder.from_pretrained(tmp_path)
