"""Sentences of film reviews, positive or negative: a small real dataset."""

import hashlib
import html
import tarfile
import zlib

import numpy as np

from tfadv.datasets.examples import Examples, TextDataset
from tfadv.errors import InputError
from tfadv.sources import pip_archives

SPLIT_SEED = 0
DEV_EXAMPLES = 1000
TEST_EXAMPLES = 1000

_LABEL_NAMES = ("negative", "positive")
_MEMBER = "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt"


def load() -> TextDataset:
    """Loads the film review sentences of Hutto and Gilbert (ICWSM 2014).

    10,605 sentences from Rotten Tomatoes, collected by Pang and Lee, each
    with the mean of at least 20 readers' ratings of its sentiment from -4 to
    4. They come with the source archive of the package vaderSentiment (MIT
    License), which the first call downloads, see `tfadv.sources.pip_archives`.

    A sentence is positive if its rating is above zero (5,242) and negative
    if it is below (5,326); the 37 rated exactly zero are left out. Of
    sentences that are equal but for case and spacing (two pairs) the first
    is kept. The text stays as it is, with the runs of spaces that stand
    where dashes were and `''` for double quotes; only the HTML entity
    `&amp;`, in 22 sentences, becomes the `&` it stands for.

    The splits are the same on every machine: within a class the sentences
    are ordered by a hash of themselves and a fixed seed; the first 500 are
    test, the next 500 dev and the others training examples. So test and dev
    hold both classes in equal parts, and guessing scores 50%. Within a split
    another such hash mixes the classes.

    | split | negative | positive | all   |
    |-------|----------|----------|-------|
    | train | 4,325    | 4,241    | 8,566 |
    | dev   | 500      | 500      | 1,000 |
    | test  | 500      | 500      | 1,000 |

    Returns:
        `tfadv.data.TextDataset` with the label names `negative`, `positive`.

    Raises:
        InputError: if the package cannot be downloaded or its copy in the
            cache is damaged.

    Example:

    ```python
    from tfadv.datasets import movie_reviews

    dataset = movie_reviews.load()
    print(len(dataset.train), dataset.label_names)
    ```
    """
    package = pip_archives.VADER_SENTIMENT
    folder = pip_archives.fetch(package)
    try:
        with tarfile.open(folder / package.wanted) as archive:
            file = archive.extractfile(_MEMBER)
            if file is None:
                raise KeyError(_MEMBER)
            content = file.read().decode("utf-8")
    except (
        OSError,
        EOFError,
        KeyError,
        tarfile.TarError,
        zlib.error,
        UnicodeDecodeError,
    ) as error:
        raise InputError(
            "damaged-download",
            f"the film reviews in {folder} cannot be read",
            "delete that folder, and they are downloaded anew",
            argument="dataset",
            value="movie_reviews",
        ) from error
    train, dev, test = _split(_sentences(content), SPLIT_SEED)
    return TextDataset(
        name="movie_reviews",
        label_names=_LABEL_NAMES,
        train=train,
        dev=dev,
        test=test,
    )


def _sentences(content):
    """Turns the lines `id, mean rating, text` into distinct (text, label)."""
    sentences = {}
    for line in content.splitlines():
        _, rating, text = line.split("\t")
        text = html.unescape(text)
        if float(rating) != 0:
            label = int(float(rating) > 0)
            sentences.setdefault(_normalised(text), (text, label))
    return list(sentences.values())


def _normalised(text):
    return " ".join(text.lower().split())


def _split(sentences, seed):
    """Splits (text, label) pairs, which may come in any order."""
    train, dev, test = [], [], []
    dev_part = DEV_EXAMPLES // len(_LABEL_NAMES)
    test_part = TEST_EXAMPLES // len(_LABEL_NAMES)
    for label in range(len(_LABEL_NAMES)):
        of_class = _shuffled(
            (sentence for sentence in sentences if sentence[1] == label),
            f"split {seed}",
        )
        test += of_class[:test_part]
        dev += of_class[test_part : test_part + dev_part]
        train += of_class[test_part + dev_part :]
    splits = []
    for split in (train, dev, test):
        split = _shuffled(split, f"order {seed}")
        splits.append(
            Examples(
                [text for text, _ in split],
                np.array([label for _, label in split], dtype=np.int32),
            )
        )
    return splits


def _shuffled(sentences, salt):
    # By a hash, as a random generator's stream may change between versions
    # of its library.
    return sorted(
        sentences,
        key=lambda sentence: hashlib.sha256(
            f"{salt} {_normalised(sentence[0])}".encode()
        ).digest(),
    )
