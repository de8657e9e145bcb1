import csv
import io
import pathlib
import tarfile
import tempfile

import pytest
import tensorflow_datasets as tfds

from tfadv.datasets import yahoo_answers
from tfadv.errors import InputError

TRAIN = [
    ("1", 'a "quoted" title', "a comma, and\\na line", "yes"),
    ("10", "who?", "", "the mayor\\n\\nof course"),
    ("5", "why?", "", ""),
]
TEST = [("2", "what is π?", "in words", "3.14")]


def csv_bytes(rows):
    text = io.StringIO(newline="")
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows(rows)
    return text.getvalue().encode()


def write_archive(folder, train=None, test=None):
    """Writes the archive; a member is a list of rows or bytes."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / yahoo_answers.ARCHIVE
    # In the real archive too other files come first.
    members = {"classes.txt": b"Society & Culture\n"}
    members["test.csv"] = TEST if test is None else test
    members["train.csv"] = TRAIN if train is None else train
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            if not isinstance(content, bytes):
                content = csv_bytes(content)
            member = tarfile.TarInfo(f"yahoo_answers_csv/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class TestYahooAnswers(tfds.testing.DatasetBuilderTestCase):
    """TFDS' own test of a dataset: registration, splits, features."""

    DATASET_CLASS = yahoo_answers.YahooAnswers
    SPLITS = {"train": len(TRAIN), "test": len(TEST)}  # noqa: RUF012

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.EXAMPLE_DIR = cls.folder.name
        write_archive(cls.EXAMPLE_DIR)
        super().setUpClass()


def prepare(folder):
    builder = yahoo_answers.YahooAnswers(data_dir=folder)
    builder.download_and_prepare()
    return builder


def test_rows_are_read_as_they_were_written(tmp_path):
    write_archive(tmp_path / "downloads" / "manual")
    builder = prepare(tmp_path)
    names = builder.info.features["label"].names
    assert tuple(names) == yahoo_answers.CLASS_NAMES
    rows = {}
    for split in ("train", "test"):
        for row in tfds.as_numpy(builder.as_dataset(split=split)):
            fields = ("question_title", "question_content", "best_answer")
            texts = [row[field].decode() for field in fields]
            rows[split, names[row["label"]]] = texts
    assert rows == {
        ("train", "Society & Culture"): [
            'a "quoted" title',
            "a comma, and\na line",
            "yes",
        ],
        ("train", "Politics & Government"): [
            "who?",
            "",
            "the mayor\n\nof course",
        ],
        ("train", "Computers & Internet"): ["why?", "", ""],
        ("test", "Science & Mathematics"): ["what is π?", "in words", "3.14"],
    }


def check_refused(tmp_path, code, *fragments):
    with pytest.raises(InputError) as caught:
        prepare(tmp_path)
    assert caught.value.code == code
    message = str(caught.value)
    manual = tmp_path / "downloads" / "manual"
    for fragment in (yahoo_answers.ARCHIVE, str(manual), *fragments):
        assert fragment in message
    assert len(message.splitlines()) == 1
    assert not list(tmp_path.glob("yahoo_answers/1*"))


@pytest.mark.parametrize("content", ["nothing", "an empty folder", "others"])
def test_a_missing_archive_is_told(tmp_path, content):
    manual = tmp_path / "downloads" / "manual"
    if content != "nothing":
        manual.mkdir(parents=True)
    if content == "others":
        (manual / "yahoo.zip").write_bytes(b"")
    check_refused(tmp_path, "no-archive")


@pytest.mark.parametrize(
    ("train", "fragment"),
    [
        ([("0", "t", "c", "a")], "row 1 (there is no class 0)"),
        ([*TRAIN, ("11", "t", "c", "a")], "row 4 (there is no class 11)"),
        ([("x", "t", "c", "a")], "row 1 (invalid literal"),
        ([("1", "t", "c")], "row 1 (not enough values"),
        ([*TRAIN, ("1", "t", "c", "a", "b")], "row 4 (too many values"),
        (b'"1","t","c","a', "row 0 (unexpected end of data)"),
        (b'"1","t","c","\xff"\n', "row 0 ('utf-8' codec"),
    ],
)
def test_damaged_rows_are_told(tmp_path, train, fragment):
    write_archive(tmp_path / "downloads" / "manual", train=train)
    check_refused(
        tmp_path, "damaged-download", "yahoo_answers_csv/train.csv", fragment
    )


@pytest.mark.parametrize("damage", ["cut", "no archive", "another one"])
def test_a_damaged_archive_is_told(tmp_path, damage):
    path = write_archive(tmp_path / "downloads" / "manual")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "no archive":
        path.write_bytes(b"<html>quota exceeded</html>")
    else:
        with tarfile.open(path, "w:gz"):
            pass
    check_refused(tmp_path, "damaged-download")
