import contextlib
import dataclasses
import json

import numpy as np
import pytest
from absl import flags as absl_flags
from absl.testing import flagsaver

from tests import binaries, tiny_run
from tfadv import command_line
from tfadv.data import data_folder, tfds_datasets
from tfadv.errors import InputError
from tfadv.flags import data

SIZES = {"train": 8, "dev": 2, "test": 3}
NAMES = {
    name: source.label_names for name, source in tfds_datasets.SOURCES.items()
}


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    for name, source in tfds_datasets.SOURCES.items():
        if source.sizes:
            source = dataclasses.replace(source, sizes=SIZES)
            monkeypatch.setitem(tfds_datasets.SOURCES, name, source)


@contextlib.contextmanager
def flags(*arguments):
    """Parses flags as a binary does, and takes them back."""
    with flagsaver.flagsaver():
        absl_flags.FLAGS(["test", *map(str, arguments)])
        yield


def load(*arguments):
    with flags(*arguments):
        return data.load_training_dataset()


def refused(*arguments):
    """Returns the one line that bad flags are answered with."""
    with pytest.raises(InputError) as caught:
        load(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def write(path, rows, columns=("text", "label")):
    """Writes (text, label) as TSV, CSV or JSON Lines."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".jsonl":
        lines = [
            json.dumps(dict(zip(columns, row, strict=True))) for row in rows
        ]
    else:
        comma = "\t" if path.suffix == ".tsv" else ","
        lines = [comma.join(map(str, row)) for row in [columns, *rows]]
    path.write_text("\n".join(lines) + "\n")
    return path


def rows_of(split, labels, count=40):
    """Makes rows of all labels in turn."""
    return [
        (f"{split} text {i}", labels[i % len(labels)]) for i in range(count)
    ]


@pytest.fixture
def sst2(tmp_path):
    folder = tmp_path / "glue"
    columns = ("sentence", "label")
    write(folder / "train.tsv", rows_of("train", (0, 1)), columns)
    write(folder / "dev.tsv", rows_of("dev", (1, 0), 4), columns)
    return folder


@pytest.fixture
def yelp(tmp_path):
    folder = tmp_path / "reviews"
    write(folder / "train.jsonl", rows_of("train", (0, 1)))
    write(folder / "test.csv", rows_of("test", ("positive", "negative")))
    return folder


def test_sst2_from_files(sst2):
    dataset = load("--dataset=sst2", f"--data_dir={sst2}")
    assert dataset.name == "sst2"
    assert dataset.label_names == ("negative", "positive")
    assert dataset.train.texts == [text for text, _ in rows_of("train", "x")]
    assert dataset.train.labels.tolist() == [0, 1] * 20
    assert dataset.train.labels.dtype == np.int32
    assert dataset.dev.labels.tolist() == [1, 0, 1, 0]
    assert dataset.test is None
    assert dataset.ids is None


def test_columns_that_are_given_come_first(tmp_path):
    folder = tmp_path / "mine"
    rows = rows_of("train", ("positive", "negative"))
    write(folder / "train.csv", rows, ("body", "stars"))
    columns = ("--text_column=body", "--label_column=stars")
    for dataset in ("--dataset=sst2", "--dataset=yelp"):
        write(folder / "dev.csv", rows[:2], ("body", "stars"))
        loaded = load(dataset, f"--data_dir={folder}", *columns)
        assert loaded.dev.labels.tolist() == [1, 0]
    assert "no column 'sentence', only 'body', 'stars'" in refused(
        "--dataset=sst2", f"--data_dir={folder}"
    )


def test_without_a_dataset_files_are_taken_as_they_are(tmp_path):
    folder = tmp_path / "yelp"
    write(folder / "train.csv", rows_of("train", ("b", "a")))
    write(folder / "test.tsv", rows_of("test", ("a",), 3))
    dataset = load(f"--data_dir={folder}")
    assert dataset.name == "yelp"
    assert dataset.label_names == ("a", "b")
    assert len(dataset.train) == 40
    assert dataset.dev is None
    assert dataset.test.labels.tolist() == [0, 0, 0]


def test_a_drawn_dataset_is_drawn_from_files_as_from_tfds(yelp):
    dataset = load("--dataset=yelp", f"--data_dir={yelp}")
    rows = {
        "train": lambda: iter([(f"train text {i}", i % 2) for i in range(40)]),
        "test": lambda: iter(
            [(f"test text {i}", 1 - i % 2) for i in range(40)]
        ),
    }
    expected = tfds_datasets.drawn(tfds_datasets.SOURCES["yelp"], rows)
    assert dataset.ids == expected.ids
    for split, size in SIZES.items():
        examples = getattr(dataset, split)
        assert examples.texts == getattr(expected, split).texts
        assert np.bincount(examples.labels).tolist() == [size, size]


def test_with_a_dev_file_nothing_is_drawn(yelp):
    write(yelp / "dev.csv", [("a line\\nbreak", "negative"), ("x", 1)])
    dataset = load("--dataset=yelp", f"--data_dir={yelp}")
    assert len(dataset.train) == len(dataset.test) == 40
    assert dataset.dev.texts == ["a line\nbreak", "x"]
    assert dataset.dev.labels.tolist() == [0, 1]
    assert dataset.ids is None


def test_the_first_five_classes_of_yahoo(tmp_path):
    folder = tmp_path / "yahoo"
    source = tfds_datasets.SOURCES["yahoo"]
    names = (*source.label_names, *source.other_labels)
    for split, labels in (("train", names), ("test", range(10))):
        write(folder / f"{split}.tsv", rows_of(split, labels, 200))
    dataset = load("--dataset=yahoo", f"--data_dir={folder}")
    assert dataset.label_names == source.label_names
    for split, size in SIZES.items():
        examples = getattr(dataset, split)
        assert np.bincount(examples.labels).tolist() == [size] * 5
        for text, label in zip(examples.texts, examples.labels, strict=True):
            assert int(text.split()[-1]) % 10 == label


def test_ids_of_a_run_make_the_same_splits(yelp, tmp_path):
    from tfadv.data import split_ids

    flags_of_data = ("--dataset=yelp", f"--data_dir={yelp}")
    dataset = load(*flags_of_data, "--max_train_examples=5")
    assert len(dataset.train) == len(dataset.ids["train"]) == 5
    path = tmp_path / "split_ids.json"
    content = split_ids.describe(dataset)
    # The ids alone say which rows, in which order.
    content["splits"] = {
        split: ids[::-1] for split, ids in content["splits"].items()
    }
    del content["sha256"]
    path.write_text(json.dumps(content))
    again = load(*flags_of_data, f"--split_ids_file={path}")
    assert again.ids == content["splits"]
    for split in SIZES:
        before, after = getattr(dataset, split), getattr(again, split)
        assert after.texts == before.texts[::-1]
        assert after.labels.tolist() == before.labels[::-1].tolist()


def test_ids_of_other_rows_are_refused(yelp, tmp_path):
    from tfadv.data import split_ids

    flags_of_data = ("--dataset=yelp", f"--data_dir={yelp}")
    path = tmp_path / "split_ids.json"
    content = split_ids.describe(load(*flags_of_data))
    path.write_text(json.dumps(content))
    again = load(*flags_of_data, f"--split_ids_file={path}")
    assert again.train.texts == load(*flags_of_data).train.texts
    write(yelp / "train.jsonl", rows_of("train", (0, 1))[::-1])
    assert refused(*flags_of_data, f"--split_ids_file={path}").startswith(
        f"--split_ids_file={path}: its ids lead to other train texts in this "
        "data than where it was written; "
    )


def ids_file(**changes):
    content = {
        "dataset": "yelp",
        "splits": {"train": ["train/0", "train/1"], "dev": ["train/2"]},
    }
    return {**content, **changes}


BAD_IDS = {
    "no JSON": (b"{", "this is not JSON"),
    "no UTF-8": (b'"\xff"', "this is not JSON"),
    "no object": ([], "expected {"),
    "no splits": ({"dataset": "yelp"}, "expected {"),
    "no train": (ids_file(splits={"dev": ["train/1"]}), "expected {"),
    "unknown split": (
        ids_file(splits={"train": ["train/1"], "x": ["train/2"]}),
        "expected {",
    ),
    "empty": (ids_file(splits={"train": []}), "expected {"),
    "numbers": (ids_file(splits={"train": [1, 2]}), "expected {"),
    "unknown source": (ids_file(splits={"train": ["dev/1"]}), "expected {"),
    "leading zero": (ids_file(splits={"train": ["train/01"]}), "expected {"),
    "other dataset": (
        ids_file(dataset="ag_news"),
        "its rows are of ag_news, the dataset is yelp; give a file of yelp",
    ),
    "a double": (
        ids_file(splits={"train": ["train/3", "train/3"]}),
        "train/3 is in train and again in train; delete one",
    ),
    "in two splits": (
        ids_file(splits={"train": ["train/3"], "test": ["train/3"]}),
        "train/3 is in train and again in test; delete one",
    ),
    "no such row": (
        ids_file(splits={"train": ["train/40", "train/99"]}),
        "the data has no row 'train/40' of the dataset's classes (2 such ids)",
    ),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_bad_ids_are_told(yelp, tmp_path, case):
    content, fragment = BAD_IDS[case]
    path = tmp_path / "ids.json"
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    message = refused(
        "--dataset=yelp", f"--data_dir={yelp}", f"--split_ids_file={path}"
    )
    assert message.startswith(f"--split_ids_file={path}: ")
    assert fragment in message


CLASHES = {
    "a training file": (
        ["--data_dir={yelp}", "--train_file=a.csv"],
        ("--data_dir={yelp}", "--train_file=a.csv clash"),
    ),
    "a dev file": (
        ["--data_dir={yelp}", "--dev_file=a.csv"],
        ("--data_dir={yelp}", "--dev_file=a.csv clash"),
    ),
    "a test file": (
        ["--dataset=sst2", "--data_dir={yelp}", "--test_file=a.csv"],
        ("--dataset=sst2", "--test_file=a.csv clash"),
    ),
    "ids and a training file": (
        ["--split_ids_file=i.json", "--train_file=a.csv"],
        ("--split_ids_file=i.json", "--train_file=a.csv clash"),
    ),
    "film reviews": (
        ["--dataset=movie_reviews", "--data_dir={yelp}"],
        ("--dataset=movie_reviews and --data_dir={yelp} clash",),
    ),
    "an unknown dataset": (
        ["--dataset=imdb", "--data_dir={yelp}"],
        ("there is no dataset 'imdb'; name one of movie_reviews, sst2",),
    ),
    "ids and film reviews": (
        ["--split_ids_file=i.json"],
        ("--split_ids_file=i.json and --dataset=movie_reviews clash",),
    ),
    "ids and SST-2": (
        ["--split_ids_file=i.json", "--dataset=sst2"],
        ("--split_ids_file=i.json and --dataset=sst2 clash",),
    ),
    "ids and SST-2's files": (
        ["--split_ids_file=i.json", "--dataset=sst2", "--data_dir={sst2}"],
        ("--split_ids_file=i.json and {sst2}/dev.tsv clash",),
    ),
    "ids and one's own files": (
        ["--split_ids_file=i.json", "--data_dir={yelp}"],
        ("--split_ids_file=i.json and --data_dir={yelp} clash",),
    ),
    "no file with ids": (
        ["--split_ids_file=i.json", "--data_dir={yelp}", "--dataset=yelp"],
        ("--split_ids_file=i.json: the file cannot be read (No such file",),
    ),
}


@pytest.mark.parametrize("case", CLASHES)
def test_flags_that_clash_are_told(yelp, sst2, case):
    arguments, fragments = CLASHES[case]
    places = {"yelp": yelp, "sst2": sst2}
    message = refused(*(a.format(**places) for a in arguments))
    for fragment in fragments:
        assert fragment.format(**places) in message


def test_a_folder_and_a_file_to_evaluate_on_clash(yelp):
    with (
        flags(f"--data_dir={yelp}", "--test_file=a.csv"),
        pytest.raises(InputError, match=r"--test_file=a\.csv clash"),
    ):
        data.load_split("test", NAMES["yelp"])


def test_bad_folders_are_told(yelp, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    other = write(tmp_path / "other" / "dev.csv", [("x", 1)]).parent
    train = yelp / "train.jsonl"
    for folder, found in (
        (tmp_path / "none", "found nothing"),
        (train, "found a file"),
        (empty, "found an empty folder"),
        (other, "expected train.tsv, train.csv or train.jsonl, found dev.csv"),
    ):
        message = refused(f"--data_dir={folder}")
        assert message.startswith(f"--data_dir={folder}: expected ")
        assert found in message
    write(yelp / "train.csv", [("x", 1)])
    assert "expected one train file, found train.csv, train.jsonl" in refused(
        f"--data_dir={yelp}"
    )


def test_a_drawn_dataset_needs_a_test_file(yelp):
    (yelp / "test.csv").unlink()
    message = refused("--dataset=yelp", f"--data_dir={yelp}")
    assert "found train alone; add a test or a dev file" in message


def test_too_few_rows_are_told(yelp):
    write(yelp / "test.csv", rows_of("test", (0, 1), 4))
    assert refused("--dataset=yelp", f"--data_dir={yelp}").startswith(
        "--dataset=yelp: test holds 2 distinct texts of the class 'negative'"
    )


def test_labels_that_are_not_the_datasets_are_told(sst2):
    write(sst2 / "dev.tsv", [("x", 2)], ("sentence", "label"))
    assert refused("--dataset=sst2", f"--data_dir={sst2}").startswith(
        f"--data_dir {sst2}/dev.tsv, line 2: the label '2' is not one of the "
        "known labels 'negative', 'positive', '0', '1'; "
    )


def test_a_run_is_evaluated_on_the_folder_it_was_trained_on(sst2, tmp_path):
    with flags("--dataset=sst2", f"--data_dir={sst2}"):
        data.load_training_dataset()
        text = command_line.flagfile_text(left_out=[])
    (tmp_path / "flags.cfg").write_text(text)
    with flags():
        data.default_to_run(tmp_path)
        name, examples = data.load_split("dev", NAMES["sst2"])
        assert name == "sst2"
        assert examples.texts == [f"dev text {i}" for i in range(4)]
        with pytest.raises(InputError, match="sst2 has no such split"):
            data.load_split("test", NAMES["sst2"])
    # A folder that is given is another one, with its own classes.
    other = write(sst2.parent / "mine" / "train.csv", [("x", 1), ("y", 2)])
    with flags(f"--data_dir={other.parent}"):
        data.default_to_run(tmp_path)
        with pytest.raises(InputError, match="has the classes 1, 2"):
            data.load_split("train", NAMES["sst2"])


def test_training_writes_the_ids_and_reads_them_back(tmp_path):
    """The binaries, on as many rows as the paper draws."""
    folder = tmp_path / "data"
    classes = tfds_datasets.SOURCES["ag_news"].label_names
    sizes = {"train": 15_500, "test": 500}
    for split, count in sizes.items():
        rows = rows_of(split, range(len(classes)), count * len(classes))
        write(folder / f"{split}.tsv", rows)
    (tmp_path / "encoder").mkdir()
    tiny_run.encoder_folder(tmp_path / "encoder")
    arguments = [
        "--dataset=ag_news",
        f"--data_dir={folder}",
        f"--encoder={tmp_path}/encoder",
        "--max_length=4",
        *("--method=baseline", "--max_steps=1", "--max_train_examples=40"),
    ]
    called = binaries.call(
        "tools.train", *arguments, f"--output_dir={tmp_path}/run"
    )
    assert called.returncode == 0, called.stderr
    written = json.loads((tmp_path / "run" / "split_ids.json").read_text())
    assert written["dataset"] == "ag_news"
    assert {k: len(v) for k, v in written["splits"].items()} == {
        "train": 40,
        "dev": 2000,
        "test": 2000,
    }
    config = (tmp_path / "run" / "flags.cfg").read_text()
    assert f"--data_dir={folder}\n" in config
    dataset = data_folder.load(
        folder,
        "ag_news",
        split_ids_file=tmp_path / "run" / "split_ids.json",
    )
    assert dataset.ids == written["splits"]
