"""The encoder families' backbones: built from a config, filled from tensors."""

import dataclasses
import math

import keras
import keras_hub
import numpy as np

from tfadv.encoders import keras_hub_backbones
from tfadv.sources import families
from tfadv.sources.checkpoint import Checkpoint
from tfadv.sources.families import Family

BACKBONES = tuple(
    getattr(keras_hub.models, family.backbone)
    for family in families.FAMILIES.values()
)


def of_backbone(backbone: keras.Model) -> Family:
    """Returns the family of a KerasHub backbone."""
    name = type(backbone).__name__
    [family] = [f for f in families.FAMILIES.values() if f.backbone == name]
    return family


def build(
    checkpoint: Checkpoint,
    dropout: float,
    dtype: keras.DTypePolicy | None = None,
) -> keras.Model:
    """Builds the backbone of a Hugging Face config, with random weights.

    Args:
        checkpoint: `tfadv.sources.checkpoint.Checkpoint`.
        dropout: float, the rate of all of its dropout layers.
        dtype: `keras.DTypePolicy` of its layers.

    Returns:
        `keras_hub.models.AlbertBackbone` or `keras_hub.models.BertBackbone`.

    Raises:
        InputError: the config's sizes make no encoder.
    """
    family = families.family_of(checkpoint)
    sizes = {
        argument: getattr(checkpoint.config, key)
        for argument, key in family.sizes.items()
    }
    try:
        if sizes["hidden_dim"] % sizes["num_heads"]:
            raise ValueError("the heads do not divide the hidden size")
        backbone_class = getattr(keras_hub.models, family.backbone)
        return backbone_class(dropout=dropout, dtype=dtype, **sizes)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        told = ", ".join(
            f"{key}={sizes[argument]}" for argument, key in family.sizes.items()
        )
        raise checkpoint.error(
            "bad-config",
            f"expected the sizes of an encoder in "
            f"{checkpoint.folder / 'config.json'}, found {told} ({reason})",
            "copy it anew from where the encoder comes from",
        ) from error


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A Keras variable, and how PyTorch keeps it.

    Args:
        variable: `keras.Variable`.
        shape: tuple of ints, the tensor's.
        transposed: bool. A dense layer's kernel is `[outputs, inputs]` there
            and `[inputs, outputs]` here, where heads may split either one.
    """

    variable: keras.Variable
    shape: tuple[int, ...]
    transposed: bool = False

    def tensor(self) -> np.ndarray:
        """Returns the variable's value as PyTorch keeps it, float32."""
        array = keras.ops.convert_to_numpy(self.variable).astype(np.float32)
        if self.transposed:
            return array.reshape(self.shape[::-1]).T
        return array.reshape(self.shape)

    def assign(self, tensor: np.ndarray) -> None:
        """Sets the variable to a tensor as PyTorch keeps it."""
        array = tensor.T if self.transposed else tensor
        self.variable.assign(array.reshape(self.variable.shape))


def parameters(backbone: keras.Model) -> dict[str, Parameter]:
    """Maps the names of a checkpoint's tensors to a backbone's variables.

    Args:
        backbone: `keras_hub.models.AlbertBackbone` or
            `keras_hub.models.BertBackbone`.

    Returns:
        dict of `Parameter`s, by the names in a classifier's checkpoint.
    """
    family = of_backbone(backbone)
    modules = {
        theirs: backbone.get_layer(ours)
        for ours, theirs in family.layers.items()
    }
    for block in keras_hub_backbones.blocks(backbone):
        layers = keras_hub_backbones.block_layers(block)
        module = family.block_module(block.name)
        for ours, theirs in family.block_layers.items():
            modules[f"{module}.{theirs}"] = layers[ours]
    return {
        f"{family.name}.{name}.{kind}": parameter
        for name, layer in modules.items()
        for kind, parameter in _parameters_of(layer).items()
    }


def classifier_parameters(classifier: keras.Model) -> dict[str, Parameter]:
    """Maps the names of a checkpoint's tensors to a classifier's variables.

    Args:
        classifier: `tfadv.AdversarialClassifier`.

    Returns:
        dict of `Parameter`s: those of the encoder and of the head.
    """
    head = _parameters_of(classifier.head)
    return parameters(classifier.encoder.backbone) | {
        f"classifier.{kind}": parameter for kind, parameter in head.items()
    }


def _parameters_of(layer):
    weight, *biases = layer.weights
    transposed = isinstance(
        layer, (keras.layers.Dense, keras.layers.EinsumDense)
    )
    shape = tuple(weight.shape)
    if transposed:
        outputs = math.prod(layer.bias.shape)
        shape = (outputs, math.prod(shape) // outputs)
    result = {"weight": Parameter(weight, shape, transposed)}
    for bias in biases:
        result["bias"] = Parameter(bias, (math.prod(bias.shape),))
    return result


def assign(parameters: dict[str, Parameter], checkpoint: Checkpoint) -> None:
    """Sets variables to their values in a checkpoint.

    Args:
        parameters: dict, as `parameters` or `classifier_parameters` return it.
        checkpoint: `tfadv.sources.checkpoint.Checkpoint`.

    Raises:
        InputError: a tensor is missing, or has another shape.
    """
    for name, parameter in parameters.items():
        parameter.assign(checkpoint.tensors.read(name, parameter.shape))
