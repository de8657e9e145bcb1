"""What is exported to Hugging Face's layout is what transformers computes."""

import dataclasses
import json
import shutil

import keras_hub
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from sentencepiece import sentencepiece_model_pb2

import tfadv
from tests import checkpoints, tiny_run
from tfadv.datasets import movie_reviews
from tfadv.errors import InputError
from tfadv.export import hugging_face
from tfadv.runs import opening
from tfadv.runs.run import Run, build_classifier
from tfadv.sources import families
from tfadv.sources.checkpoint import Checkpoint
from tfadv.text.sentencepiece import AlbertTokenizer
from tfadv.text.tokenizer import Tokenizer
from tfadv.text.wordpiece import BertTokenizer

FAMILIES = ["albert", "bert"]
LABELS = ["bad", "so so", "good"]
TEXTS = [
    "the film is good",
    "a dull plot, and a bad film",
    "Fine! A naïve plot is fine",
    "bad",
    "",
    "the plot is the film and the film is the plot and the plot is dull",
    "(the film, of 2010, is dull... but ``fine'')",
]
each_family = pytest.mark.parametrize("family", FAMILIES)


# Runs


@pytest.fixture(scope="module")
def sentencepiece_model():
    """A tiny SentencePiece model with ALBERT's control tokens."""
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(
        tiny_run.sentencepiece_model(
            [f"{text} 2010".lower() for text in TEXTS],
            60,
            user_defined_symbols=list("()."),
        )
    )
    # ALBERT's own model has such pieces, and ALBERT does not use them.
    model.pieces.add(piece="▁2010,", score=-2.0)
    return model.SerializeToString()


def make_record(**changes):
    return tiny_run.record(
        "tiny",
        LABELS,
        **{
            "method": "rar",
            "max_length": 14,
            "perturb_at": "embedding_block",
            "adversary": tfadv.FreeLB(steps=2),
            **changes,
        },
    )


def randomize(classifier):
    """Gives the new weights values that are seen in every output."""
    rng = np.random.default_rng(7)
    variables = [*classifier.head.weights]
    for objective in classifier.objectives:
        variables += objective.head_variables().values()
    for variable in variables:
        values = rng.standard_normal(variable.shape)
        variable.assign(variable + values.astype(np.float32))


def make_run(folder, tokenizer, config):
    """A run as `tfadv.load` gives it, of a random checkpoint."""
    case = checkpoints.Case("run", config, seed=5, batch=1, tokens=1)
    checkpoints.write_checkpoint(
        folder / "encoder", config, checkpoints.random_tensors(case)
    )
    tokenizer.save(folder / "encoder")
    record = make_record()
    classifier = build_classifier(folder / "encoder", record)
    randomize(classifier)
    return Run(folder, record, classifier, tokenizer)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, sentencepiece_model):
    """Runs of both families, and the folders they are exported to."""
    albert = AlbertTokenizer(sentencepiece_model, 14)
    bert = BertTokenizer(tiny_run.PIECES, 14)
    rates = {
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.1,
        "layer_norm_eps": 1e-3,
    }
    configs = {
        # 4 layers, 2 groups of 2 inner layers
        "albert": checkpoints.albert_config(
            albert.vocabulary_size, 6, 12, 3, 4, 2, 2, 20, 16, "gelu"
        ),
        "bert": checkpoints.bert_config(len(tiny_run.PIECES), 8, 2, 2, 16, 24),
    }
    # What stands in old configs and would mislead about the new weights.
    configs["bert"] |= {"torch_dtype": "float16", "num_labels": 7}
    found = {}
    for tokenizer, (family, config) in zip(
        (albert, bert), configs.items(), strict=True
    ):
        run = make_run(
            tmp_path_factory.mktemp(family), tokenizer, config | rates
        )
        folder = tmp_path_factory.mktemp(f"{family}_exported")
        hugging_face.save(run, folder)
        found[family] = run, folder
    return found


def read_config(folder):
    return json.loads((folder / "config.json").read_text())


def change_config(folder, **changes):
    config = {**read_config(folder), **changes}
    config = {k: v for k, v in config.items() if v is not None}
    (folder / "config.json").write_text(json.dumps(config))


def masked_lm_head(folder):
    return families.masked_lm_head(Checkpoint(folder))


def read_tensors(folder):
    return safetensors.numpy.load_file(folder / "model.safetensors")


def write_tensors(folder, tensors):
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")


def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


# Export


@each_family
def test_an_exported_run_predicts_the_same(exported, family):
    run, folder = exported[family]
    found = tfadv.load(folder)
    assert found.label_names == run.label_names
    np.testing.assert_allclose(
        found.predict_proba(TEXTS), run.predict_proba(TEXTS), atol=1e-6
    )
    assert np.ptp(run.predict_proba(TEXTS), axis=0).max() > 0.01
    assert found.record.dataset == run.record.dataset
    assert found.record.settings.method == "rar"
    assert found.record.settings.encoder == run.record.settings.encoder
    assert found.classifier.adversary is None
    assert not found.classifier.objectives
    assert found.tokenizer.max_length == 14
    assert found.classifier.encoder.perturb_at == "embedding_block"


def test_a_folder_that_cannot_be_written_is_an_os_error(exported, tmp_path):
    with pytest.raises(OSError, match="missing"):
        hugging_face.save(exported["bert"][0], tmp_path / "missing")


def test_an_imported_run_is_exported_alike(exported, tmp_path):
    _, folder = exported["bert"]
    hugging_face.save(tfadv.load(folder), tmp_path)
    assert read_config(tmp_path) == read_config(folder)
    expected = read_tensors(folder)
    for name, tensor in read_tensors(tmp_path).items():
        np.testing.assert_array_equal(tensor, expected[name], err_msg=name)


@each_family
def test_config_says_what_transformers_reads(exported, family):
    transformers = pytest.importorskip("transformers")
    _, folder = exported[family]
    config = transformers.AutoConfig.from_pretrained(folder)
    assert config.architectures == [
        f"{family.capitalize()}ForSequenceClassification"
    ]
    assert config.num_labels == 3
    assert config.id2label == dict(enumerate(LABELS))
    assert config.label2id == {"bad": 0, "so so": 1, "good": 2}
    assert config.problem_type == "single_label_classification"
    assert config.hidden_act == "gelu"
    assert config.hidden_dropout_prob == 0.2
    assert config.attention_probs_dropout_prob == 0.1
    assert config.layer_norm_eps == 1e-3
    head_dropout = {
        "albert": "classifier_dropout_prob",
        "bert": "classifier_dropout",
    }
    assert getattr(config, head_dropout[family]) == 0.1
    assert config.tfadv["method"] == "rar"


@each_family
def test_tensors_have_the_names_and_shapes_of_transformers(exported, family):
    run, folder = exported[family]
    vocabulary = run.tokenizer.vocabulary_size
    heads = {
        "albert": {
            "predictions.dense.weight": (6, 12),
            "predictions.dense.bias": (6,),
            "predictions.LayerNorm.weight": (6,),
            "predictions.LayerNorm.bias": (6,),
            "predictions.bias": (vocabulary,),
        },
        "bert": {
            "cls.predictions.transform.dense.weight": (8, 8),
            "cls.predictions.transform.dense.bias": (8,),
            "cls.predictions.transform.LayerNorm.weight": (8,),
            "cls.predictions.transform.LayerNorm.bias": (8,),
            "cls.predictions.bias": (vocabulary,),
        },
    }
    shapes = checkpoints.tensor_shapes(read_config(folder)) | heads[family]
    with safetensors.safe_open(
        folder / "model.safetensors", framework="np"
    ) as tensors:
        assert tensors.metadata() == {"format": "pt"}
        found = {k: tensors.get_tensor(k) for k in tensors.keys()}  # noqa: SIM118
    assert {k: v.shape for k, v in found.items()} == shapes
    assert {str(v.dtype) for v in found.values()} == {"float32"}


@each_family
def test_weights_that_came_from_a_checkpoint_go_back_as_they_were(
    exported, family
):
    run, folder = exported[family]
    came = read_tensors(run.folder / "encoder")
    went = read_tensors(folder)
    for name, tensor in came.items():
        if not name.startswith("classifier."):
            np.testing.assert_array_equal(went[name], tensor, err_msg=name)


@each_family
def test_transformers_tokenizes_alike(exported, family):
    transformers = pytest.importorskip("transformers")
    run, folder = exported[family]
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert theirs.model_max_length == 14
    found = theirs(TEXTS, truncation=True)["input_ids"]
    assert found == run.tokenizer.tokenize(TEXTS).to_list()
    if family == "albert":
        tokens = run.tokenizer.ids_to_tokens(found[-1])
        assert {"(", ","} <= set(tokens)
        assert "▁2010," in run.tokenizer.ids_to_tokens(range(len(theirs)))
        assert "▁2010," not in tokens
    pair = theirs("bad", "good")
    assert pair["input_ids"].count(theirs.sep_token_id) == 2


@each_family
def test_a_keras_hub_preset_is_exported(
    exported, sentencepiece_model, tmp_path, family
):
    sizes = {
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 12,
        "max_sequence_length": 20,
        "dropout": 0.3,
    }
    tokenizer = exported[family][0].tokenizer
    sizes["vocabulary_size"] = tokenizer.vocabulary_size
    if family == "albert":
        backbone = keras_hub.models.AlbertBackbone(
            embedding_dim=4, num_groups=2, **sizes
        )
    else:
        backbone = keras_hub.models.BertBackbone(**sizes)
    source, target = tmp_path / "run", tmp_path / "exported"
    target.mkdir()
    backbone.save_to_preset(str(source / "encoder"))
    tokenizer.save(source / "encoder")
    record = make_record(perturb_at="word_embeddings")
    classifier = build_classifier(source / "encoder", record)
    randomize(classifier)
    run = Run(source, record, classifier, tokenizer)
    hugging_face.save(run, target)
    config = read_config(target)
    assert config["hidden_act"] == "gelu_new"
    assert config["hidden_dropout_prob"] == 0.3
    assert config["max_position_embeddings"] == 20
    found = tfadv.load(target)
    assert found.classifier.encoder.activation == "gelu_new"
    np.testing.assert_allclose(
        found.predict_proba(TEXTS), run.predict_proba(TEXTS), atol=1e-6
    )


# Checkpoints of others


def foreign(folder, family, **changes):
    """A checkpoint that says nothing of tfadv, and its case."""
    [case, *_] = [
        case
        for case in checkpoints.ENCODER_CASES
        if case.family == family and case.config["num_hidden_layers"] == 4
    ]
    tensors = checkpoints.random_tensors(case)
    checkpoints.write_checkpoint(folder, case.config | changes, tensors)
    special = tiny_run.PIECES[:5]
    others = [f"w{i}" for i in range(case.config["vocab_size"] - 5)]
    (folder / "vocab.txt").write_text("\n".join([*special, *others]) + "\n")
    return case


def logits_of_case(run, case):
    token_ids, padding_mask, segment_ids, _ = checkpoints.inputs(case)
    return run.classifier(
        {
            "token_ids": token_ids,
            "padding_mask": padding_mask,
            "segment_ids": segment_ids,
        }
    )


def test_anothers_checkpoint_gives_the_stored_logits_of_pytorch(tmp_path):
    case = foreign(
        tmp_path,
        "bert",
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.3,
    )
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 9}')
    run = tfadv.load(tmp_path)
    expected = checkpoints.golden("encoder", case)["logits"]
    np.testing.assert_allclose(logits_of_case(run, case), expected, atol=1e-5)
    assert run.label_names == tuple(
        f"LABEL_{i}" for i in range(case.num_labels)
    )
    assert run.record.dataset == "unknown"
    assert run.record.settings == tiny_run.settings(
        tmp_path, method="baseline", max_length=9
    )
    assert run.classifier.dropout == 0.1
    assert run.tokenizer.max_length == 9
    assert run.predict_proba(["w1 w2 w3"]).shape == (1, case.num_labels)


def test_old_names_and_several_files_are_read(tmp_path):
    case = foreign(tmp_path, "bert")
    tensors = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in read_tensors(tmp_path).items()
    }
    (tmp_path / "model.safetensors").unlink()
    weight_map = {}
    for i in range(2):
        part = dict(list(tensors.items())[i::2])
        safetensors.numpy.save_file(part, tmp_path / f"{i}.safetensors")
        weight_map |= dict.fromkeys(part, f"{i}.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": weight_map})
    )
    run = tfadv.load(tmp_path)
    expected = checkpoints.golden("encoder", case)["logits"]
    np.testing.assert_allclose(logits_of_case(run, case), expected, atol=1e-5)
    assert run.tokenizer.max_length == case.config["max_position_embeddings"]
    (tmp_path / "1.safetensors").unlink()
    with pytest.raises(InputError) as caught:
        tfadv.load(tmp_path)
    assert "1.safetensors" in str(caught.value)


def test_the_precision_is_the_callers(exported):
    run, folder = exported["bert"]
    found = tfadv.load(folder, precision="mixed_bfloat16")
    assert found.record.settings.encoder.precision == "mixed_bfloat16"
    assert found.classifier.encoder.dtype_policy.name == "mixed_bfloat16"
    np.testing.assert_allclose(
        found.predict_proba(TEXTS), run.predict_proba(TEXTS), atol=0.05
    )


def test_two_classes_without_names_have_those_of_transformers(
    exported, tmp_path
):
    folder = copy(exported["bert"][1], tmp_path)
    change_config(folder, id2label=None, label2id=None)
    tensors = read_tensors(folder)
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = tensors[name][:2]
    write_tensors(folder, tensors)
    assert tfadv.load(folder).label_names == ("LABEL_0", "LABEL_1")


# Bad folders


def without_classifier(folder):
    tensors = read_tensors(folder)
    del tensors["classifier.weight"]
    write_tensors(folder, tensors)


def of_another_shape(folder):
    tensors = read_tensors(folder)
    tensors["bert.pooler.dense.weight"] = np.zeros([8, 9], np.float32)
    write_tensors(folder, tensors)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def without_weights(folder):
    (folder / "model.safetensors").unlink()


def bad_index(folder):
    without_weights(folder)
    (folder / "model.safetensors.index.json").write_text('["weight_map"]')


def without_vocabulary(folder):
    (folder / "vocab.txt").unlink()


def long_vocabulary(folder):
    text = (folder / "vocab.txt").read_text()
    (folder / "vocab.txt").write_text(text + "more\n")


def config_of(**changes):
    return lambda folder: change_config(folder, **changes)


BAD = {
    "no_classifier": (
        "missing-tensor",
        without_classifier,
        ["classifier.weight"],
    ),
    "shape": (
        "wrong-shape",
        of_another_shape,
        ["pooler.dense.weight", "[8, 8]", "[8, 9]"],
    ),
    "cut": ("bad-weights", cut, ["model.safetensors"]),
    "pickle": ("no-weights", pickled, ["pytorch_model.bin", "save_pretrained"]),
    "no_weights": (
        "no-weights",
        without_weights,
        ["model.safetensors", "vocab.txt"],
    ),
    "index": (
        "bad-index",
        bad_index,
        ["model.safetensors.index.json", "weight_map"],
    ),
    "no_vocabulary": ("missing-file", without_vocabulary, ["vocab.txt"]),
    "long_vocabulary": ("vocabulary-too-large", long_vocabulary, ["14", "15"]),
    "labels": (
        "wrong-shape",
        config_of(id2label={"0": "bad", "1": "good"}),
        ["classifier.weight", "[2, 8]", "[3, 8]"],
    ),
    "one_label": (
        "bad-labels",
        config_of(id2label={"0": "bad"}),
        ["id2label", "0"],
    ),
    "label_ids": (
        "bad-labels",
        config_of(id2label={"1": "bad", "2": "good"}),
        ["id2label", "1, 2"],
    ),
    "problem": (
        "not-single-label",
        config_of(problem_type="multi_label_classification"),
        ["multi_label_classification", "single_label_classification"],
    ),
    "family": (
        "unsupported-family",
        config_of(
            model_type="roberta",
            architectures=["RobertaForSequenceClassification"],
        ),
        ["roberta", "albert"],
    ),
    "facts": ("bad-checkpoint", config_of(tfadv=["method"]), ["config.json"]),
    "opening": (
        "bad-checkpoint",
        config_of(tfadv={"perturb_at": "logits"}),
        ["embedding_block", "logits"],
    ),
    "sizes": ("wrong-shape", config_of(hidden_size=None), []),
    "activation": (
        "unsupported-config",
        config_of(hidden_act="snake"),
        ["hidden_act", "snake"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_told_in_one_line(exported, tmp_path, name):
    code, damage, words = BAD[name]
    folder = copy(exported["bert"][1], tmp_path)
    damage(folder)
    with pytest.raises(InputError) as caught:
        tfadv.load(folder, "victim_run")
    assert caught.value.code == code
    assert caught.value.argument == "victim_run"
    assert caught.value.value == str(folder)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message.replace(str(folder), ""), message


def refusal(do, *args):
    """The code of the error that a call ends with."""
    with pytest.raises(InputError) as caught:
        do(*args)
    return caught.value.code


def test_an_encoder_is_no_classifier(exported, tmp_path):
    folder = copy(exported["bert"][1], tmp_path)
    change_config(folder, architectures=["BertModel"])
    assert refusal(tfadv.load, folder) == "no-run"
    assert refusal(opening.load_checkpoint, folder) == "no-classifier"
    (folder / "config.json").write_text("{")
    assert refusal(tfadv.load, folder) == "no-run"


def test_a_run_is_opened_as_a_run(exported, tmp_path):
    folder = copy(exported["bert"][1], tmp_path)
    (folder / "settings.json").write_text("{}")
    assert refusal(tfadv.load, folder) == "bad-record"


# The masked-LM head


@each_family
def test_the_head_of_rar_comes_back(exported, family):
    run, folder = exported[family]
    [objective] = run.classifier.objectives
    arrays = masked_lm_head(folder)
    variables = objective.head_variables()
    assert arrays.keys() == variables.keys()
    for key, variable in variables.items():
        np.testing.assert_array_equal(arrays[key], variable.numpy())
    other = build_classifier(folder, run.record)
    [other] = other.objectives
    assert np.abs(other.dense.kernel - objective.dense.kernel).max() > 0.1
    other.load_head(arrays)
    for key, variable in other.head_variables().items():
        np.testing.assert_array_equal(arrays[key], variable.numpy())


def test_other_names_of_the_head_are_read(exported, tmp_path):
    folder = copy(exported["bert"][1], tmp_path)
    expected = masked_lm_head(folder)
    tensors = read_tensors(folder)
    name = "cls.predictions.transform.LayerNorm"
    tensors[f"{name}.gamma"] = tensors.pop(f"{name}.weight")
    tensors[f"{name}.beta"] = tensors.pop(f"{name}.bias")
    tensors["cls.predictions.decoder.bias"] = tensors.pop(
        "cls.predictions.bias"
    )
    write_tensors(folder, tensors)
    found = masked_lm_head(folder)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)


def test_there_is_no_head_that_is_not_whole_and_tied(exported, tmp_path):
    assert masked_lm_head(exported["bert"][0].folder / "encoder") is None
    folder = copy(exported["albert"][1], tmp_path)
    change_config(folder, tie_word_embeddings=False)
    assert masked_lm_head(folder) is None
    change_config(folder, tie_word_embeddings=True)
    assert masked_lm_head(folder) is not None
    tensors = read_tensors(folder)
    del tensors["predictions.dense.bias"]
    write_tensors(folder, tensors)
    assert masked_lm_head(folder) is None


def test_a_head_of_another_size_is_told(exported):
    [objective] = exported["bert"][0].classifier.objectives
    before = objective.bias.numpy()
    arrays = masked_lm_head(exported["albert"][1])
    with pytest.raises(InputError) as caught:
        objective.load_head(arrays)
    message = str(caught.value)
    for word in ("kernel", "[8, 8]", "[12, 6]"):
        assert word in message, message
    np.testing.assert_array_equal(objective.bias, before)


def test_training_starts_from_the_head_of_the_checkpoint(
    exported, tmp_path, caplog, monkeypatch
):
    # Setting the seed clears TensorFlow's kernels, and with them the
    # SentencePiece model of the tokenizer that other tests share.
    monkeypatch.setattr("keras.utils.set_random_seed", lambda seed: None)
    folder = exported["bert"][1]
    dataset = dataclasses.replace(tiny_run.dataset(24, 0), test=None)
    settings = tiny_run.settings(
        folder,
        method="rar",
        adversary=tfadv.FreeLB(steps=1),
        max_length=14,
        max_steps=1,
        learning_rate=1e-9,
    )
    caplog.set_level("INFO", "tfadv")
    tfadv.train(dataset, settings, tmp_path / "rar")
    assert "starts from the checkpoint's masked-LM" in caplog.text
    run = tfadv.load(tmp_path / "rar")
    [objective] = run.classifier.objectives
    arrays = masked_lm_head(folder)
    for key, variable in objective.head_variables().items():
        np.testing.assert_allclose(variable, arrays[key], atol=1e-7)
    # And a trained run's files are all that an export needs.
    (tmp_path / "exported").mkdir()
    hugging_face.save(run, tmp_path / "exported")
    found = tfadv.load(tmp_path / "exported")
    assert found.label_names == ("bad", "good")
    np.testing.assert_allclose(
        found.predict_proba(TEXTS), run.predict_proba(TEXTS), atol=1e-6
    )


def test_a_checkpoint_without_a_head_changes_nothing(exported):
    run, _ = exported["bert"]
    [objective] = run.classifier.objectives
    before = objective.dense.kernel.numpy()
    assert not objective.load_from_checkpoint(
        Checkpoint(run.folder / "encoder")
    )
    np.testing.assert_array_equal(objective.dense.kernel, before)


# PyTorch


def open_in_pytorch(folder, task, allowed=()):
    """Opens a model of transformers.

    Args:
        folder: the checkpoint.
        task: `"SequenceClassification"` or `"MaskedLM"`.
        allowed: prefixes of the tensors that the model may not know.

    Returns:
        A function from our tokenizer's inputs to the model's logits.
    """
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    auto = getattr(transformers, f"AutoModelFor{task}")
    model, loading = auto.from_pretrained(folder, output_loading_info=True)
    assert model.dtype == torch.float32
    assert not loading["missing_keys"], loading
    assert not loading["mismatched_keys"], loading
    for name in loading["unexpected_keys"]:
        assert name.startswith(tuple(allowed)), name
    model.eval()

    def logits(inputs):
        tensors = {
            key: torch.from_numpy(np.array(value)).long()
            for key, value in inputs.items()
        }
        with torch.no_grad():
            outputs = model(
                input_ids=tensors["token_ids"],
                attention_mask=tensors["padding_mask"],
                token_type_ids=tensors["segment_ids"],
            )
        return outputs.logits.numpy()

    return logits


HEADS = {"albert": "predictions.", "bert": "cls.predictions."}


@each_family
def test_pytorch_gives_the_same_logits(exported, family):
    run, folder = exported[family]
    inputs = run.tokenizer(TEXTS)
    theirs = open_in_pytorch(folder, "SequenceClassification", [HEADS[family]])
    np.testing.assert_allclose(
        theirs(inputs), run.classifier(inputs), atol=1e-5
    )


@each_family
def test_pytorch_gives_the_same_vocabulary_logits(exported, family):
    run, folder = exported[family]
    [objective] = run.classifier.objectives
    inputs = run.tokenizer(TEXTS)
    others = ["classifier.", f"{family}.pooler."]
    found = open_in_pytorch(folder, "MaskedLM", others)(inputs)
    hidden = run.classifier.encoder(inputs)["sequence_output"]
    table = run.classifier.encoder.token_embedding.embeddings.numpy()
    expected = objective._transform(hidden).numpy() @ table.T
    expected += objective.bias.numpy()
    mask = inputs["padding_mask"].numpy().astype(bool)
    np.testing.assert_allclose(found[mask], expected[mask], atol=1e-5)
    found[..., objective.special_ids] = -np.inf
    words = objective.reconstruct(hidden).numpy()
    np.testing.assert_array_equal(found.argmax(-1)[mask], words[mask])


@each_family
def test_what_transformers_writes_is_opened(exported, family, tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    run, folder = exported[family]
    auto = transformers.AutoModelForSequenceClassification
    model = auto.from_pretrained(folder)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    run.tokenizer.save(tmp_path)
    found = tfadv.load(tmp_path)
    assert found.label_names == run.label_names
    np.testing.assert_allclose(
        found.predict_proba(TEXTS), run.predict_proba(TEXTS), atol=0.05
    )
    expected = model.state_dict()["classifier.weight"].float().numpy()
    kernel = found.classifier.head.kernel.numpy()
    np.testing.assert_array_equal(kernel.T, expected)


@each_family
def test_the_head_that_transformers_writes_is_found(exported, family, tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    _, folder = exported[family]
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder)
    model.save_pretrained(tmp_path)
    expected = masked_lm_head(folder)
    for key, array in masked_lm_head(tmp_path).items():
        np.testing.assert_array_equal(array, expected[key])


@pytest.mark.parametrize(
    "count", [50, pytest.param(500, marks=pytest.mark.slow)]
)
def test_a_real_encoder_gives_the_logits_of_pytorch(
    minilm_folder, tmp_path, count
):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizer = Tokenizer.from_pretrained(minilm_folder, 64)
    source, target = tmp_path / "run", tmp_path / "exported"
    (source / "encoder").mkdir(parents=True)
    target.mkdir()
    shutil.copy(minilm_folder / "config.json", source / "encoder")
    record = make_record(method="baseline")
    classifier = build_classifier(minilm_folder, record)
    randomize(classifier)
    run = Run(source, record, classifier, tokenizer)
    hugging_face.save(run, target)
    theirs = open_in_pytorch(target, "SequenceClassification")
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(target)
    assert their_tokenizer.model_max_length == 64
    differences = []
    texts = sorted(movie_reviews.load().test.texts[:count], key=len)
    for i in range(0, len(texts), 50):
        part = list(texts[i : i + 50])
        ids = their_tokenizer(part, truncation=True)["input_ids"]
        assert ids == tokenizer.tokenize(part).to_list()
        inputs = tokenizer(part)
        difference = np.abs(theirs(inputs) - classifier(inputs))
        differences.append(difference.max())
    print(f"\nlargest difference from PyTorch: {max(differences):.1e}")
    assert max(differences) < 1e-5
