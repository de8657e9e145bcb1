import dataclasses
import json

import numpy as np
import pytest

from tests import tiny_run
from tests.tools import in_process
from tfadv.data import data_folder, loading
from tfadv.data.settings import DataSettings
from tfadv.datasets import split_ids, tfds_datasets
from tfadv.errors import InputError

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


def refused(**settings):
    """Returns the error that bad settings are answered with."""
    with pytest.raises(InputError) as caught:
        load(**settings)
    assert "\n" not in str(caught.value)
    return caught.value


def load(**settings):
    return loading.load_data(DataSettings(**settings))


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
    dataset = load(dataset="sst2", data_dir=sst2)
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
    columns = {"text_column": "body", "label_column": "stars"}
    for dataset in ("sst2", "yelp"):
        write(folder / "dev.csv", rows[:2], ("body", "stars"))
        loaded = load(dataset=dataset, data_dir=folder, **columns)
        assert loaded.dev.labels.tolist() == [1, 0]
    error = refused(dataset="sst2", data_dir=folder)
    assert error.code == "no-such-column"
    assert "'sentence'" in error.problem


def test_without_a_dataset_files_are_taken_as_they_are(tmp_path):
    folder = tmp_path / "yelp"
    write(folder / "train.csv", rows_of("train", ("b", "a")))
    write(folder / "test.tsv", rows_of("test", ("a",), 3))
    dataset = load(data_dir=folder)
    assert dataset.name == "yelp"
    assert dataset.label_names == ("a", "b")
    assert len(dataset.train) == 40
    assert dataset.dev is None
    assert dataset.test.labels.tolist() == [0, 0, 0]


def test_a_drawn_dataset_is_drawn_from_files_as_from_tfds(yelp):
    dataset = load(dataset="yelp", data_dir=yelp)
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
    dataset = load(dataset="yelp", data_dir=yelp)
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
    dataset = load(dataset="yahoo", data_dir=folder)
    assert dataset.label_names == source.label_names
    for split, size in SIZES.items():
        examples = getattr(dataset, split)
        assert np.bincount(examples.labels).tolist() == [size] * 5
        for text, label in zip(examples.texts, examples.labels, strict=True):
            assert int(text.split()[-1]) % 10 == label


def test_ids_of_a_run_make_the_same_splits(yelp, tmp_path):
    settings = {"dataset": "yelp", "data_dir": yelp}
    dataset = load(**settings, max_train_examples=5)
    assert len(dataset.train) == len(dataset.ids["train"]) == 5
    path = tmp_path / "split_ids.json"
    content = split_ids.describe(dataset)
    # The ids alone say which rows, in which order.
    content["splits"] = {
        split: ids[::-1] for split, ids in content["splits"].items()
    }
    del content["sha256"]
    path.write_text(json.dumps(content))
    again = load(**settings, split_ids_file=path)
    assert again.ids == content["splits"]
    for split in SIZES:
        before, after = getattr(dataset, split), getattr(again, split)
        assert after.texts == before.texts[::-1]
        assert after.labels.tolist() == before.labels[::-1].tolist()


def test_ids_of_other_rows_are_refused(yelp, tmp_path):
    settings = {"dataset": "yelp", "data_dir": yelp}
    path = tmp_path / "split_ids.json"
    content = split_ids.describe(load(**settings))
    path.write_text(json.dumps(content))
    again = load(**settings, split_ids_file=path)
    assert again.train.texts == load(**settings).train.texts
    write(yelp / "train.jsonl", rows_of("train", (0, 1))[::-1])
    error = refused(**settings, split_ids_file=path)
    assert error.code == "other-texts"
    assert (error.argument, error.value) == ("split_ids_file", str(path))


def ids_file(**changes):
    content = {
        "dataset": "yelp",
        "splits": {"train": ["train/0", "train/1"], "dev": ["train/2"]},
    }
    return {**content, **changes}


BAD_IDS = {
    "no JSON": (b"{", "bad-json"),
    "no UTF-8": (b'"\xff"', "bad-json"),
    "no object": ([], "not-split-ids"),
    "no splits": ({"dataset": "yelp"}, "not-split-ids"),
    "no train": (ids_file(splits={"dev": ["train/1"]}), "not-split-ids"),
    "unknown split": (
        ids_file(splits={"train": ["train/1"], "x": ["train/2"]}),
        "not-split-ids",
    ),
    "empty": (ids_file(splits={"train": []}), "not-split-ids"),
    "numbers": (ids_file(splits={"train": [1, 2]}), "not-split-ids"),
    "unknown source": (
        ids_file(splits={"train": ["dev/1"]}),
        "not-split-ids",
    ),
    "leading zero": (
        ids_file(splits={"train": ["train/01"]}),
        "not-split-ids",
    ),
    "other dataset": (ids_file(dataset="ag_news"), "ids-of-another-dataset"),
    "a double": (
        ids_file(splits={"train": ["train/3", "train/3"]}),
        "id-twice",
    ),
    "in two splits": (
        ids_file(splits={"train": ["train/3"], "test": ["train/3"]}),
        "id-twice",
    ),
    "no such row": (
        ids_file(splits={"train": ["train/40", "train/99"]}),
        "no-such-row",
    ),
}


@pytest.mark.parametrize("case", BAD_IDS)
def test_bad_ids_are_told(yelp, tmp_path, case):
    content, code = BAD_IDS[case]
    path = tmp_path / "ids.json"
    if not isinstance(content, bytes):
        content = json.dumps(content).encode()
    path.write_bytes(content)
    error = refused(dataset="yelp", data_dir=yelp, split_ids_file=path)
    assert error.code == code
    assert (error.argument, error.value) == ("split_ids_file", str(path))


@pytest.mark.parametrize(
    "given",
    [
        {"split_ids_file": "i.json"},
        {"split_ids_file": "i.json", "dataset": "sst2"},
        {"split_ids_file": "i.json", "dataset": "sst2", "data_dir": "{sst2}"},
        {"split_ids_file": "i.json", "data_dir": "{yelp}"},
    ],
    ids=str,
)
def test_ids_of_splits_that_are_not_drawn_clash(yelp, sst2, given):
    places = {"yelp": yelp, "sst2": sst2}
    given = {name: value.format(**places) for name, value in given.items()}
    error = refused(**given)
    assert error.code == "clash"
    assert error.argument == "split_ids_file"


def test_bad_folders_are_told(yelp, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    other = write(tmp_path / "other" / "dev.csv", [("x", 1)]).parent
    for folder, code in (
        (tmp_path / "none", "no-such-folder"),
        (yelp / "train.jsonl", "no-such-folder"),
        (empty, "no-train-file"),
        (other, "no-train-file"),
    ):
        error = refused(data_dir=folder)
        assert error.code == code
        assert (error.argument, error.value) == ("data_dir", str(folder))
    write(yelp / "train.csv", [("x", 1)])
    assert refused(data_dir=yelp).code == "several-files-of-split"


def test_a_drawn_dataset_needs_a_test_file(yelp):
    (yelp / "test.csv").unlink()
    error = refused(dataset="yelp", data_dir=yelp)
    assert error.code == "no-file-of-split"


def test_too_few_rows_are_told(yelp):
    write(yelp / "test.csv", rows_of("test", (0, 1), 4))
    error = refused(dataset="yelp", data_dir=yelp)
    assert error.code == "too-few-rows"
    assert (error.argument, error.value) == ("dataset", "yelp")


def test_labels_that_are_not_the_datasets_are_told(sst2):
    write(sst2 / "dev.tsv", [("x", 2)], ("sentence", "label"))
    error = refused(dataset="sst2", data_dir=sst2)
    assert error.code == "unknown-label"
    assert (error.argument, error.value) == ("data_dir", str(sst2))
    assert error.problem.startswith("dev.tsv: line 2: ")


def test_training_writes_the_ids_and_reads_them_back(tmp_path):
    folder = tmp_path / "data"
    classes = tfds_datasets.SOURCES["ag_news"].label_names
    sizes = {"train": 10, "test": 3}
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
        *("--method=baseline", "--max_steps=1", "--max_train_examples=20"),
    ]
    called = in_process.call(
        "train", [*arguments, f"--output_dir={tmp_path}/run"]
    )
    assert called.returncode == 0, called.stderr
    written = json.loads((tmp_path / "run" / "split_ids.json").read_text())
    assert written["dataset"] == "ag_news"
    assert {k: len(v) for k, v in written["splits"].items()} == {
        "train": 20,
        "dev": 8,
        "test": 12,
    }
    config = (tmp_path / "run" / "flags.cfg").read_text()
    assert f"--data_dir={folder}\n" in config
    dataset = data_folder.load(
        folder,
        "ag_news",
        split_ids_file=tmp_path / "run" / "split_ids.json",
    )
    assert dataset.ids == written["splits"]
