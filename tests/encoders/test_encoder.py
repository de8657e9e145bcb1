"""The encoder computes what its checkpoint's own PyTorch model computes."""

import contextlib
import json
import pickle

import keras
import keras_hub
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from tests import checkpoints
from tfadv.adversaries.freelb import FreeLB
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.update.classifier import AdversarialClassifier

FAMILIES = ["albert", "bert"]
OPENINGS = ["word_embeddings", "embedding_block"]
each_case = pytest.mark.parametrize(
    "case", checkpoints.ENCODER_CASES, ids=lambda case: case.name
)
each_family = pytest.mark.parametrize("family", FAMILIES)
each_opening = pytest.mark.parametrize("perturb_at", OPENINGS)


def features(case):
    token_ids, padding_mask, segment_ids, _ = checkpoints.inputs(case)
    return {
        "token_ids": token_ids,
        "padding_mask": padding_mask,
        "segment_ids": segment_ids,
    }


def case_of(family, **config):
    """A case of the family with some of its configuration changed."""
    [case, *_] = [
        case
        for case in checkpoints.ENCODER_CASES
        if case.family == family and case.config["num_hidden_layers"] == 2
    ]
    return checkpoints.Case(
        case.name, case.config | config, case.seed, case.batch, case.tokens
    )


def write(folder, case):
    return checkpoints.write_checkpoint(
        folder, case.config, checkpoints.random_tensors(case)
    )


def with_hugging_face_head(encoder, case):
    """A classifier with the checkpoint's own head, without dropout."""
    classifier = AdversarialClassifier(encoder, case.num_labels, dropout=0.0)
    tensors = checkpoints.random_tensors(case)
    classifier.head.kernel.assign(tensors["classifier.weight"].T)
    classifier.head.bias.assign(tensors["classifier.bias"])
    return classifier


def assert_same_outputs(actual, expected):
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        np.testing.assert_array_equal(actual[key], value, err_msg=key)


def assert_outputs_of(backbone, actual, inputs, atol=1e-5):
    """Of real tokens; of the others a backbone gives what nobody reads."""
    expected = backbone(inputs)
    assert actual.keys() == expected.keys()
    real = inputs["padding_mask"].astype(bool)
    hidden, expected_hidden = (
        outputs["sequence_output"].numpy()[real]
        for outputs in (actual, expected)
    )
    np.testing.assert_allclose(hidden, expected_hidden, atol=atol)
    np.testing.assert_allclose(
        actual["pooled_output"], expected["pooled_output"], atol=atol
    )


@contextlib.contextmanager
def one_line_error(code, *words):
    """An error of this code, whose line names the argument and the words."""
    with pytest.raises(InputError) as caught:
        yield
    assert caught.value.code == code
    assert caught.value.argument == "encoder"
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


# The PyTorch reference


@pytest.fixture(scope="module")
def outputs_of(tmp_path_factory):
    """Runs a case through the code under test, once."""
    found = {}

    def run(case):
        if case.name not in found:
            folder = write(tmp_path_factory.mktemp(case.name), case)
            encoder = Encoder.from_pretrained(folder)
            outputs = encoder(features(case))
            classifier = with_hugging_face_head(encoder, case)
            found[case.name] = {
                "logits": classifier(features(case)),
                "pooled_output": outputs["pooled_output"],
                "last_hidden_state": outputs["sequence_output"],
            }
        return found[case.name]

    return run


@pytest.fixture(scope="module")
def largest():
    """Collects differences and prints the largest; `pytest -s` shows it."""
    differences = {}
    yield differences
    for key, difference in differences.items():
        print(f"\nlargest difference from PyTorch, {key}: {difference:.1e}")


def assert_near(outputs, expected, case, largest):
    mask = checkpoints.inputs(case)[1]
    assert outputs.keys() == expected.keys()
    for key, value in expected.items():
        assert outputs[key].shape == value.shape, key
        difference = np.abs(outputs[key] - value)
        if key == "last_hidden_state":
            # What a model makes of padding, nobody reads.
            difference = difference * mask[:, :, None]
        largest[key] = max(largest.get(key, 0), difference.max())
        assert difference.max() < 1e-5, key


@each_case
def test_outputs_equal_the_stored_outputs_of_pytorch(case, outputs_of, largest):
    expected = checkpoints.golden("encoder", case)
    assert_near(outputs_of(case), expected, case, largest)


# The stored outputs are live ones of the same cases, so that one here does.
@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=[pytest.mark.slow] if i else [])
        for i, case in enumerate(checkpoints.ENCODER_CASES)
    ],
    ids=lambda case: case.name,
)
def test_outputs_equal_the_live_outputs_of_pytorch(case, outputs_of, largest):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    from tests import torch_reference

    expected = torch_reference.encoder_outputs(case)
    assert_near(outputs_of(case), expected, case, largest)


def test_real_encoder_equals_pytorch(minilm_folder):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    rng = np.random.default_rng(0)
    mask = (np.arange(12) < np.array([[12], [5], [9]])).astype(np.int32)
    ids = rng.integers(1000, 30522, mask.shape).astype(np.int32) * mask
    outputs = Encoder.from_pretrained(minilm_folder)(
        {
            "token_ids": ids,
            "padding_mask": mask,
            "segment_ids": np.zeros_like(mask),
        }
    )
    model = transformers.AutoModel.from_pretrained(minilm_folder).eval()
    with torch.no_grad():
        expected = model(
            input_ids=torch.from_numpy(ids).long(),
            attention_mask=torch.from_numpy(mask).long(),
        )
    hidden = outputs["sequence_output"] * mask[:, :, None]
    expected_hidden = expected.last_hidden_state.numpy() * mask[:, :, None]
    np.testing.assert_allclose(hidden, expected_hidden, atol=1e-5)
    np.testing.assert_allclose(
        outputs["pooled_output"], expected.pooler_output.numpy(), atol=1e-5
    )


# Two halves


@each_opening
@each_family
def test_halves_equal_the_backbone(tiny_encoder, family, perturb_at):
    encoder = tiny_encoder(family, perturb_at=perturb_at)
    inputs = features(case_of(family))
    embeddings = encoder.embed(inputs)
    assert embeddings.shape[-1] == encoder.embedding_dim
    encoded = encoder.encode(embeddings, inputs)
    assert_outputs_of(encoder.backbone, encoded, inputs)
    assert_same_outputs(encoder(inputs), encoded)


def pooled_gradients(encoder, inputs, **options):
    """The pooled output, its square's gradients, and the other outputs."""
    embeddings = encoder.embed(inputs)
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        outputs = encoder.encode(embeddings, inputs, **options)
        pooled = outputs.pop("pooled_output")
        loss = tf.reduce_sum(tf.square(pooled))
    weights = encoder.backbone.trainable_weights
    gradients = tape.gradient(loss, [embeddings, *weights])
    # Of all weights but the first half's.
    gradients = [tf.convert_to_tensor(g) for g in gradients if g is not None]
    return pooled, gradients, outputs


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@each_opening
@each_family
def test_the_pooled_output_alone_is_that_of_the_whole(
    tiny_encoder, family, perturb_at, dropout
):
    """With the same dropout masks, and the same gradients."""
    encoder = tiny_encoder(family, perturb_at=perturb_at, dropout=dropout)
    inputs = features(case_of(family))
    seeds = encoder.non_trainable_variables
    states = [seed.numpy() for seed in seeds]
    pooled, gradients, others = pooled_gradients(
        encoder, inputs, training=True, pooled_only=True
    )
    assert not others
    for seed, state in zip(seeds, states, strict=True):
        seed.assign(state)
    expected, expected_gradients, others = pooled_gradients(
        encoder, inputs, training=True
    )
    assert others["sequence_output"].shape[:2] == inputs["token_ids"].shape
    assert bool(seeds) == bool(dropout)
    np.testing.assert_allclose(pooled, expected, atol=1e-6)
    for found, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@each_opening
@each_family
def test_halves_share_their_weights_with_the_backbone(
    tiny_encoder, family, perturb_at
):
    encoder = tiny_encoder(family, perturb_at=perturb_at)
    expected = {id(weight) for weight in encoder.backbone.weights}
    assert {id(weight) for weight in encoder.weights} == expected
    assert len(encoder.weights) == len(expected)
    inputs = features(case_of(family))
    before = encoder(inputs)["pooled_output"]
    for weight in encoder.backbone.weights:
        weight.assign(weight + 0.1)
    assert np.abs(encoder(inputs)["pooled_output"] - before).max() > 1e-3
    assert_outputs_of(encoder.backbone, encoder(inputs), inputs)


@each_family
def test_word_embeddings_are_rows_of_the_table(tiny_encoder, family):
    encoder = tiny_encoder(family)
    inputs = features(case_of(family))
    table = encoder.token_embedding.embeddings.numpy()
    assert table.shape == (50, encoder.embedding_dim)
    np.testing.assert_array_equal(
        encoder.embed(inputs), table[inputs["token_ids"]]
    )
    assert encoder.embedding_weights == [encoder.token_embedding.embeddings]


@each_family
def test_embedding_block_opens_after_the_layer_norm(tiny_encoder, family):
    encoder = tiny_encoder(family, perturb_at="embedding_block")
    norm = encoder.backbone.get_layer("embeddings_layer_norm")
    norm.gamma.assign(np.ones(norm.gamma.shape))
    norm.beta.assign(np.zeros(norm.beta.shape))
    embeddings = encoder.embed(features(case_of(family))).numpy()
    np.testing.assert_allclose(embeddings.mean(axis=-1), 0, atol=1e-6)
    np.testing.assert_allclose(embeddings.std(axis=-1), 1, atol=1e-5)
    assert len(encoder.embedding_weights) == 5


@each_opening
@each_family
def test_entries_that_the_encoder_does_not_know_are_ignored(
    tiny_encoder, family, perturb_at
):
    encoder = tiny_encoder(family, perturb_at=perturb_at)
    inputs = features(case_of(family))
    extended = inputs | {"index": np.arange(len(inputs["token_ids"]))}
    assert_same_outputs(encoder(extended), encoder(inputs))


@pytest.mark.parametrize("hidden_dropout", [0.0, 0.25])
@each_family
def test_dropout_is_the_configs_or_the_callers(
    tmp_path, family, hidden_dropout
):
    rates = {
        "hidden_dropout_prob": hidden_dropout,
        "attention_probs_dropout_prob": hidden_dropout,
    }
    folder = write(tmp_path, case_of(family, **rates))
    found = Encoder.from_pretrained(folder).backbone.dropout
    assert found == hidden_dropout
    assert Encoder.from_pretrained(folder, dropout=0.5).backbone.dropout == 0.5
    inputs = features(case_of(family))
    encoder = Encoder.from_pretrained(folder, dropout=0.5)
    assert_same_outputs(encoder(inputs), encoder(inputs))
    with pytest.raises(AssertionError):
        assert_same_outputs(
            encoder(inputs, training=True), encoder(inputs, training=True)
        )


def rates(encoder):
    """The dropout rates of an encoder: attention's, and all others."""
    others = {encoder.backbone.embeddings_dropout.rate}
    attention = set()
    for block in encoder.description.blocks:
        attention.add(block.attention_dropout.rate)
        others |= {block.output_dropout.rate, block.feedforward_dropout.rate}
    return attention, others


@pytest.mark.parametrize(("hidden", "attention"), [(0.3, 0.0), (0.0, 0.2)])
@each_family
def test_two_dropout_rates_are_apart(tmp_path, family, hidden, attention):
    case = case_of(
        family,
        hidden_dropout_prob=hidden,
        attention_probs_dropout_prob=attention,
    )
    folder = write(tmp_path, case)
    encoder = Encoder.from_pretrained(folder)
    assert rates(encoder) == ({attention}, {hidden})
    inputs = features(case)
    assert_same_outputs(encoder(inputs), encoder(inputs))
    one, other = (
        encoder(inputs, training=True)["pooled_output"] for _ in range(2)
    )
    assert np.abs(one - other).max() > 1e-3
    found = Encoder.from_config(encoder.get_config())
    assert rates(found) == rates(encoder)
    both = Encoder.from_pretrained(folder, dropout=0.5)
    assert rates(both) == ({0.5}, {0.5})


# Parameter counts


def test_albert_base_has_the_papers_number_of_parameters(tmp_path):
    config = checkpoints.albert_config(30000, 128, 768, 12, 12, 1, 1, 3072, 512)
    (tmp_path / "config.json").write_text(json.dumps(config))
    encoder = Encoder.from_pretrained(tmp_path, load_weights=False)
    classifier = AdversarialClassifier(encoder, num_classes=2)
    assert classifier.count_params() == 11_685_122
    adversarial = AdversarialClassifier(encoder, 2, adversary=FreeLB())
    assert adversarial.count_params() == 11_685_122


@pytest.mark.parametrize(
    "case", checkpoints.ENCODER_CASES[::6], ids=lambda case: case.name
)
def test_parameters_are_the_checkpoints(case, tmp_path):
    encoder = Encoder.from_pretrained(write(tmp_path, case))
    classifier = AdversarialClassifier(encoder, case.num_labels)
    expected = checkpoints.parameter_count(case.config)
    assert classifier.count_params() == expected


def test_load_weights_false_reads_no_weights(tmp_path):
    folder = write(tmp_path, case_of("bert"))
    (folder / "model.safetensors").write_bytes(b"not read")
    encoder = Encoder.from_pretrained(folder, load_weights=False)
    assert encoder.hidden_dim == case_of("bert").config["hidden_size"]


# Layouts of checkpoints


def write_shards(folder, config, tensors, shards=3):
    """A checkpoint in several files, as transformers writes a large one."""
    checkpoints.write_checkpoint(folder, config, tensors)
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for i in range(shards):
        name = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(tensors.items())[i::shards])
        safetensors.numpy.save_file(part, folder / name)
        weight_map |= dict.fromkeys(part, name)
    index = {"metadata": {}, "weight_map": weight_map}
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize("sharded", [False, True], ids=["one_file", "shards"])
@pytest.mark.parametrize("bare", [False, True], ids=["classifier", "bare"])
@each_family
def test_layouts_of_a_checkpoint_load_alike(tmp_path, family, bare, sharded):
    case = case_of(family)
    expected = Encoder.from_pretrained(write(tmp_path / "plain", case))
    tensors = checkpoints.random_tensors(case)
    if bare:
        tensors = {
            name.removeprefix(f"{family}."): tensor
            for name, tensor in tensors.items()
            if not name.startswith("classifier.")
        }
    folder = tmp_path / "other"
    if sharded:
        write_shards(folder, case.config, tensors)
    else:
        checkpoints.write_checkpoint(folder, case.config, tensors)
    found = Encoder.from_pretrained(folder)
    for actual, weight in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(actual, weight)


@pytest.mark.parametrize(
    "index",
    ["{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "b"}}'],
)
@each_family
def test_index_of_shards_that_names_no_weights(tmp_path, family, index):
    case = case_of(family)
    write_shards(tmp_path, case.config, checkpoints.random_tensors(case))
    (tmp_path / "model.safetensors.index.json").write_text(index)
    codes = {
        "bad-index": ["{", "[]", "{}", '{"weight_map": []}'],
        "bad-weights": ['{"weight_map": {"a": "b"}}'],
    }
    [code] = [code for code, indices in codes.items() if index in indices]
    with one_line_error(code):
        Encoder.from_pretrained(tmp_path)


def test_missing_shard(tmp_path):
    case = case_of("bert")
    write_shards(tmp_path, case.config, checkpoints.random_tensors(case))
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    with one_line_error("bad-weights", "model-00002-of-00003.safetensors"):
        Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("segments", [1, 4])
@each_family
def test_any_number_of_segments_loads(tmp_path, family, segments):
    case = case_of(family, type_vocab_size=segments)
    encoder = Encoder.from_pretrained(write(tmp_path, case))
    expected = checkpoints.parameter_count(case.config)
    classifier = AdversarialClassifier(encoder, case.num_labels)
    assert classifier.count_params() == expected


def keras_hub_backbone(family, **options):
    sizes = {
        "vocabulary_size": 50,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 8,
        "intermediate_dim": 16,
        "max_sequence_length": 16,
        **options,
    }
    if family == "albert":
        return keras_hub.models.AlbertBackbone(embedding_dim=6, **sizes)
    return keras_hub.models.BertBackbone(**sizes)


@each_family
def test_keras_hub_preset_loads_and_equals_its_backbone(tmp_path, family):
    backbone = keras_hub_backbone(family, dropout=0.1)
    for weight in backbone.weights:
        weight.assign(weight + np.random.default_rng(1).normal(size=[1]))
    backbone.save_to_preset(str(tmp_path))
    inputs = features(case_of(family))
    encoder = Encoder.from_pretrained(tmp_path)
    assert encoder.activation is None
    assert encoder.backbone.dropout == 0.1
    # Its weights are large, and other ones every time.
    assert_outputs_of(backbone, encoder(inputs), inputs, atol=1e-4)
    without = Encoder.from_pretrained(tmp_path, dropout=0.0)
    assert without.backbone.dropout == 0.0


# Bad folders


def test_no_folder(tmp_path):
    with one_line_error("no-such-folder", "nowhere"):
        Encoder.from_pretrained(tmp_path / "nowhere")


def test_no_config(tmp_path):
    with one_line_error("no-config", "config.json"):
        Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '"bert"', "\x00"])
def test_config_that_is_no_json_object(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with one_line_error("bad-json", "config.json"):
        Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"model_type": 3}'])
def test_config_that_describes_no_encoder(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with one_line_error("no-architecture", "config.json"):
        Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "family", ["distilbert", "roberta", "deberta-v2", "gpt2", "xlnet"]
)
def test_other_families_are_refused(tmp_path, family):
    case = case_of("bert", model_type=family)
    folder = checkpoints.write_checkpoint(
        tmp_path, case.config, checkpoints.random_tensors(case_of("bert"))
    )
    with one_line_error("unsupported-family", family, "albert", "bert"):
        Encoder.from_pretrained(folder)


def test_other_keras_hub_families_are_refused(tmp_path):
    config = {"class_name": "RobertaBackbone", "config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with one_line_error("unsupported-family", "roberta", "albert", "bert"):
        Encoder.from_pretrained(tmp_path)


@each_family
def test_no_weights(tmp_path, family):
    folder = write(tmp_path, case_of(family))
    (folder / "model.safetensors").unlink()
    with one_line_error("no-weights", "model.safetensors"):
        Encoder.from_pretrained(folder)


class Bomb:
    """A pickle that leaves a trace when it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@each_family
def test_a_pickle_is_never_opened(tmp_path, family):
    folder = write(tmp_path / "encoder", case_of(family))
    (folder / "model.safetensors").unlink()
    trace = tmp_path / "trace"
    content = pickle.dumps(Bomb(trace))
    (folder / "pytorch_model.bin").write_bytes(content)
    with one_line_error("no-weights", "pytorch_model.bin", "pickle"):
        Encoder.from_pretrained(folder)
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists()


@pytest.mark.parametrize("kept", [0, 4, 100, 0.5, 0.99])
@each_family
def test_truncated_weights(tmp_path, family, kept):
    path = write(tmp_path, case_of(family)) / "model.safetensors"
    content = path.read_bytes()
    size = int(len(content) * kept) if isinstance(kept, float) else kept
    path.write_bytes(content[:size])
    with one_line_error("bad-weights", str(path)):
        Encoder.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("config", "code"),
    [
        ({"vocab_size": 100}, "wrong-shape"),
        ({"vocab_size": 10}, "wrong-shape"),
        ({"hidden_size": 24}, "wrong-shape"),
        ({"intermediate_size": 48}, "wrong-shape"),
        ({"max_position_embeddings": 64}, "wrong-shape"),
        ({"type_vocab_size": 3}, "wrong-shape"),
        ({"num_hidden_layers": 5}, "missing-tensor"),
        ({"num_attention_heads": 5}, "bad-config"),
        ({"hidden_size": "large"}, "bad-config"),
        ({"vocab_size": None}, "bad-config"),
        ({"hidden_dropout_prob": 1.5}, "bad-config"),
        ({"attention_probs_dropout_prob": -0.1}, "bad-config"),
        # What a missing key means is the family's own number.
        ({"vocab_size": "missing"}, "wrong-shape"),
        ({"hidden_size": "missing"}, "wrong-shape"),
        ({"num_attention_heads": "missing"}, "bad-config"),
    ],
    ids=str,
)
@each_family
def test_config_and_weights_that_do_not_belong_together(
    tmp_path, family, config, code
):
    case = case_of(family)
    if family == "albert" and "num_hidden_layers" in config:
        config = {"num_hidden_groups": 2}
    config = case.config | config
    folder = checkpoints.write_checkpoint(
        tmp_path,
        {key: value for key, value in config.items() if value != "missing"},
        checkpoints.random_tensors(case),
    )
    with one_line_error(code, str(folder)):
        Encoder.from_pretrained(folder)


def test_quantized_weights_are_refused(tmp_path):
    case = case_of("bert")
    tensors = checkpoints.random_tensors(case)
    name = "bert.encoder.layer.1.output.dense.weight"
    tensors[name] = tensors[name].astype(np.int8)
    folder = checkpoints.write_checkpoint(tmp_path, case.config, tensors)
    with one_line_error("wrong-dtype", name, "int8"):
        Encoder.from_pretrained(folder)


@pytest.mark.parametrize(
    "config",
    [
        {"hidden_act": "xielu"},
        {"hidden_act": "gelu_10"},
        {"position_embedding_type": "relative_key"},
        {"position_embedding_type": "relative_key_query"},
        {"is_decoder": True},
        {"add_cross_attention": True},
        {"pruned_heads": {"0": [1]}},
        {"per_layer_config": {"0": {"intermediate_size": 3}}},
    ],
    ids=str,
)
@each_family
def test_what_is_not_computed_is_refused_by_name(tmp_path, family, config):
    folder = write(tmp_path, case_of(family, **config))
    [(name, value)] = config.items()
    with one_line_error("unsupported-config", f"{name}={value!r}"):
        Encoder.from_pretrained(folder)


@each_family
def test_code_that_a_config_names_does_not_run(tmp_path, family):
    trace = tmp_path / "trace"
    (tmp_path / "evil.py").write_text(f"open({str(trace)!r}, 'w')\n")
    case = case_of(family, auto_map={"AutoConfig": "evil.Evil"})
    Encoder.from_pretrained(write(tmp_path, case))
    assert not trace.exists()


def test_constructor_says_what_it_takes():
    with pytest.raises(ValueError, match="AlbertBackbone"):
        Encoder(keras.layers.Dense(2))
    backbone = keras_hub_backbone("bert")
    with pytest.raises(ValueError, match="gelu_new"):
        Encoder(backbone, activation="xielu")
    with pytest.raises(ValueError, match="embedding_block"):
        Encoder(backbone, perturb_at="logits")


# Serialization


@pytest.mark.parametrize(
    ("family", "perturb_at", "activation"),
    [
        ("albert", "word_embeddings", "gelu"),
        ("albert", "embedding_block", "relu"),
        ("bert", "embedding_block", "gelu_new"),
        ("bert", "word_embeddings", "gelu"),
    ],
)
def test_encoder_comes_back_from_its_config(
    tmp_path, family, perturb_at, activation
):
    case = case_of(family, hidden_act=activation)
    encoder = Encoder.from_pretrained(
        write(tmp_path, case), perturb_at=perturb_at
    )
    config = json.loads(json.dumps(encoder.get_config()))
    found = Encoder.from_config(config)
    assert found.get_config() == encoder.get_config()
    assert found.embedding_dim == encoder.embedding_dim
    found.set_weights(encoder.get_weights())
    inputs = features(case)
    assert_same_outputs(found(inputs), encoder(inputs))


@pytest.mark.parametrize("adversary", [None, FreeLB(2, 0.25, 0.5, 0.75)])
@each_family
def test_classifier_comes_back_from_its_config(tiny_encoder, family, adversary):
    classifier = AdversarialClassifier(
        tiny_encoder(family), 3, adversary=adversary, dropout=0.4
    )
    config = json.loads(json.dumps(classifier.get_config()))
    found = AdversarialClassifier.from_config(config)
    assert found.get_config() == classifier.get_config()
    assert found.dropout == found.head_dropout.rate == 0.4
    found.set_weights(classifier.get_weights())
    inputs = features(case_of(family))
    np.testing.assert_array_equal(found(inputs), classifier(inputs))


@pytest.mark.parametrize(
    ("adversary", "perturb_at"),
    [
        (None, "embedding_block"),
        (FreeLB(2, 0.25, 0.5, 0.75), "word_embeddings"),
    ],
)
@each_family
def test_saved_classifier_loads_and_equals(
    tmp_path, tiny_encoder, family, perturb_at, adversary
):
    classifier = AdversarialClassifier(
        tiny_encoder(family, perturb_at=perturb_at), 3, adversary=adversary
    )
    path = tmp_path / "classifier.keras"
    classifier.save(path)
    found = keras.models.load_model(path)
    assert type(found) is AdversarialClassifier
    assert found.encoder.perturb_at == perturb_at
    assert found.encoder.activation == classifier.encoder.activation
    if adversary is None:
        assert found.adversary is None
    else:
        assert type(found.adversary) is FreeLB
        assert found.adversary.get_config() == adversary.get_config()
    inputs = features(case_of(family))
    np.testing.assert_array_equal(found(inputs), classifier(inputs))


@each_family
def test_precision_is_the_callers(tiny_encoder, family):
    encoder = tiny_encoder(family, dtype="mixed_bfloat16")
    inputs = features(case_of(family))
    assert {weight.dtype for weight in encoder.weights} == {"float32"}
    classifier = AdversarialClassifier(encoder, 2)
    logits = classifier(inputs)
    assert logits.dtype == "float32"
    reference = AdversarialClassifier(tiny_encoder(family), 2)
    reference.set_weights(classifier.get_weights())
    expected = reference(inputs)
    np.testing.assert_allclose(logits, expected, atol=0.02)
    assert np.abs(logits - expected).max() > 0
    found = Encoder.from_config(encoder.get_config())
    found.set_weights(encoder.get_weights())
    for name, output in encoder(inputs).items():
        np.testing.assert_array_equal(output, found(inputs)[name])


@pytest.mark.parametrize(
    ("family", "activation"), [("albert", "gelu_new"), ("bert", "gelu")]
)
def test_a_config_without_an_activation_means_the_familys(
    tmp_path, family, activation
):
    folder = write(tmp_path, case_of(family))
    config = json.loads((folder / "config.json").read_text())
    del config["hidden_act"]
    (folder / "config.json").write_text(json.dumps(config))
    assert Encoder.from_pretrained(folder).activation == activation
