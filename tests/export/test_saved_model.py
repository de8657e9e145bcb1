"""Exports to SavedModel: the same answers, anywhere, and never half of one."""

import json
import os
import pathlib
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import predict_pb2

import tfadv
from tests import prediction_server, tiny_run
from tfadv.datasets import movie_reviews
from tfadv.datasets.examples import Examples
from tfadv.errors import InputError
from tfadv.export import (
    checkpoint_folder,
    comparison,
    saved_model,
    signatures,
)
from tfadv.runs.run import Run
from tfadv.sources import pip_archives

ROOT = pathlib.Path(__file__).parents[2]
NASTY = [
    "",
    " ",
    "[CLS] [SEP] [PAD] [MASK] <pad> </s>",
    "good \x00 film",
    "good " * 20_000,
    "x" * 100_000,
    "\U0001f600 \u0130\u0307 \ufffd \ue000",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A tiny encoder that reads the real vocabulary, after a bit of RAR."""
    folder = tmp_path_factory.mktemp("serving")
    encoder = tiny_run.encoder_folder(
        folder / "encoder", pip_archives.encoder_folder("all-minilm-l6-v2")
    )
    tfadv.train(
        tiny_run.dataset(),
        tiny_run.settings(
            encoder,
            method="rar",
            adversary=tfadv.FreeLB(steps=2),
            epochs=1,
            max_length=24,
            learning_rate=0.01,
        ),
        folder / "run",
    )
    return tfadv.load(folder / "run")


@pytest.fixture(scope="module")
def exports(run, tmp_path_factory):
    """A folder with two versions, in float32 and in bfloat16."""
    folder = tmp_path_factory.mktemp("exports")
    saved_model.saved_model(run, folder)
    saved_model.saved_model(run, folder, precision="bfloat16")
    return folder


@pytest.fixture(scope="module")
def served(exports):
    """The first version, loaded; it must be held on to."""
    return tf.saved_model.load(str(exports / "1"))


def assert_no_skew(run, served, texts):
    answers = served.signatures["serving_default"](text=tf.constant(texts))
    expected = run.predict_proba(texts)
    np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5)
    names = np.array(run.label_names, object)
    # Where two classes are equally likely, either may be named.
    clear = np.abs(expected[:, 0] - 0.5) > 1e-5
    found = np.array([name.decode() for name in answers["label"].numpy()])
    np.testing.assert_array_equal(
        found[clear], names[expected.argmax(axis=1)][clear]
    )


# Answers


def test_what_is_served(run, served):
    answers = served.signatures["serving_default"](
        text=tf.constant(["good film", "bad film", "dull"])
    )
    shapes = {name: tensor.shape for name, tensor in answers.items()}
    assert shapes == {
        "label": [3],
        "score": [3],
        "probabilities": [3, 2],
        "classes": [3, 2],
    }
    for i in range(3):
        row = {name: tensor[i].numpy() for name, tensor in answers.items()}
        best = row["probabilities"].argmax()
        assert list(row["classes"]) == [b"bad", b"good"]
        assert row["label"] == row["classes"][best]
        assert row["score"] == row["probabilities"][best]
        assert row["probabilities"].sum() == pytest.approx(1)


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1000])
def test_any_batch_size(run, served, count):
    texts = (tiny_run.examples(90, seed=5).texts * 12)[:count]
    if count:
        assert_no_skew(run, served, texts)
    else:
        answers = served.signatures["serving_default"](
            text=tf.constant([], tf.string)
        )
        assert answers["probabilities"].shape == (0, 2)
        assert answers["label"].shape == (0,)


def test_texts_that_are_hard_to_read(run, served):
    assert_no_skew(run, served, NASTY)


def test_real_reviews(run, served):
    assert_no_skew(run, served, movie_reviews.load().test.texts[:300])


@settings(
    max_examples=20,
    deadline=None,
    suppress_health_check=[HealthCheck.data_too_large, HealthCheck.too_slow],
)
@given(st.lists(st.text(), min_size=1, max_size=50))
def test_arbitrary_unicode(run, served, texts):
    assert_no_skew(run, served, [text.encode() for text in encodable(texts)])


def encodable(texts):
    """Texts without lone surrogates, which UTF-8 has no bytes for."""
    return [text.encode("utf-8", "replace").decode() for text in texts]


@pytest.mark.slow
def test_ten_thousand_arbitrary_texts(run, served):
    found = []
    text = st.text(max_size=200)

    @settings(max_examples=10_000, database=None, deadline=None)
    @given(text)
    def collect(text):
        found.append(text)

    collect()
    assert len(found) >= 10_000
    assert_no_skew(run, served, encodable(found))


@pytest.mark.slow
def test_real_encoder_has_no_skew(minilm_folder, tmp_path):
    """All of the movie reviews' test split, with trained weights."""
    dataset = movie_reviews.load()
    few = Examples(dataset.train.texts[:256], dataset.train.labels[:256])
    tfadv.train(
        tiny_run.TextDataset("few", dataset.label_names, few, None, None),
        tiny_run.settings(method="baseline", epochs=2, learning_rate=2e-4),
        tmp_path / "run",
    )
    run = tfadv.load(tmp_path / "run")
    written = saved_model.saved_model(run, tmp_path / "exports")
    compared = comparison.compare(run, written, dataset.test)
    print(compared)
    assert compared.different_classes == 0
    assert compared.largest_difference < 1e-5
    assert compared.run_accuracy > 0.7


def test_token_ids_and_representations(run, served):
    texts = tf.constant([*NASTY[:4], "the good film"])
    signatures = served.signatures
    ids = signatures["tokenize"](text=texts)
    expected = run.tokenizer(texts)
    assert set(ids) == set(expected)
    for name, tensor in ids.items():
        np.testing.assert_array_equal(tensor, expected[name])
    one = signatures["classify_token_ids"](**ids)
    other = signatures["serving_default"](text=texts)
    np.testing.assert_allclose(
        one["probabilities"], other["probabilities"], atol=1e-6
    )
    np.testing.assert_allclose(
        signatures["represent"](text=texts)["representation"],
        run.classifier.encoder(expected)["pooled_output"],
        atol=1e-5,
    )


def test_bfloat16_is_smaller_and_near(run, exports):
    examples = tiny_run.examples(90, seed=3)
    compared = comparison.compare(run, exports / "2", examples)
    assert 0 < compared.largest_difference < 0.05
    assert abs(compared.run_accuracy - compared.export_accuracy) < 0.05
    assert saved_model.size(exports / "2") < saved_model.size(exports / "1")
    assert "90 texts" in str(compared)


# What is inside


def test_it_needs_neither_keras_nor_tfadv(run, exports, tmp_path):
    """TensorFlow and the ops of tensorflow_text, as in a model server.

    The Python of tensorflow_text defines Keras layers, so its libraries of
    ops are loaded without it.
    """
    texts = ["good film", "dull", ""]
    code = f"""
import importlib.machinery
import importlib.util
import pathlib
import sys

find = importlib.machinery.PathFinder.find_spec
barred = {{"keras", "keras_hub", "tf_keras", "tfadv"}}

class Without:
    @staticmethod
    def find_spec(name, path=None, target=None):
        barred_one = name.split(".")[0] in barred
        return None if barred_one else find(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Without
import numpy as np
import tensorflow as tf

text = pathlib.Path(importlib.util.find_spec("tensorflow_text").origin).parent
for library in (text / "python/ops").glob("*.so"):
    tf.load_op_library(str(library))
loaded = tf.saved_model.load({str(exports / "1")!r})
answers = loaded.signatures["serving_default"](text=tf.constant({texts}))
np.save("found.npy", answers["probabilities"].numpy())
assert not barred & {{name.split(".")[0] for name in sys.modules}}
"""
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    np.testing.assert_allclose(
        np.load(tmp_path / "found.npy"), run.predict_proba(texts), atol=1e-5
    )


def test_nothing_of_training_is_inside(run, exports):
    kept = sum(
        int(np.prod(w.shape))
        for w in [*run.classifier.encoder.weights, *run.classifier.head.weights]
    )
    [graph] = graph_functions(exports / "1")
    constants = sum(
        int(np.prod(tf.make_ndarray(node.attr["value"].tensor).shape))
        for node in graph
        if node.op == "Const"
        and node.attr["dtype"].type == tf.float32.as_datatype_enum
        and len(node.attr["value"].tensor.tensor_shape.dim)
    )
    # The reconstruction head alone has a bias as long as the vocabulary.
    assert kept <= constants < kept + 2000
    variables = (exports / "1/variables/variables.data-00000-of-00001").stat()
    assert variables.st_size < 2000


def graph_functions(folder):
    """All nodes of a SavedModel, in one list a graph."""
    from tensorflow.core.protobuf import saved_model_pb2

    content = saved_model_pb2.SavedModel()
    content.ParseFromString((folder / "saved_model.pb").read_bytes())
    return [
        [
            *graph.graph_def.node,
            *(n for f in graph.graph_def.library.function for n in f.node_def),
        ]
        for graph in content.meta_graphs
    ]


def test_its_ops_are_those_of_a_model_server(exports):
    """All of TensorFlow's core, or of tensorflow_text, which servers have."""
    [nodes] = graph_functions(exports / "1")
    code = """
import sys
from tensorflow.python.framework import op_def_registry
print(*[n for n in sys.argv[1:] if op_def_registry.get(n) is None])
"""
    ops = sorted({node.op for node in nodes})
    called = subprocess.run(
        [sys.executable, "-c", code, *ops],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    functions = {"StatefulPartitionedCall", "PartitionedCall"}
    custom = set(called.stdout.split()) - functions
    assert custom == {"FastWordpieceTokenizeWithOffsets"}


# Served


@pytest.fixture(scope="module")
def stub(exports, tmp_path_factory):
    """A client of a server of the float32 version."""
    base = tmp_path_factory.mktemp("base")
    (base / "1").symlink_to(exports / "1")
    with prediction_server.serve(base) as stub:
        yield stub


def predict(stub, signature="serving_default", **inputs):
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "mine"
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    response = stub.Predict(request, timeout=60)
    return {k: tf.make_ndarray(v) for k, v in response.outputs.items()}


def test_predict_requests_over_grpc(run, stub):
    texts = ["good film", "", "dull [SEP] film", "the plot " * 300]
    answers = predict(stub, text=texts)
    np.testing.assert_allclose(
        answers["probabilities"], run.predict_proba(texts), atol=1e-5
    )
    assert set(answers["label"]) <= {b"good", b"bad"}
    ids = predict(stub, "tokenize", text=texts)
    again = predict(stub, "classify_token_ids", **ids)
    np.testing.assert_allclose(
        again["probabilities"], answers["probabilities"], atol=1e-6
    )
    assert predict(stub, "represent", text=texts)["representation"].shape == (
        4,
        run.classifier.encoder.hidden_dim,
    )


IDS = {
    "token_ids": np.array([[101, 2000, 102]], np.int32),
    "padding_mask": np.array([[1, 1, 1]], np.int32),
    "segment_ids": np.array([[0, 0, 0]], np.int32),
}


@pytest.mark.parametrize(
    ("inputs", "message"),
    {
        "numbers": ({"text": [1.0, 2.0]}, "text must be of type string"),
        "a matrix": (
            {"text": [["a", "b"]]},
            "text_0_0 [1,2] is not compatible",
        ),
        "a scalar": ({"text": "a"}, "text_0_0 [] is not compatible"),
        "another name": ({"texts": ["a"]}, "expected ['text']"),
        "unknown id": (
            {**IDS, "token_ids": IDS["token_ids"] + 30_400},
            "token_ids: expected integers from 0 to 30521",
        ),
        "negative id": (
            {**IDS, "token_ids": -IDS["token_ids"]},
            "token_ids: expected integers from 0 to 30521",
        ),
        "another shape": (
            {**IDS, "segment_ids": IDS["segment_ids"][:, :2]},
            "segment_ids: expected the shape of token_ids",
        ),
        "no segment": (
            {**IDS, "segment_ids": IDS["segment_ids"] + 9},
            "segment_ids: expected integers from 0 to 1",
        ),
        "no first token": (
            {**IDS, "padding_mask": IDS["padding_mask"] * 0},
            "padding_mask: expected 1 at the first token",
        ),
        "too long": (
            {name: np.ones([1, 25], np.int32) for name in IDS},
            "token_ids: at most 24 a row",
        ),
        "64 bits": (
            {name: value.astype(np.int64) for name, value in IDS.items()},
            "must be of type int32",
        ),
        "ids of rank 1": (
            {name: value[0] for name, value in IDS.items()},
            "[3] is not compatible with expected shape [?,?]",
        ),
    }.values(),
)
def test_a_bad_request_gets_a_clear_answer(stub, inputs, message):
    signature = "classify_token_ids" if "token_ids" in inputs else ""
    with pytest.raises(grpc.RpcError) as caught:
        predict(stub, signature, **inputs)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert message in caught.value.details()
    # The server goes on.
    assert len(predict(stub, text=["good"])["label"]) == 1


# Folders


def test_a_version_beside_another(exports):
    assert sorted(path.name for path in exports.iterdir()) == ["1", "2"]
    description = json.loads((exports / "2/export.json").read_text())
    assert description["label_names"] == ["bad", "good"]
    assert description["precision"] == "bfloat16"
    assert 0 < description["largest_difference"] < 0.1
    assert "rar" in (exports / "1/model_card.md").read_text()
    assert (exports / "1" / saved_model.WARM_UP).stat().st_size > 100


def test_a_broken_export_leaves_the_good_ones(run, exports, monkeypatch):
    before = snapshot(exports)
    wrong = Run(run.folder, run.record, run.classifier, None)

    def another_head(run):
        kernel = -run.classifier.head.kernel.numpy()
        return lambda pooled: {
            "probabilities": tf.nn.softmax(tf.matmul(pooled, kernel))
        }

    monkeypatch.setattr(signatures, "_head", another_head)
    with pytest.raises(InputError) as caught:
        saved_model.saved_model(run, exports)
    assert caught.value.code == "export-differs"
    with pytest.raises(AttributeError):
        saved_model.saved_model(wrong, exports)
    assert snapshot(exports) == before


def test_what_a_killed_export_left_is_no_version(run, exports, tmp_path):
    (tmp_path / "partial.1").mkdir()
    (tmp_path / "partial.1" / "saved_model.pb").write_text("half")
    assert saved_model.saved_model(run, tmp_path).name == "1"
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_a_full_disk(run, exports, monkeypatch):
    before = snapshot(exports)

    def full(*_, **__):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left")

    monkeypatch.setattr(tf.saved_model, "save", full)
    with pytest.raises(InputError) as caught:
        saved_model.saved_model(run, exports)
    assert caught.value.code == "unwritable"
    assert snapshot(exports) == before


def snapshot(folder):
    return {
        path: path.stat().st_mtime_ns
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("content", ["notes.txt", "3/saved_model.pb", "x/y"])
def test_a_folder_that_is_not_ours(run, tmp_path, content):
    path = tmp_path / content
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(InputError) as caught:
        saved_model.saved_model(run, tmp_path)
    assert caught.value.code == "other-files"
    assert path.read_text() == "mine"


def test_a_file_in_the_folders_place(run, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError) as caught:
        saved_model.saved_model(run, tmp_path / "file")
    assert caught.value.code == "not-a-folder"


def test_a_checkpoint_replaces_only_its_like(run, tmp_path):
    folder = tmp_path / "hf"
    checkpoint_folder.save_checkpoint(run, folder)
    assert (folder / "model.safetensors").exists()
    assert (folder / "README.md").exists()
    with pytest.raises(InputError) as caught:
        checkpoint_folder.save_checkpoint(run, folder)
    assert caught.value.code == "results-exist"
    (folder / "old").write_text("")
    checkpoint_folder.save_checkpoint(run, folder, overwrite=True)
    assert not (folder / "old").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError) as caught:
        checkpoint_folder.save_checkpoint(
            run, tmp_path / "mine", overwrite=True
        )
    assert caught.value.code == "other-files"
