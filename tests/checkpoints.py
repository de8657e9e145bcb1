"""Small random Hugging Face checkpoints that the tests compare models on.

Everything here is numpy: a case (a configuration and a seed) determines its
weights and its batch, so the PyTorch reference and the code under test start
from the same numbers, and `tests/golden` needs to hold only the results.
Names, shapes and configuration fields are written out by hand from the
Hugging Face format; `test_torch_reference.py` checks them against it.
"""

import dataclasses
import functools
import json
import math
import pathlib

import numpy as np
from safetensors.numpy import save_file

GOLDEN_FOLDER = pathlib.Path(__file__).parent / "golden"


@dataclasses.dataclass(frozen=True)
class Case:
    """One model and one batch, both determined by `config` and `seed`."""

    name: str
    config: dict
    seed: int
    batch: int
    tokens: int

    @property
    def family(self):
        """`"albert"` or `"bert"`."""
        return self.config["model_type"]

    @property
    def num_labels(self):
        """The number of classes."""
        return len(self.config["id2label"])

    @property
    def embedding_size(self):
        """The width of the word embeddings, and so of a perturbation."""
        return embedding_size(self.config)


@dataclasses.dataclass(frozen=True)
class FreelbCase(Case):
    """A case with the settings of one FreeLB training step.

    `step_size` is alpha, `init_scale` is gamma and `max_norm` is epsilon,
    where 0 means no limit.
    """

    steps: int
    step_size: float
    init_scale: float
    max_norm: float


def _config(family, num_labels, **values):
    """The fields of `config.json` that both families have."""
    labels = [f"LABEL_{label}" for label in range(num_labels)]
    return {
        "architectures": [f"{family.capitalize()}ForSequenceClassification"],
        "attention_probs_dropout_prob": 0.0,
        "hidden_dropout_prob": 0.0,
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "initializer_range": 0.02,
        "label2id": {label: i for i, label in enumerate(labels)},
        "layer_norm_eps": 1e-12,
        "model_type": family,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        **values,
    }


def albert_config(
    vocab,
    embedding,
    hidden,
    heads,
    layers,
    groups,
    inner,
    intermediate,
    positions,
    act="gelu_new",
    labels=2,
):
    """A complete ALBERT `config.json` without dropout."""
    return _config(
        "albert",
        labels,
        bos_token_id=2,
        classifier_dropout_prob=0.0,
        embedding_size=embedding,
        eos_token_id=3,
        hidden_act=act,
        hidden_size=hidden,
        inner_group_num=inner,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
        num_attention_heads=heads,
        num_hidden_groups=groups,
        num_hidden_layers=layers,
        vocab_size=vocab,
    )


def bert_config(
    vocab,
    hidden,
    heads,
    layers,
    intermediate,
    positions,
    act="gelu",
    labels=2,
):
    """A complete BERT `config.json` without dropout."""
    return _config(
        "bert",
        labels,
        classifier_dropout=None,
        hidden_act=act,
        hidden_size=hidden,
        intermediate_size=intermediate,
        max_position_embeddings=positions,
        num_attention_heads=heads,
        num_hidden_layers=layers,
        position_embedding_type="absolute",
        use_cache=True,
        vocab_size=vocab,
    )


# The arguments of `albert_config` in order, then the batch's rows and tokens.
_ALBERT_CASES = [
    # vocab, embedding, hidden, heads, layers, groups, inner, intermediate,
    # positions, activation, labels, rows, tokens
    (40, 4, 8, 1, 1, 1, 1, 12, 16, "gelu_new", 2, 1, 1),
    (45, 5, 8, 2, 2, 1, 1, 16, 16, "gelu_new", 3, 2, 16),
    (50, 6, 12, 3, 3, 1, 1, 20, 20, "gelu_new", 4, 3, 7),
    (55, 7, 12, 4, 4, 1, 1, 24, 24, "gelu", 5, 4, 11),
    (60, 8, 16, 4, 2, 2, 1, 28, 28, "gelu_new", 2, 5, 9),
    (65, 9, 16, 2, 4, 2, 1, 32, 32, "gelu_new", 3, 1, 13),
    (70, 10, 20, 2, 1, 1, 2, 36, 36, "gelu_new", 4, 2, 18),
    (75, 11, 24, 3, 2, 1, 2, 40, 40, "relu", 5, 3, 5),
    (80, 12, 32, 4, 3, 1, 2, 40, 40, "gelu_new", 2, 4, 12),
    (42, 12, 12, 1, 2, 2, 2, 30, 17, "gelu_new", 3, 5, 6),
    (58, 4, 32, 2, 4, 2, 2, 13, 21, "gelu", 4, 2, 21),
    (71, 8, 20, 4, 4, 2, 2, 17, 33, "gelu_new", 5, 3, 2),
]

# The arguments of `bert_config` in order, then the batch's rows and tokens.
_BERT_CASES = [
    # vocab, hidden, heads, layers, intermediate, positions, activation,
    # labels, rows, tokens
    (40, 8, 1, 1, 12, 16, "gelu", 2, 1, 1),
    (45, 8, 2, 2, 16, 16, "gelu", 3, 2, 16),
    (50, 12, 3, 3, 20, 20, "gelu", 4, 3, 7),
    (55, 12, 4, 4, 24, 24, "gelu_new", 5, 4, 11),
    (60, 16, 4, 1, 28, 28, "gelu", 2, 5, 9),
    (65, 16, 2, 2, 32, 32, "gelu", 3, 1, 13),
    (70, 20, 2, 3, 36, 36, "gelu", 4, 2, 18),
    (75, 24, 3, 4, 40, 40, "relu", 5, 3, 5),
    (80, 32, 4, 1, 40, 40, "gelu", 2, 4, 12),
    (42, 12, 1, 2, 30, 17, "gelu", 3, 5, 6),
    (58, 32, 2, 3, 13, 21, "gelu_new", 4, 2, 21),
    (71, 20, 4, 4, 17, 33, "gelu", 5, 3, 2),
]


def _encoder_cases():
    families = [("albert", albert_config, _ALBERT_CASES, 100)]
    families += [("bert", bert_config, _BERT_CASES, 200)]
    return [
        Case(f"{family}_{i:02d}", make_config(*values), seed + i, rows, tokens)
        for family, make_config, table, seed in families
        for i, (*values, rows, tokens) in enumerate(table)
    ]


def _freelb_case(steps, has_init, has_limit):
    """One FreeLB case; the two families swap roles from one n to the next.

    Epsilon is smaller than alpha, so that the first ascent step already
    leaves the ball, and at least gamma, so that the initial delta (whose norm
    is at most gamma) never does.
    """
    if (steps + has_init + has_limit) % 2:
        groups = 1 if steps < 3 else 2
        config = albert_config(
            40, 6, 12, 2, 2, groups, 1, 20, 16, labels=2 + steps % 3
        )
    else:
        config = bert_config(40, 8, 2, 2, 16, 16, labels=2 + steps % 3)
    init_scale = 0.6 if has_init else 0.0
    max_norm = (0.65 if has_init else 0.3) if has_limit else 0.0
    family = config["model_type"]
    return FreelbCase(
        name=f"{family}_n{steps}_gamma{init_scale}_epsilon{max_norm}",
        config=config,
        seed=300 + 4 * steps + 2 * has_init + has_limit,
        batch=3,
        tokens=9,
        steps=steps,
        step_size=0.9 if has_init else 0.5,
        init_scale=init_scale,
        max_norm=max_norm,
    )


# Of each family one small model, and what else its config may say, a key at a
# time; `None` is the model as it is.
_CONFIG_BASES = {
    "albert": (albert_config(40, 6, 12, 3, 4, 2, 1, 16, 16, labels=3), 400),
    "bert": (bert_config(40, 12, 3, 2, 16, 16, labels=3), 500),
}
_CONFIG_CHANGES = {
    None: [None],
    "vocab_size": [45],
    "embedding_size": [8],
    "hidden_size": [18],
    "num_hidden_layers": [6],
    "num_hidden_groups": [1],
    "inner_group_num": [2],
    "num_attention_heads": [4],
    "intermediate_size": [20],
    "max_position_embeddings": [20],
    "type_vocab_size": [3],
    "hidden_act": ["leaky_relu", "quick_gelu", "relu", "silu"],
    "layer_norm_eps": [1e-5, 0.1],
    "hidden_dropout_prob": [0.3],
    "attention_probs_dropout_prob": [0.2],
    "classifier_dropout": [0.4],
    "classifier_dropout_prob": [0.4],
}


def _config_cases():
    return [
        Case(
            f"{family}_{key}_{value}" if key else family,
            config | ({key: value} if key else {}),
            seed,
            batch=3,
            tokens=9,
        )
        for family, (config, seed) in _CONFIG_BASES.items()
        for key, values in _CONFIG_CHANGES.items()
        if key is None or key in config
        for value in values
    ]


ENCODER_CASES = _encoder_cases()
CONFIG_CASES = _config_cases()
FREELB_CASES = [
    _freelb_case(steps, has_init, has_limit)
    for steps in (1, 2, 3, 4)
    for has_init in (False, True)
    for has_limit in (False, True)
]


def embedding_size(config):
    """The width of the word embeddings."""
    return config.get("embedding_size", config["hidden_size"])


def _dense(name, inputs, outputs):
    """PyTorch keeps a dense layer's kernel as [outputs, inputs]."""
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _layer_norm(name, size):
    return {f"{name}.weight": (size,), f"{name}.bias": (size,)}


def _embeddings(name, config):
    size = embedding_size(config)
    return {
        f"{name}.word_embeddings.weight": (config["vocab_size"], size),
        f"{name}.position_embeddings.weight": (
            config["max_position_embeddings"],
            size,
        ),
        f"{name}.token_type_embeddings.weight": (
            config["type_vocab_size"],
            size,
        ),
        **_layer_norm(f"{name}.LayerNorm", size),
    }


def _albert_layer(name, hidden, intermediate):
    return {
        **_dense(f"{name}.attention.query", hidden, hidden),
        **_dense(f"{name}.attention.key", hidden, hidden),
        **_dense(f"{name}.attention.value", hidden, hidden),
        **_dense(f"{name}.attention.dense", hidden, hidden),
        **_layer_norm(f"{name}.attention.LayerNorm", hidden),
        **_dense(f"{name}.ffn", hidden, intermediate),
        **_dense(f"{name}.ffn_output", intermediate, hidden),
        **_layer_norm(f"{name}.full_layer_layer_norm", hidden),
    }


def _bert_layer(name, hidden, intermediate):
    return {
        **_dense(f"{name}.attention.self.query", hidden, hidden),
        **_dense(f"{name}.attention.self.key", hidden, hidden),
        **_dense(f"{name}.attention.self.value", hidden, hidden),
        **_dense(f"{name}.attention.output.dense", hidden, hidden),
        **_layer_norm(f"{name}.attention.output.LayerNorm", hidden),
        **_dense(f"{name}.intermediate.dense", hidden, intermediate),
        **_dense(f"{name}.output.dense", intermediate, hidden),
        **_layer_norm(f"{name}.output.LayerNorm", hidden),
    }


def tensor_shapes(config):
    """The name and shape of every tensor of a sequence classifier.

    Args:
        config: The contents of `config.json`.

    Returns:
        A dict from Hugging Face state-dict names to shapes.
    """
    hidden = config["hidden_size"]
    intermediate = config["intermediate_size"]
    family = config["model_type"]
    shapes = _embeddings(f"{family}.embeddings", config)
    if family == "albert":
        shapes |= _dense(
            "albert.encoder.embedding_hidden_mapping_in",
            config["embedding_size"],
            hidden,
        )
        for group in range(config["num_hidden_groups"]):
            for layer in range(config["inner_group_num"]):
                name = (
                    f"albert.encoder.albert_layer_groups.{group}"
                    f".albert_layers.{layer}"
                )
                shapes |= _albert_layer(name, hidden, intermediate)
        shapes |= _dense("albert.pooler", hidden, hidden)
    else:
        for layer in range(config["num_hidden_layers"]):
            name = f"bert.encoder.layer.{layer}"
            shapes |= _bert_layer(name, hidden, intermediate)
        shapes |= _dense("bert.pooler.dense", hidden, hidden)
    return shapes | _dense("classifier", hidden, len(config["id2label"]))


def random_tensors(case):
    """The case's weights: a dict from names to float32 arrays.

    They are larger than a fresh model's, so that every part of the model
    visibly changes the outputs, and no bias or LayerNorm scale is trivial.
    """
    rng = np.random.default_rng(case.seed)
    tensors = {}
    for name, shape in sorted(tensor_shapes(case.config).items()):
        values = rng.standard_normal(shape)
        if name.endswith(("LayerNorm.weight", "layer_norm.weight")):
            values = 1 + 0.1 * values
        else:
            values = 0.3 * values
        tensors[name] = values.astype(np.float32)
    return tensors


def inputs(case):
    """The case's batch.

    One row fills all positions, the others end anywhere; padding has token,
    mask and segment 0, and no real token has the padding's id.

    Returns:
        `token_ids, padding_mask, segment_ids`, int32 of shape
        [batch, tokens], and `labels`, int32 of shape [batch].
    """
    rng = np.random.default_rng([case.seed, 1])
    shape = (case.batch, case.tokens)
    lengths = rng.integers(1, case.tokens + 1, size=case.batch)
    lengths[rng.integers(case.batch)] = case.tokens
    padding_mask = np.arange(case.tokens) < lengths[:, None]
    token_ids = rng.integers(1, case.config["vocab_size"], size=shape)
    segment_ids = rng.integers(0, 2, size=shape)
    labels = rng.integers(0, case.num_labels, size=case.batch)
    return (
        (token_ids * padding_mask).astype(np.int32),
        padding_mask.astype(np.int32),
        (segment_ids * padding_mask).astype(np.int32),
        labels.astype(np.int32),
    )


def initial_delta(case):
    """The perturbation that a FreeLB case starts from.

    Given rather than drawn by the code under test, whose random numbers the
    reference could not repeat.

    Returns:
        float32 of shape [batch, tokens, embedding]: uniform in
        +-gamma / sqrt(real tokens * embedding), and 0 at padding.
    """
    _, padding_mask, _, _ = inputs(case)
    rng = np.random.default_rng([case.seed, 2])
    shape = (case.batch, case.tokens, case.embedding_size)
    sizes = padding_mask.sum(axis=1) * case.embedding_size
    delta = rng.uniform(-1, 1, size=shape) * case.init_scale
    delta = delta / np.sqrt(sizes)[:, None, None] * padding_mask[:, :, None]
    return delta.astype(np.float32)


def write_checkpoint(folder, config, tensors):
    """Writes `config.json` and `model.safetensors` as Hugging Face does.

    Args:
        folder: Where to write; created if it does not exist.
        config: The contents of `config.json`.
        tensors: A dict from names to arrays: weights, or anything that has
            the weights' names and shapes, such as their gradients.

    Returns:
        The folder as a `pathlib.Path`.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / "config.json").write_text(text, encoding="utf-8")
    # save_file writes the memory as it lies, whatever the strides say.
    arrays = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def parameter_count(config):
    """The number of weights of a sequence classifier."""
    return sum(math.prod(shape) for shape in tensor_shapes(config).values())


@functools.cache
def _load_golden(kind):
    path = GOLDEN_FOLDER / f"{kind}.npz"
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def activation_inputs():
    """Numbers near zero, where activations bend, and far out."""
    far = [-1e4, -40, -15, 15, 40, 1e4]
    return np.append(np.linspace(-6, 6, 121), far).astype(np.float32)


def golden_activations():
    """The stored results of `torch_reference.activations`."""
    return _load_golden("activations")


def golden(kind, case):
    """The stored results of one case.

    Args:
        kind: `"encoder"`, `"config"` or `"freelb"`, the file to read.
        case: A case of `ENCODER_CASES`, `CONFIG_CASES` or `FREELB_CASES`.

    Returns:
        A dict of arrays without the case's name in the keys, laid out as
        `torch_reference.encoder_outputs`, `torch_reference.config_outputs` or
        `torch_reference.freelb_outputs` returns it.
    """
    prefix = f"{case.name}/"
    return {
        key.removeprefix(prefix): array
        for key, array in _load_golden(kind).items()
        if key.startswith(prefix)
    }


def gradients_of(outputs):
    """The gradients among FreeLB results, under the weights' own names.

    The result can go to `write_checkpoint`, and so through the converter of
    the code under test, to compare gradients variable by variable.
    """
    prefix = "gradient/"
    return {
        key.removeprefix(prefix): array
        for key, array in outputs.items()
        if key.startswith(prefix)
    }


def deltas_of(outputs):
    """The perturbation of every pass among FreeLB results, in order."""
    return [outputs[f"delta/{i}"] for i in range(len(outputs["loss"]))]
