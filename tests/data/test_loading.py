"""Settings of data lead to texts, and a run's stand in for what is missing."""

import pytest

from tests import tiny_run
from tfadv.data import loading
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with files whose columns have other names."""
    splits = tiny_run.dataset()
    for split in ("train", "dev", "test"):
        tiny_run.write_csv(tmp_path / f"{split}.csv", getattr(splits, split))
        path = tmp_path / f"{split}_stars.csv"
        tiny_run.write_csv(path, getattr(splits, split))
        text = path.read_text().replace("text,label", "body,stars")
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def code_of(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return caught.value.code


def test_film_reviews_are_the_default():
    dataset = loading.load_data()
    assert dataset.name == "movie_reviews"
    assert dataset.source == DataSettings(dataset="movie_reviews")
    assert loading.load_data(dataset.source).train.texts == dataset.train.texts


def test_what_is_recorded_leads_to_the_same_texts_from_anywhere(
    folder, tmp_path_factory, monkeypatch
):
    dataset = loading.load_data(DataSettings(train_file="train.csv"))
    assert dataset.source == DataSettings(train_file=f"{folder}/train.csv")
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    source = DataSettings.from_dict(dataset.source.to_dict())
    assert loading.load_data(source).train.texts == dataset.train.texts


def test_a_shortened_training_set_is_the_same_each_time(folder):
    settings = DataSettings(train_file="train.csv", max_train_examples=7)
    dataset, again = loading.load_data(settings), loading.load_data(settings)
    assert len(dataset.train) == 7
    assert dataset.train.texts == again.train.texts
    whole = loading.load_data(DataSettings(train_file="train.csv")).train.texts
    assert set(dataset.train.texts) <= set(whole)
    more = DataSettings(train_file="train.csv", max_train_examples=10**6)
    assert loading.load_data(more).train.texts == whole


def test_adversaries_come_after_the_training_texts(folder):
    path = folder / "adversaries.jsonl"
    path.write_text('{"reconstruction": "a dull plot", "label": "bad"}\n')
    settings = DataSettings(
        train_file="train.csv", max_train_examples=7, augment_file=path
    )
    train = loading.load_data(settings).train
    assert len(train) == 8
    assert train.texts[-1] == "a dull plot"
    assert train.labels[-1] == 0


@pytest.mark.parametrize(
    ("given", "recorded", "expected"),
    [
        # Nothing says where to read: all is the run's, or what is given.
        ({}, {"test_file": "a", "text_column": "t"}, None),
        (
            {"text_column": "u"},
            {"test_file": "a", "text_column": "t"},
            {"test_file": "a", "text_column": "u"},
        ),
        # Files are given: the columns are the run's.
        (
            {"test_file": "b"},
            {"test_file": "a", "text_column": "t", "label_column": "l"},
            {"test_file": "b", "text_column": "t", "label_column": "l"},
        ),
        (
            {"data_dir": "b", "label_column": "m"},
            {"test_file": "a", "text_column": "t", "label_column": "l"},
            {"data_dir": "b", "text_column": "t", "label_column": "m"},
        ),
        # A dataset has columns of its own.
        (
            {"dataset": "sst2"},
            {"test_file": "a", "text_column": "t"},
            {"dataset": "sst2"},
        ),
        ({"test_file": "b"}, None, {"test_file": "b"}),
    ],
)
def test_what_is_not_given_is_the_runs(given, recorded, expected):
    expected = recorded if expected is None else expected
    recorded = recorded and DataSettings(**recorded)
    found = DataSettings(**given).or_those_of(recorded)
    assert found == DataSettings(**expected)


def test_a_run_without_a_record_of_its_data_needs_some():
    assert code_of(DataSettings().or_those_of, None) == "no-data"


def test_a_split_of_a_file_and_of_many(folder):
    names = ("bad", "good")
    test = tiny_run.dataset().test
    name, examples = loading.load_split(
        DataSettings(test_file="test.csv"), "test", names
    )
    assert name == "test.csv"
    assert examples.texts == test.texts
    assert examples.labels.tolist() == test.labels.tolist()
    stars = DataSettings(
        test_file="test_stars.csv", text_column="body", label_column="stars"
    )
    assert loading.load_split(stars, "test", names)[1].texts == test.texts
    # Without labels.
    assert loading.load_texts(stars, "test") == test.texts
    name, examples = loading.load_split(
        DataSettings(data_dir="."), "dev", names
    )
    assert name == folder.name
    assert examples.texts == tiny_run.dataset().dev.texts


def test_splits_that_there_are_not(folder):
    names = ("bad", "good")
    only_test = DataSettings(test_file="test.csv")
    load = loading.load_split
    assert code_of(load, only_test, "dev", names) == "no-file-of-split"
    assert code_of(loading.load_data, only_test) == "no-train-file"
    (folder / "dev.csv").unlink()
    in_folder = DataSettings(data_dir=".")
    assert code_of(load, in_folder, "dev", names) == "no-such-split"
    assert code_of(load, in_folder, "test", ("a", "b")) == "other-classes"


@pytest.mark.parametrize(
    "given",
    [
        {"data_dir": "d", "train_file": "a.csv"},
        {"data_dir": "d", "dev_file": "a.csv"},
        {"dataset": "sst2", "data_dir": "d", "test_file": "a.csv"},
        {"split_ids_file": "i.json", "train_file": "a.csv"},
        {"dataset": "movie_reviews", "data_dir": "d"},
    ],
    ids=str,
)
def test_sources_exclude_each_other(given):
    assert code_of(lambda: DataSettings(**given)) == "clash"
