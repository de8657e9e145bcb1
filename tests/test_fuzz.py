"""Readers of files give a value or an `InputError`, whatever is in a file."""

import io
import json
import pathlib
import random
import signal
import tempfile

import numpy as np
import pytest

from tests import report_runs, tiny_run
from tfadv.data import text_files
from tfadv.datasets import split_ids
from tfadv.errors import InputError
from tfadv.inference import prediction
from tfadv.report import runs
from tfadv.runs import run_folder
from tfadv.sources.checkpoint import Checkpoint
from tfadv.text.tokenizer import Tokenizer
from tfadv.tuning import search_folder

# Longer than any reader takes on a busy machine.
SECONDS = 20

# Bytes that mean something to some reader.
TOKENS = [
    *(b"\n", b"\r", b"\r\n", b"\n\n", b",", b"\t", b'"', b'""', b"'", b"\\"),
    *(b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xe9", b"\xed\xa0\x80"),
    *("\u2028\x85\x1c\x0b".encode(), b"{", b"}", b"[", b"]", b":", b"{}"),
    *(b"[]", b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-1", b"0"),
    *(b"1" * 20, b"9" * 5000, b"[" * 3000, b'{"a":' * 3000, b"\\u0000"),
    *(b"\\ud800", b"\\u", b"--", b"=", b"--dataset=", b"text", b"label"),
    *(b"train/0", b"format", b"PK\3\4", b"O", b"[PAD]", b"##", b" "),
]

SPLIT_IDS = {
    "dataset": "ag_news",
    "splits": {"train": ["train/0", "train/2"], "dev": ["train/1"]},
    "sha256": {"train": "0" * 64},
}
BERT_CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "vocab_size": 14,
    "architectures": ["BertModel"],
}
HUB_CONFIG = {"class_name": "AlbertBackbone", "config": {"num_layers": 1}}
TOKENIZER = {
    "model": {
        "type": "WordPiece",
        "vocab": {piece: i for i, piece in enumerate(tiny_run.PIECES)},
    },
    "normalizer": {"type": "BertNormalizer", "lowercase": True},
    "added_tokens": [{"id": 14, "content": "[NEW]"}],
}
TOKENIZER_CONFIG = {
    "tokenizer_class": "BertTokenizer",
    "do_lower_case": True,
    "strip_accents": None,
    "tfadv_max_length": 16,
}
SEARCH = {
    "settings": {"method": "rar", "optimization": {"epochs": 2}},
    "tuning": {"steps": [2, 4]},
}


def mutated(content, rng):
    """Changes a file a few times: its bits, its length, its structure."""
    content = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        at = rng.randint(0, len(content))
        to = min(len(content), at + rng.randint(1, 20))
        match rng.randrange(6):
            case 0 if at < len(content):
                content[at] ^= 1 << rng.randrange(8)
            case 1:
                del content[at:]
            case 2:
                del content[at:to]
            case 3:
                content[at:at] = content[at:to] * rng.randint(1, 3)
            case 4:
                content[at:to] = rng.choice(TOKENS)
            case _:
                content[at:at] = rng.choice(TOKENS)
    return bytes(content)


def read_config(path):
    checkpoint = Checkpoint(path.parent)
    assert isinstance(checkpoint.family, str)
    if not checkpoint.is_keras_hub:
        assert checkpoint.config


def a_report_run(folder):
    """A run's folder with all that a report reads."""
    return report_runs.write(folder / "run", "rar", 0, "tiny")


def an_encoder(folder):
    """An encoder's folder with a tokenizer that is to be written."""
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps(BERT_CONFIG))
    return folder / "run"


def an_encoder_with_vocabulary(folder):
    (an_encoder(folder) / "vocab.txt").write_text("\n".join(tiny_run.PIECES))
    return folder / "run"


def an_albert_encoder(folder):
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text('{"model_type": "albert"}')
    return folder / "run"


def spiece_model():
    """A small SentencePiece model."""
    return tiny_run.sentencepiece_model(tiny_run.examples(50, 0).texts, 30)


def an_empty_folder(folder):
    (folder / "run").mkdir()
    return folder / "run"


def in_folder(name):
    """The content of a file as `tests.report_runs` writes it."""
    with tempfile.TemporaryDirectory() as folder:
        return (a_report_run(pathlib.Path(folder)) / name).read_bytes()


def arrays():
    """A small representations.npz, stored and compressed."""
    content = dict(
        labels=np.array([0, 1]),
        clean=np.zeros([2, 2], np.float32),
        attacked=np.zeros([3, 2, 2], np.float32),
    )
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **content)
        yield file.getvalue()


def read_table(path):
    text_files.read_examples(path, "text", "label")


def read_run(path):
    runs.read(path.parent)


def read_tokenizer(path):
    Tokenizer.from_pretrained(path.parent)


def dumped(*contents):
    return [json.dumps(content).encode() for content in contents]


# A file's name, what else there is, valid contents, what reads it, and how
# much dearer it is than others.
READERS = [
    (
        "a.csv",
        an_empty_folder,
        [
            b"text,label\ngood,1\nbad,0\n",
            b'id,text,label\r\n1,"a ""b"",\n c",x\r\n\r\n2,d,y\r\n',
        ],
        read_table,
        1,
    ),
    (
        "a.tsv",
        an_empty_folder,
        [b'text\tlabel\n"good\t1\nbad\t0\n', b"label\ttext\r1\ta\r0\tb"],
        read_table,
        1,
    ),
    (
        "a.jsonl",
        an_empty_folder,
        [
            b'{"text": "good", "label": 1}\n{"text": "b\\u00e9", "label": "0"}',
            b'{"a": [{}], "text": "x", "label": -3}\r\n\r\n'
            b'{"text": "y", "label": "z"}',
        ],
        read_table,
        1,
    ),
    (
        "split_ids.json",
        an_empty_folder,
        dumped(SPLIT_IDS),
        lambda path: split_ids.read(path, "ag_news"),
        1,
    ),
    (
        "search.json",
        an_empty_folder,
        dumped(SEARCH),
        lambda path: search_folder.check_same(path.parent, SEARCH),
        1,
    ),
    (
        "config.json",
        an_empty_folder,
        dumped(BERT_CONFIG, HUB_CONFIG),
        read_config,
        1,
    ),
    (
        "settings.json",
        an_empty_folder,
        [in_folder("settings.json")],
        lambda path: run_folder.read_record(path.parent),
        1,
    ),
    *(
        (name, a_report_run, [in_folder(name)], read_run, 1)
        for name in (
            "results.json",
            "robustness.json",
            "metrics.jsonl",
            "adversaries.jsonl",
            "hotflip.jsonl",
            "updates.jsonl",
        )
    ),
    ("representations.npz", a_report_run, list(arrays()), read_run, 1),
    (
        "vocab.txt",
        an_encoder,
        ["\n".join(tiny_run.PIECES).encode()],
        read_tokenizer,
        10,
    ),
    ("tokenizer.json", an_encoder, dumped(TOKENIZER), read_tokenizer, 10),
    (
        "tokenizer_config.json",
        an_encoder_with_vocabulary,
        dumped(TOKENIZER_CONFIG),
        read_tokenizer,
        10,
    ),
    ("spiece.model", an_albert_encoder, [spiece_model()], read_tokenizer, 20),
    (
        "texts.txt",
        an_empty_folder,
        [b"good\n\nbad\r\n", b"\xef\xbb\xbfone"],
        lambda path: list(prediction.read_file(path)),
        1,
    ),
]
NAMES = [f"{name}, {make.__name__}" for name, make, *_ in READERS]


@pytest.fixture
def folder(tmp_path):
    """A folder in memory where there is one: disks are slower."""
    memory = pathlib.Path("/dev/shm")
    where = memory if memory.is_dir() else tmp_path
    with tempfile.TemporaryDirectory(dir=where) as name:
        yield pathlib.Path(name)


def hang(*_):
    raise TimeoutError("a reader hangs")


def fuzz(reader, folder, count, seed):
    """Has a reader read files until something else than it may happens."""
    name, make, contents, read, dearness = reader
    path = make(folder) / name
    for content in contents:
        path.write_bytes(content)
        read(path)
    rng = random.Random(f"{seed} {name}")
    before = signal.signal(signal.SIGALRM, hang)
    refused = 0
    try:
        for _ in range(count // dearness):
            content = mutated(rng.choice(contents), rng)
            path.write_bytes(content)
            signal.alarm(SECONDS)
            try:
                read(path)
            except InputError as error:
                refused += 1
                assert str(error)
            except Exception as error:
                raise AssertionError(f"{name}: {content!r}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    # Else the changes would have changed nothing, or too much.
    assert 0 < refused < count


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
def test_readers_refuse_or_read(reader, folder):
    fuzz(reader, folder, 2_000, seed=0)


@pytest.mark.slow
def test_readers_refuse_or_read_a_million_files(folder):
    shares = [1 / reader[-1] for reader in READERS]
    count = round(1_000_000 / sum(shares)) + 20
    for i, reader in enumerate(READERS):
        (folder / str(i)).mkdir()
        fuzz(reader, folder / str(i), count, seed=1)
