"""Settings and encoders that several test modules use."""

import gc
import os

import pytest

from tests import checkpoints

# Before TensorFlow and transformers are imported, which read them only then.
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TRANSFORMERS_VERBOSITY"] = "error"


def pytest_collection_modifyitems(items):
    """The longest tests come first, so that no process waits for one."""
    items.sort(key=lambda item: item.path.name != "test_replicas.py")


def pytest_collection_finish():
    """What has been imported stays: the garbage collector passes it over."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def minilm_folder():
    """A real BERT encoder with its vocabulary, as a Python package has it."""
    from tfadv.sources import pip_archives

    return pip_archives.encoder_folder("all-minilm-l6-v2")


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """Builds small encoders; equal arguments give equal weights."""
    from tfadv.encoders.encoder import Encoder

    configs = {
        "albert": checkpoints.albert_config(50, 6, 8, 2, 2, 1, 1, 16, 24),
        "bert": checkpoints.bert_config(50, 8, 2, 1, 16, 24),
    }
    folders = {}
    for seed, (family, config) in enumerate(configs.items()):
        case = checkpoints.Case(family, config, seed, batch=1, tokens=1)
        folders[family] = checkpoints.write_checkpoint(
            tmp_path_factory.mktemp(family),
            config,
            checkpoints.random_tensors(case),
        )

    def build(family="bert", **options):
        return Encoder.from_pretrained(folders[family], **options)

    return build
