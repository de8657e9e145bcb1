"""What the encoder families call their weights, here and in checkpoints."""

import dataclasses
import math
import operator

import keras
import numpy as np

from tfadv.sources import checkpoint as checkpoints

# KerasHub's name of a layer -> Hugging Face's, behind the family's prefix.
_EMBEDDINGS = {
    "token_embedding": "embeddings.word_embeddings",
    "position_embedding": "embeddings.position_embeddings",
    "segment_embedding": "embeddings.token_type_embeddings",
    "embeddings_layer_norm": "embeddings.LayerNorm",
}
_LAYERS = {
    "albert": {
        **_EMBEDDINGS,
        "embedding_projection": "encoder.embedding_hidden_mapping_in",
        "pooled_dense": "pooler",
    },
    "bert": {**_EMBEDDINGS, "pooled_dense": "pooler.dense"},
}
# The same inside of a Transformer block.
_BLOCK_LAYERS = {
    "albert": {
        "_self_attention_layer.query_dense": "attention.query",
        "_self_attention_layer.key_dense": "attention.key",
        "_self_attention_layer.value_dense": "attention.value",
        "_self_attention_layer.output_dense": "attention.dense",
        "_self_attention_layer_norm": "attention.LayerNorm",
        "_feedforward_intermediate_dense": "ffn",
        "_feedforward_output_dense": "ffn_output",
        "_feedforward_layer_norm": "full_layer_layer_norm",
    },
    "bert": {
        "_self_attention_layer.query_dense": "attention.self.query",
        "_self_attention_layer.key_dense": "attention.self.key",
        "_self_attention_layer.value_dense": "attention.self.value",
        "_self_attention_layer.output_dense": "attention.output.dense",
        "_self_attention_layer_norm": "attention.output.LayerNorm",
        "_feedforward_intermediate_dense": "intermediate.dense",
        "_feedforward_output_dense": "output.dense",
        "_feedforward_layer_norm": "output.LayerNorm",
    },
}
CLASSIFIER_DROPOUT = {
    "albert": "classifier_dropout_prob",
    "bert": "classifier_dropout",
}


@dataclasses.dataclass(frozen=True)
class _Parameter:
    """A Keras variable, and how PyTorch keeps it.

    Args:
        variable: `keras.Variable`.
        shape: tuple of ints, the tensor's.
        transposed: bool. A dense layer's kernel is `[outputs, inputs]` there
            and here `[inputs, outputs]`, either of them split into heads.
    """

    variable: keras.Variable
    shape: tuple
    transposed: bool

    def tensor(self):
        array = as_array(self.variable)
        if self.transposed:
            return array.reshape(self.shape[::-1]).T
        return array.reshape(self.shape)

    def assign(self, tensor):
        array = tensor.T if self.transposed else tensor
        self.variable.assign(array.reshape(self.variable.shape))


def parameters(classifier, family):
    """Maps the names of a checkpoint's tensors to what they are here."""
    parameters = {}
    for name, layer in _modules(classifier, family).items():
        weight, *bias = layer.weights
        dense = isinstance(
            layer, (keras.layers.Dense, keras.layers.EinsumDense)
        )
        shape = tuple(weight.shape)
        if dense:
            outputs = math.prod(layer.bias.shape)
            shape = (outputs, math.prod(shape) // outputs)
        parameters[f"{name}.weight"] = _Parameter(weight, shape, dense)
        for variable in bias:
            shape = (math.prod(variable.shape),)
            parameters[f"{name}.bias"] = _Parameter(variable, shape, False)
    return parameters


def _modules(classifier, family):
    """Maps Hugging Face's names of modules to Keras' layers."""
    backbone = classifier.encoder.backbone
    modules = {
        f"{family}.{theirs}": backbone.get_layer(ours)
        for ours, theirs in _LAYERS[family].items()
    }
    for name, block in _blocks(backbone, family).items():
        for ours, theirs in _BLOCK_LAYERS[family].items():
            layer = operator.attrgetter(ours)(backbone.get_layer(block))
            modules[f"{family}.encoder.{name}.{theirs}"] = layer
    return modules | {"classifier": classifier.head}


def _blocks(backbone, family):
    """Maps Hugging Face's names of the Transformer blocks to KerasHub's."""
    if family == "bert":
        return {
            f"layer.{i}": f"transformer_layer_{i}"
            for i in range(backbone.num_layers)
        }
    return {
        f"albert_layer_groups.{i}.albert_layers.{j}": (
            f"group_{i}_inner_layer_{j}"
        )
        for i in range(backbone.num_groups)
        for j in range(backbone.num_inner_repetitions)
    }


def family_of(classifier):
    """Names the family of a classifier's encoder."""
    name = type(classifier.encoder.backbone).__name__
    return checkpoints.family({"class_name": name})


def as_array(variable):
    """Returns a variable's value as a float32 array."""
    return keras.ops.convert_to_numpy(variable).astype(np.float32)
