"""Files of texts and folders of encoders that are not as they must be."""

import shutil

from tests.tools import bad_input
from tests.tools.bad_input import (
    DRAWN,
    MEASURERS,
    NO_FILES,
    TRAINERS,
    USERS,
)

TEXTS = [
    # Files that cannot be read.
    (TRAINERS, "--train_file={d}/none.csv", "no-such-file"),
    (TRAINERS, "--dev_file={d}/none.csv", "no-such-file"),
    (TRAINERS, "--augment_file={d}/none.jsonl", "no-such-file"),
    (USERS, "--test_file={d}/none.csv", "no-such-file"),
    ("predict", "--texts_file={d}/none.txt", "no-such-file"),
    (TRAINERS, "--train_file={d}/folder.csv", "is-a-folder"),
    (USERS, "--test_file={d}/folder.csv", "is-a-folder"),
    ("predict", "--texts_file={d}/encoder", "is-a-folder"),
    (TRAINERS, "--train_file={d}/link.csv", "no-such-file"),
    (USERS, "--test_file={d}/link.csv", "no-such-file"),
    (f"{TRAINERS} {USERS}", "--test_file={d}/texts.doc", "unknown-format"),
    # Their content.
    (TRAINERS, "--train_file={d}/empty.csv", "empty-file"),
    (USERS, "--test_file={d}/empty.csv", "empty-file"),
    ("predict", "--texts_file={d}/empty.csv", "no-texts", ""),
    (TRAINERS, "--dev_file={d}/header.csv", "empty-file"),
    (TRAINERS, "--train_file={d}/latin.csv", "not-utf8"),
    (USERS, "--test_file={d}/latin.csv", "not-utf8"),
    ("predict", "--texts_file={d}/latin.csv", "not-utf8"),
    (TRAINERS, "--train_file={d}/nul.csv", "nul-byte"),
    ("predict", "--texts_file={d}/nul.csv", "nul-byte"),
    (TRAINERS, "--train_file={d}/broken.jsonl", "bad-json"),
    (TRAINERS, "--train_file={d}/blank.csv", "bad-text"),
    (USERS, "--test_file={d}/blank.csv", "bad-text"),
    # Columns.
    (TRAINERS, "--train_file={d}/body.csv", "no-such-column"),
    (USERS, "--test_file={d}/body.csv", "no-such-column"),
    (
        f"{TRAINERS} {MEASURERS} export",
        "--test_file={d}/test.csv --label_column=text",
        "one-column",
    ),
    # Classes.
    (TRAINERS, "--train_file={d}/one_class.csv", "one-class"),
    (TRAINERS, "--dev_file={d}/ugly.csv", "unknown-label"),
    ("train", "--test_file={d}/ugly.csv", "unknown-label"),
    (f"{MEASURERS} export", "--test_file={d}/ugly.csv", "unknown-label"),
    (TRAINERS, "--augment_file={d}/ugly.jsonl", "unknown-label"),
    (TRAINERS, "--augment_file={d}/dev.csv", "not-adversaries"),
    # Folders of texts.
    (TRAINERS, f"{NO_FILES} --data_dir={{d}}/none", "no-such-folder"),
    (TRAINERS, f"{NO_FILES} --data_dir={{d}}/train.csv", "no-such-folder"),
    (TRAINERS, f"{NO_FILES} --data_dir={{d}}/encoder", "no-train-file"),
    (TRAINERS, f"{NO_FILES} --data_dir={{d}}/bodies", "no-such-column"),
    # Splits.
    ("tune", "--dev_file=", "no-dev-split", ""),
    (MEASURERS, "--test_file={d}/test.csv --split=dev", "no-file-of-split"),
    (
        f"{MEASURERS} predict",
        "--data_dir={d}/bodies --text_column=body --label_column=stars "
        "--split=dev",
        "no-such-split",
    ),
    # Drawn rows.
    (TRAINERS, f"{DRAWN} --split_ids_file={{d}}/none.json", "no-such-file"),
    (TRAINERS, f"{DRAWN} --split_ids_file={{d}}/latin.csv", "bad-json"),
    (TRAINERS, f"{DRAWN} --split_ids_file={{d}}/twice.json", "id-twice"),
    (TRAINERS, f"{DRAWN} --split_ids_file={{d}}/beyond.json", "no-such-row"),
    (
        TRAINERS,
        f"{DRAWN} --split_ids_file={{d}}/yelp.json",
        "ids-of-another-dataset",
    ),
    (TRAINERS, DRAWN, "too-few-rows", "--dataset=ag_news"),
]

ENCODERS = [
    (TRAINERS, "--encoder={d}/none", "no-such-folder"),
    (TRAINERS, "--encoder=no-such-encoder", "no-such-encoder"),
    (TRAINERS, "--max_length=1000", "max-length-too-large", "--encoder"),
    (TRAINERS, "--encoder={d}/encoder_without_config", "no-config"),
    (TRAINERS, "--encoder={d}/encoder_with_broken_config", "bad-json"),
    (TRAINERS, "--encoder={d}/encoder_with_latin_config", "bad-json"),
    (TRAINERS, "--encoder={d}/encoder_of_other_family", "unsupported-family"),
    (TRAINERS, "--encoder={d}/encoder_without_vocabulary", "missing-file"),
    (TRAINERS, "--encoder={d}/encoder_with_empty_vocabulary", "missing-pieces"),
    (TRAINERS, "--encoder={d}/encoder_with_latin_vocabulary", "bad-text"),
    (
        TRAINERS,
        "--encoder={d}/encoder_with_long_vocabulary",
        "vocabulary-too-large",
    ),
]
# A search looks at weights when it trains: the same command resumes it.
WEIGHTS = [
    (TRAINERS, "--encoder={d}/encoder_without_heads", "bad-config"),
    (TRAINERS, "--encoder={d}/encoder_of_other_shapes", "wrong-shape"),
    (TRAINERS, "--encoder={d}/encoder_without_weights", "no-weights"),
    (TRAINERS, "--encoder={d}/encoder_truncated", "bad-weights"),
    (TRAINERS, "--encoder={d}/encoder_of_pickle", "no-weights"),
    (TRAINERS, "--encoder={d}/encoder_of_hidden_pickle", "bad-weights"),
]


@bad_input.cases(TEXTS)
def test_bad_texts(tool, arguments, code, where, runs, untouched):
    bad_input.check(tool, arguments, code, where, untouched)


@bad_input.cases(ENCODERS)
def test_bad_encoders(tool, arguments, code, where, untouched):
    bad_input.check(tool, arguments, code, where, untouched)


@bad_input.cases(WEIGHTS)
def test_bad_weights(tool, arguments, code, where, inputs):
    try:
        bad_input.check(tool, arguments, code, where, inputs)
        assert tool == "tune" or not (inputs / "out").exists()
    finally:
        shutil.rmtree(inputs / "out", ignore_errors=True)
