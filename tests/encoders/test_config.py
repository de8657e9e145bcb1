"""Every key of transformers' configs is honoured, or refused, or of no effect.

A new version of transformers that has a new key fails the first test: somebody
must then say what the key means here.
"""

import numpy as np
import pytest
import transformers

from tests import checkpoints
from tfadv.encoders.encoder import Encoder
from tfadv.sources.checkpoint import Checkpoint
from tfadv.sources.families import FAMILIES, classifier_dropout

# Keys that change what a model computes; `checkpoints.CONFIG_CASES` has a case
# for each of them, and PyTorch's result.
HONOURED = {
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "max_position_embeddings", "type_vocab_size"),
    *("embedding_size", "num_hidden_groups", "inner_group_num"),
    *("hidden_act", "layer_norm_eps"),
    *("hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("classifier_dropout", "classifier_dropout_prob"),
}
# Keys that are honoured where a classifier or a masked-LM head is opened.
# tests/export/test_hugging_face.py is about them.
HONOURED_ELSEWHERE = {
    *("architectures", "id2label", "label2id", "problem_type"),
    "tie_word_embeddings",
}
WITHOUT_EFFECT = {
    "_name_or_path": "where the config came from",
    "bos_token_id": "for generating text",
    "chunk_size_feed_forward": "the same numbers, computed in parts",
    "dtype": "the weights' own precision; they are read as float32",
    "eos_token_id": "for generating text",
    "initializer_range": "of random weights; all weights are read",
    "model_type": "the family itself",
    "output_attentions": "what PyTorch returns besides",
    "output_hidden_states": "what PyTorch returns besides",
    "pad_token_id": "the tokenizer says which it is",
    "return_dict": "how PyTorch returns it",
    "transformers_version": "who wrote it",
    "use_cache": "of a decoder",
}

each_family = pytest.mark.parametrize("family", FAMILIES)
each_case = pytest.mark.parametrize(
    "case", checkpoints.CONFIG_CASES, ids=lambda case: case.name
)


@each_family
def test_each_key_of_transformers_is_in_one_of_the_tables(family):
    keys = set(transformers.AutoConfig.for_model(family).to_dict())
    tables = [
        HONOURED,
        HONOURED_ELSEWHERE,
        set(WITHOUT_EFFECT),
        set(FAMILIES[family].only),
    ]
    assert {
        key: sum(key in t for t in tables) for key in keys
    } == dict.fromkeys(keys, 1)


@each_family
def test_refused_keys_are_so_unless_they_have_their_default(family):
    config = transformers.AutoConfig.for_model(family).to_dict()
    for key, value in FAMILIES[family].only.items():
        assert config.get(key, value) == value, key


@each_family
def test_each_honoured_key_has_a_case(family):
    keys = HONOURED & set(transformers.AutoConfig.for_model(family).to_dict())
    names = [case.name for case in checkpoints.CONFIG_CASES]
    for key in keys:
        assert any(name.startswith(f"{family}_{key}_") for name in names), key


def outputs_of(case, folder):
    """The outputs and dropout rates, as `torch_reference.config_outputs`."""
    tensors = checkpoints.random_tensors(case)
    checkpoints.write_checkpoint(folder, case.config, tensors)
    checkpoint = Checkpoint(folder)
    encoder = Encoder.from_pretrained(checkpoint)
    token_ids, padding_mask, segment_ids, _ = checkpoints.inputs(case)
    outputs = encoder(
        {
            "token_ids": token_ids,
            "padding_mask": padding_mask,
            "segment_ids": segment_ids,
        }
    )
    pooled = outputs["pooled_output"].numpy()
    block = encoder.description.blocks[0]
    return {
        "logits": pooled @ tensors["classifier.weight"].T
        + tensors["classifier.bias"],
        "pooled_output": pooled,
        "last_hidden_state": outputs["sequence_output"].numpy(),
        "dropout_rates": np.array(
            [
                encoder.backbone.embeddings_dropout.rate,
                block.attention_dropout.rate,
                block.output_dropout.rate,
                block.feedforward_dropout.rate,
                classifier_dropout(checkpoint),
            ]
        ),
    }


@each_case
def test_a_key_has_the_effect_that_it_has_in_pytorch(case, tmp_path):
    expected = checkpoints.golden("config", case)
    found = outputs_of(case, tmp_path)
    assert found.keys() == expected.keys()
    real = checkpoints.inputs(case)[1].astype(bool)
    for key, value in expected.items():
        if key == "last_hidden_state":
            # What a model makes of padding, nobody reads.
            found[key], value = found[key][real], value[real]
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)


@each_case
def test_a_changed_key_has_an_effect(case):
    if case.name == case.family:
        pytest.skip("the model as it is")
    [base] = [c for c in checkpoints.CONFIG_CASES if c.name == case.family]
    changed = checkpoints.golden("config", case)
    assert any(
        value.shape != changed[key].shape
        or np.abs(value - changed[key]).max() > 1e-5
        for key, value in checkpoints.golden("config", base).items()
    )
