import collections
import hashlib
import random
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfadv.datasets import drawing
from tfadv.errors import InputError

NAMES = ("a", "b")
# Few texts, so that some are equal and some equal but for case and spacing.
TEXTS = st.text("aA b", max_size=4)
# A label of 2 is of no class that is drawn.
ROWS = st.lists(st.tuples(TEXTS, st.integers(0, 2)), max_size=60)


def digest(text):
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def starts(train, test):
    return {"train": lambda: iter(train), "test": lambda: iter(test)}


def naive_draw(train, test, sizes, num_classes, seed):
    """All in memory, by sorting all that there is."""
    kept = {}
    candidates = [
        (name, digest(text), label, position, text)
        for name, rows in (("test", test), ("train", train))
        for position, (text, label) in enumerate(rows)
        if text.strip() and label < num_classes
    ]
    for candidate in sorted(candidates):
        kept.setdefault(" ".join(candidate[-1].lower().split()), candidate)
    splits = {"train": [], "dev": [], "test": []}
    for label in range(num_classes):
        for name, parts in (("test", ["test"]), ("train", ["dev", "train"])):
            texts = sorted(
                (
                    text
                    for text, row in kept.items()
                    if row[0] == name and row[2] == label
                ),
                key=lambda text: digest(f"split {seed} {text}"),
            )
            for part in parts:
                count = sizes[part]
                if len(texts) < count:
                    return None
                splits[part] += texts[:count]
                texts = texts[count:]
    return {
        part: [
            f"{kept[text][0]}/{kept[text][3]}"
            for text in sorted(
                texts,
                key=lambda text: digest(
                    f"order {seed} {digest(f'split {seed} {text}')}"
                ),
            )
        ]
        for part, texts in splits.items()
    }


@settings(deadline=None, max_examples=300)
@given(
    train=ROWS,
    test=ROWS,
    sizes=st.fixed_dictionaries(
        {split: st.integers(0, 3) for split in ("train", "dev", "test")}
    ),
    seed=st.integers(0, 3),
)
def test_it_is_the_naive_drawing(train, test, sizes, seed):
    expected = naive_draw(train, test, sizes, len(NAMES), seed)
    sources = starts(train, test)
    if expected is None:
        with pytest.raises(InputError, match="distinct texts"):
            drawing.draw(sources, sizes, NAMES, seed)
    else:
        assert drawing.draw(sources, sizes, NAMES, seed) == expected


def sentences(source, count):
    return [(f"{source} text {i}", i % 2) for i in range(count)]


TRAIN, TEST = sentences("train", 400), sentences("test", 100)
SIZES = {"train": 40, "dev": 10, "test": 20}


def test_classes_are_equal_and_mixed():
    sources = starts(TRAIN, TEST)
    splits = drawing.pick(sources, drawing.draw(sources, SIZES, NAMES), 2)
    assert list(splits) == ["train", "dev", "test"]
    for name, split in splits.items():
        assert np.bincount(split.labels).tolist() == [SIZES[name]] * 2
        assert split.labels.dtype == np.int32
        source = "test" if name == "test" else "train"
        for text, label in zip(split.texts, split.labels, strict=True):
            assert text.startswith(source)
            assert int(text.split()[-1]) % 2 == label
    assert 0.3 < splits["train"].labels[:40].mean() < 0.7


def test_texts_do_not_depend_on_the_order_of_rows_but_on_the_seed():
    # These differ in case alone: which one is kept must not depend on order.
    train = [*TRAIN, *((text.upper(), label) for text, label in TRAIN)]
    sources = starts(train, TEST)
    splits = drawing.pick(sources, drawing.draw(sources, SIZES, NAMES), 2)
    shuffled = list(train)
    random.Random(0).shuffle(shuffled)
    sources = starts(shuffled, TEST[::-1])
    again = drawing.pick(sources, drawing.draw(sources, SIZES, NAMES), 2)
    other_seed = drawing.draw(sources, SIZES, NAMES, seed=1)
    other = drawing.pick(sources, other_seed, 2)
    for name in splits:
        assert again[name].texts == splits[name].texts
        assert set(other[name].texts) != set(splits[name].texts)


def test_no_text_is_drawn_twice():
    # Each training text is there in two spellings with two labels, and
    # some are test texts as well.
    train = [
        row
        for text, label in [*TRAIN, *TEST[:50]]
        for row in ((text, label), (f" {text.title()}", 1 - label))
    ]
    sources = starts(train, TEST)
    sizes = {**SIZES, "test": 50}
    splits = drawing.pick(sources, drawing.draw(sources, sizes, NAMES), 2)
    texts = collections.Counter(
        " ".join(text.lower().split())
        for split in splits.values()
        for text in split.texts
    )
    assert set(texts.values()) == {1}
    assert set(splits["test"].texts) == {text for text, _ in TEST}


def test_the_drawing_does_not_change():
    # Whoever changes this makes reported numbers incomparable.
    ids = drawing.draw(
        starts(TRAIN, TEST), {"train": 2, "dev": 1, "test": 1}, NAMES
    )
    assert ids == {
        "train": ["train/372", "train/94", "train/345", "train/105"],
        "dev": ["train/69", "train/326"],
        "test": ["test/45", "test/98"],
    }


class Text(str):
    """A text that can be watched."""


def test_few_texts_are_alive_at_a_time():
    alive = weakref.WeakSet()
    most = 0

    def start(source, count):
        nonlocal most
        for i in range(count):
            text = Text(f"{source} text {i}")
            alive.add(text)
            most = max(most, len(alive))
            yield text, i % 2

    sources = {
        "train": lambda: start("train", 2000),
        "test": lambda: start("test", 500),
    }
    ids = drawing.draw(sources, SIZES, NAMES)
    assert most <= 2
    splits = drawing.pick(sources, ids, 2)
    chosen = sum(map(len, splits.values()))
    assert chosen == 2 * sum(SIZES.values())
    assert chosen <= most <= chosen + 2


def test_too_few_rows_are_told():
    with pytest.raises(InputError) as caught:
        drawing.draw(starts(TRAIN, TEST), {**SIZES, "train": 191}, NAMES)
    assert caught.value.code == "too-few-rows"
    assert caught.value.problem == (
        "expected 201 distinct texts of the class 'a' in train, to draw train; "
        "found 200"
    )


@pytest.mark.parametrize("row", ["train/400", "dev/1", "train/1x"])
def test_a_row_that_is_not_there_is_told(row):
    with pytest.raises(InputError) as caught:
        drawing.pick(
            starts(TRAIN, TEST), {"train": [row, "train/1"]}, 2, "ids.json"
        )
    error = caught.value
    assert error.code == "no-such-row"
    assert (error.argument, error.value) == ("split_ids_file", "ids.json")
    assert f"'{row}'" in error.problem


def test_a_row_of_another_class_is_not_there():
    with pytest.raises(InputError, match="'train/1'") as caught:
        drawing.pick(starts(TRAIN, TEST), {"train": ["train/1"]}, 1)
    assert caught.value.code == "no-such-row"
