"""Descriptions: what is in them, and what nobody computes is refused."""

import dataclasses
import subprocess
import sys

import pytest

from tfadv.encoders import blocks
from tfadv.encoders.description import Dense
from tfadv.errors import InputError

each_family = pytest.mark.parametrize("family", ["albert", "bert"])


def test_it_needs_no_tensorflow():
    code = (
        "import sys, tfadv.encoders.description\n"
        "assert not {'tensorflow', 'keras'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@each_family
def test_it_says_what_the_encoder_is(tiny_encoder, family):
    encoder = tiny_encoder(family, dropout=0.25)
    found = encoder.description
    assert list(found.lookups) == ["token_ids", "positions", "segment_ids"]
    embedding = {"albert": 6, "bert": 8}[family]
    assert [tuple(t.shape) for t in found.lookups.values()] == [
        (50, embedding),
        (24, embedding),
        (2, embedding),
    ]
    assert (found.hidden_dim, found.inner_dim, found.num_heads) == (8, 16, 2)
    assert found.order == {"albert": (0, 0), "bert": (0,)}[family]
    assert found.activation == {"albert": "gelu_new", "bert": "gelu"}[family]
    assert (found.projection is None) == (family == "bert")
    assert found.pooler_activation == "tanh"
    assert found.compute_dtype == "float32"
    [block] = found.blocks
    assert block.attention_dropout.rate == block.output_dropout.rate == 0.25
    assert (
        block.attention_norm.epsilon == found.embeddings_norm.epsilon == 1e-12
    )
    blocks.check_supported(found)


def of_block(**changes):
    def change(description):
        block = description.blocks[0]._replace(**changes)
        return dataclasses.replace(description, blocks=(block,))

    return change


def of_encoder(**changes):
    return lambda description: dataclasses.replace(description, **changes)


UNSUPPORTED = {
    "norm_first": of_block(norm_first=True),
    "gate": of_block(gate=Dense([[1.0]], [1.0])),
    "bias": of_block(inner=Dense([[1.0]], None)),
    "final_norm": of_encoder(final_norm="a norm"),
    "pooler": of_encoder(pooler=None),
    "pooler_activation": of_encoder(pooler_activation="snake"),
    "activation": of_encoder(activation="snake"),
    "attention": of_encoder(attention="disentangled"),
    "lookups": lambda description: dataclasses.replace(
        description, lookups={**description.lookups, "pixels": None}
    ),
}


@pytest.mark.parametrize("change", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_what_nobody_computes_is_refused(tiny_encoder, change):
    description = change(tiny_encoder().description)
    with pytest.raises(InputError) as error:
        blocks.encode(description, None, None, False, False)
    assert error.value.code == "unsupported-encoder"
