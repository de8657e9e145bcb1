import collections
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.datasets import test_yahoo_answers
from tfadv.datasets import catalogue, tfds_datasets
from tfadv.errors import InputError

ORIGINAL = dict(tfds_datasets.SOURCES)
SIZES = {"train": 6, "dev": 2, "test": 3}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder where TFDS keeps its data; few rows are drawn."""
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path))
    for name, source in tfds_datasets.SOURCES.items():
        if source.sizes:
            source = dataclasses.replace(source, sizes=SIZES)
            monkeypatch.setitem(tfds_datasets.SOURCES, name, source)
    return tmp_path


def rows_of(builder, split, count=60):
    """Makes rows of a builder's features, each with a text of its own."""
    classes = builder.info.features["label"].num_classes
    texts = [
        name
        for name, feature in builder.info.features.items()
        if isinstance(feature, tfds.features.Text)
    ]
    rows = {
        name: [f"{name} of {split} {i}" for i in range(count)] for name in texts
    }
    rows["label"] = np.arange(count) % classes
    if "idx" in builder.info.features:
        rows["idx"] = np.arange(count, dtype=np.int32)
    return rows


def mocked():
    def as_dataset(self, split, **kwargs):
        return tf.data.Dataset.from_tensor_slices(rows_of(self, split))

    return tfds.testing.mock_data(as_dataset_fn=as_dataset)


def splits_of(dataset):
    return {
        name: getattr(dataset, name)
        for name in ("train", "dev", "test")
        if getattr(dataset, name) is not None
    }


def test_sst2_is_used_as_it_is():
    with mocked():
        dataset = catalogue.load("sst2")
    assert dataset.name == "sst2"
    assert dataset.label_names == ("negative", "positive")
    assert dataset.train.texts[:2] == [
        "sentence of train 0",
        "sentence of train 1",
    ]
    assert dataset.train.labels.tolist() == [0, 1] * 30
    assert dataset.train.labels.dtype == np.int32
    assert dataset.dev.texts[59] == "sentence of validation 59"
    assert dataset.test is None
    assert dataset.ids is None


@pytest.mark.parametrize(
    ("name", "classes", "text"),
    [
        ("yelp", 2, "text of {split} {i}"),
        ("ag_news", 4, "title of {split} {i} description of {split} {i}"),
        (
            "yahoo",
            5,
            "question_title of {split} {i} question_content of {split} {i} "
            "best_answer of {split} {i}",
        ),
    ],
)
def test_splits_are_drawn_from_train_and_test(monkeypatch, name, classes, text):
    # Yahoo! Answers has ten classes, of which the first five are drawn.
    in_source = 10 if name == "yahoo" else classes
    sizes = {"train": 3, "dev": 1, "test": 2}
    source = dataclasses.replace(tfds_datasets.SOURCES[name], sizes=sizes)
    monkeypatch.setitem(tfds_datasets.SOURCES, name, source)
    with mocked():
        dataset = catalogue.load(name)
    assert dataset.name == name
    assert len(dataset.label_names) == classes
    for split, examples in splits_of(dataset).items():
        assert len(examples) == classes * sizes[split]
        rows = zip(
            dataset.ids[split], examples.texts, examples.labels, strict=True
        )
        for row, drawn, label in rows:
            origin, position = row.split("/")
            assert origin == ("test" if split == "test" else "train")
            assert drawn == text.format(split=origin, i=position)
            assert label == int(position) % in_source
        assert np.bincount(examples.labels).tolist() == (
            [sizes[split]] * classes
        )


def test_the_papers_counts():
    sources = {
        name: (source.sizes, source.label_names)
        for name, source in ORIGINAL.items()
    }
    counts = {
        name: {split: size * len(labels) for split, size in sizes.items()}
        for name, (sizes, labels) in sources.items()
        if sizes
    }
    of_each = {"train": 60_000, "dev": 2_000, "test": 2_000}
    assert counts == dict.fromkeys(("yelp", "ag_news", "yahoo"), of_each)


@pytest.mark.parametrize("name", tfds_datasets.SOURCES)
def test_label_names_are_in_the_order_of_tfds(name):
    source = tfds_datasets.SOURCES[name]
    if source.module:
        names = test_yahoo_answers.yahoo_answers.CLASS_NAMES
    else:
        names = tfds.builder(source.builder).info.features["label"].names
    if name == "yelp":
        # TFDS calls them "1" and "2"; the negative class is 1.
        assert names == ["1", "2"]
    else:
        assert (*source.label_names, *source.other_labels) == tuple(names)


def store(folder, name, version, train, test, shards=1):
    """Writes a prepared copy as TFDS would have it."""
    builder = tfds.builder(name, data_dir=folder)
    assert str(builder.version) == version
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version=version,
        features=builder.info.features,
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices(train),
            "test": tf.data.Dataset.from_tensor_slices(test),
        },
        data_dir=folder,
        download_config=tfds.download.DownloadConfig(num_shards=shards),
    )
    return tfds.builder(name, data_dir=folder)


def test_ids_are_rows_of_a_prepared_copy(folder):
    builder = tfds.builder("ag_news_subset", data_dir=folder)
    train, test = (
        rows_of(builder, split, count=120) for split in ("train", "test")
    )
    # In several files, which TFDS would read in turns.
    builder = store(folder, "ag_news_subset", "1.0.0", train, test, shards=3)
    dataset = catalogue.load("ag_news")
    for split, examples in splits_of(dataset).items():
        for row, text in zip(dataset.ids[split], examples.texts, strict=True):
            origin, position = row.split("/")
            part = f"{origin}[{position}:{int(position) + 1}]"
            [found] = tfds.as_numpy(builder.as_dataset(split=part))
            joined = found["title"] + b" " + found["description"]
            assert text == joined.decode()


def test_texts_are_cleaned_and_empty_parts_left_out(folder):
    manual = folder / "downloads" / "manual"
    rows = [
        (str(label), f"title {i} of {label}", content, "an\\nanswer")
        for label in range(1, 11)
        for i, content in enumerate(["", " ", "a\\nb", "c", "d", "", "e", "f"])
    ]
    test_yahoo_answers.write_archive(
        manual, train=rows, test=[(a, f"test {b}", c, d) for a, b, c, d in rows]
    )
    dataset = catalogue.load("yahoo")
    assert dataset.label_names[0] == "Society & Culture"
    texts = [*dataset.train.texts, *dataset.dev.texts]
    assert sorted(text for text in texts if "of 2" in text) == [
        "title 0 of 2 an\nanswer",
        "title 1 of 2 an\nanswer",
        "title 2 of 2 a\nb an\nanswer",
        "title 3 of 2 c an\nanswer",
        "title 4 of 2 d an\nanswer",
        "title 5 of 2 an\nanswer",
        "title 6 of 2 e an\nanswer",
        "title 7 of 2 f an\nanswer",
    ]
    classes = collections.Counter(text.split()[3] for text in texts)
    assert classes == {str(label): 8 for label in range(1, 6)}


def test_no_network_is_told_in_one_line(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise requests.ConnectionError("no\nnetwork")

    monkeypatch.setattr(requests.Session, "get", refuse)
    for name in ("sst2", "yelp", "ag_news"):
        with pytest.raises(InputError) as caught:
            catalogue.load(name)
        error = caught.value
        assert error.code == "not-prepared"
        assert (error.argument, error.value) == ("dataset", name)
        assert str(folder) in error.problem
        assert "ConnectionError: no network" in error.problem


def test_a_missing_archive_is_told(folder):
    with pytest.raises(InputError) as caught:
        catalogue.load("yahoo")
    assert caught.value.code == "no-archive"
    assert str(folder / "downloads" / "manual") in caught.value.problem


def test_a_damaged_copy_is_told(folder):
    builder = tfds.builder("ag_news_subset", data_dir=folder)
    rows = rows_of(builder, "train")
    builder = store(folder, "ag_news_subset", "1.0.0", rows, rows)
    for path in folder.glob("ag_news_subset/1.0.0/*train.tfrecord*"):
        path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(InputError) as caught:
        catalogue.load("ag_news")
    assert caught.value.code == "damaged-download"
    assert str(builder.data_dir) in caught.value.problem


def test_too_few_rows_name_the_dataset(folder):
    builder = tfds.builder("ag_news_subset", data_dir=folder)
    train, test = (
        rows_of(builder, split, count=20) for split in ("train", "test")
    )
    store(folder, "ag_news_subset", "1.0.0", train, test)
    with pytest.raises(InputError) as caught:
        catalogue.load("ag_news")
    error = caught.value
    assert error.code == "too-few-rows"
    assert (error.argument, error.value) == ("dataset", "ag_news")


def test_tfds_is_imported_only_when_it_is_needed():
    code = (
        "import sys\n"
        "from tfadv.data import data_folder\n"
        "from tfadv.datasets import catalogue\n"
        "heavy = {'tensorflow', 'tensorflow_datasets'}\n"
        "sys.exit(len(heavy & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
