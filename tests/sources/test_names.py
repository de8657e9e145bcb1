"""The name of an encoder becomes a folder with its files."""

import huggingface_hub
import keras_hub
import pytest

from tests import tiny_run
from tfadv.encoders.encoder import Encoder
from tfadv.errors import InputError
from tfadv.sources import names
from tfadv.text.tokenizer import Tokenizer


def test_an_opened_checkpoint_is_itself(tmp_path):
    checkpoint = names.open_checkpoint(tmp_path)
    assert checkpoint.folder == tmp_path
    assert names.open_checkpoint(checkpoint) is checkpoint


def test_a_folder_is_itself(tmp_path):
    assert names.resolve(tmp_path) == tmp_path
    assert names.resolve(str(tmp_path)) == tmp_path


def test_a_packaged_encoder_comes_through_pip(minilm_folder):
    assert names.resolve("all-minilm-l6-v2") == minilm_folder


def test_a_hub_name_is_read_from_the_hubs_cache(tmp_path, monkeypatch):
    """The hub's own code finds a snapshot that was downloaded before."""
    repository = tmp_path / "models--someone--tiny-bert"
    snapshot = repository / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    tiny_run.encoder_folder(snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    download = huggingface_hub.snapshot_download
    asked = {}

    def offline(name, **options):
        asked.update(options)
        return download(
            name, cache_dir=tmp_path, local_files_only=True, **options
        )

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert names.resolve("someone/tiny-bert") == snapshot
    assert Encoder.from_pretrained("someone/tiny-bert").hidden_dim == 8
    tokenizer = Tokenizer.from_pretrained("someone/tiny-bert", 8)
    assert tokenizer(["good film"])["token_ids"].shape == (1, 4)
    # What could be a pickle is not even downloaded.
    assert not {"*", "*.bin", "*.pt", "*.h5"} & set(asked["allow_patterns"])


def test_a_kerashub_preset_is_stored_once(tmp_path, monkeypatch):
    monkeypatch.setenv("TFADV_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "encoder"
    folder.mkdir()
    backbone = Encoder.from_pretrained(tiny_run.encoder_folder(folder)).backbone
    tokenizer = keras_hub.tokenizers.BertTokenizer(
        vocabulary=tiny_run.PIECES, lowercase=True
    )
    name = "bert_base_en_uncased"
    assert name in keras_hub.models.BertBackbone.presets
    calls = []
    monkeypatch.setattr(
        keras_hub.models.BertBackbone,
        "from_preset",
        lambda preset: calls.append(preset) or backbone,
    )
    monkeypatch.setattr(
        keras_hub.models.Tokenizer, "from_preset", lambda preset: tokenizer
    )
    stored = names.resolve(name)
    assert names.resolve(name) == stored
    assert calls == [name]
    monkeypatch.undo()
    assert Encoder.from_pretrained(stored).hidden_dim == 8
    assert Tokenizer.from_pretrained(stored, 8).vocabulary_size == 14


@pytest.mark.parametrize("name", ["./none", "/none/at/all", "~/none", ""])
def test_a_path_that_is_no_folder_is_refused(name):
    with pytest.raises(InputError) as caught:
        names.resolve(name)
    assert caught.value.code == "no-such-folder"
    assert caught.value.value == name


def test_a_name_that_nobody_knows_is_refused_in_one_line(monkeypatch):
    def missing(name, **options):
        raise OSError("no such repository\nlook it up")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", missing)
    with pytest.raises(InputError) as caught:
        names.resolve("someone/nothing")
    assert caught.value.code == "no-such-encoder"
    assert "\n" not in str(caught.value)
