import csv
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfadv.data import text_files
from tfadv.errors import InputError

# No surrogates, which UTF-8 cannot hold, and no NUL, which is refused.
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
TEXTS = VALUES.filter(str.strip)
LABELS = VALUES.map(str.strip).filter(bool)
ROWS = st.lists(st.tuples(TEXTS, LABELS), min_size=2).filter(
    lambda rows: len({label for _, label in rows}) > 1
)


def write(path, content):
    if isinstance(content, str):
        content = content.encode()
    path.write_bytes(content)
    return path


def read(tmp_path, name, content, **kwargs):
    path = write(tmp_path / name, content)
    return text_files.read_examples(path, "text", "label", **kwargs)


def check(rows, examples, names):
    assert examples.texts == [text for text, _ in rows]
    assert [names[i] for i in examples.labels] == [label for _, label in rows]
    assert examples.labels.dtype == np.int32


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@settings(deadline=None)
@given(
    rows=ROWS,
    # With QUOTE_MINIMAL and another line end, Python's writer leaves a
    # value that holds this one's characters unquoted, against RFC 4180.
    style=st.sampled_from(
        [
            ("\r\n", csv.QUOTE_MINIMAL),
            ("\r\n", csv.QUOTE_ALL),
            ("\n", csv.QUOTE_ALL),
            ("\r", csv.QUOTE_ALL),
        ]
    ),
    encoding=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_csv_round_trip(folder, rows, style, encoding):
    path = folder / "rows.csv"
    end, quoting = style
    with open(path, "w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, lineterminator=end, quoting=quoting)
        writer.writerows([("text", "label"), *rows])
    check(rows, *text_files.read_examples(path, "text", "label"))


@settings(deadline=None)
@given(
    rows=ROWS,
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    ascii_only=st.booleans(),
)
def test_json_round_trip(folder, rows, end, ascii_only):
    path = folder / "rows.jsonl"
    lines = [
        json.dumps({"label": label, "text": text}, ensure_ascii=ascii_only)
        for text, label in rows
    ]
    write(path, end.join(lines))
    check(rows, *text_files.read_examples(path, "text", "label"))


@settings(deadline=None)
@given(rows=ROWS, end=st.sampled_from(["\n", "\r\n", "\r"]))
def test_tsv_round_trip(folder, rows, end):
    path = folder / "rows.tsv"
    # A value holds neither, and quotes are left as they are.
    plain = str.maketrans("\t\r\n", "???")
    rows = [(a.translate(plain), b.translate(plain)) for a, b in rows]
    write(
        path, "".join(f"{a}\t{b}{end}" for a, b in [("text", "label"), *rows])
    )
    check(rows, *text_files.read_examples(path, "text", "label"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_csv_as_spreadsheets_write_it(tmp_path, end):
    content = (
        '\ufeffid,text,label\n1,"one, ""two""",b\n\n2,"three\n\nfour",a\n'
        '3,5" disk,a\n'
    ).replace("\n", end)
    examples, names = read(tmp_path, "a.CSV", content)
    assert examples.texts == ['one, "two"', f"three{end}{end}four", '5" disk']
    assert names == ("a", "b")
    assert examples.labels.tolist() == [1, 0, 0]


def test_tsv_does_not_quote(tmp_path):
    content = 'text\tlabel\n"open\t1\n "" and " \t0\n'
    examples, _ = read(tmp_path, "a.tsv", content)
    assert examples.texts == ['"open', ' "" and " ']


def test_nameless_columns(tmp_path):
    content = ",text,label,,\n0,t,b,,\n1,u,a,,\n"
    check([("t", "b"), ("u", "a")], *read(tmp_path, "a.csv", content))


@pytest.mark.parametrize("space", ["\u2028", "\x85", "\x0b", "\x0c", "\x1c"])
@pytest.mark.parametrize("extension", ["csv", "tsv", "jsonl"])
def test_only_line_ends_end_lines(tmp_path, extension, space):
    rows = [(f"a{space}b", "x"), ("c", "y")]
    if extension == "jsonl":
        lines = [json.dumps({"text": a, "label": b}) for a, b in rows]
    else:
        comma = {"csv": ",", "tsv": "\t"}[extension]
        lines = [comma.join(row) for row in [("text", "label"), *rows]]
    check(rows, *read(tmp_path, f"a.{extension}", "\n".join(lines)))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["b", "10", "9"], ("10", "9", "b")),
        (["1", "01", "1.0"], ("01", "1", "1.0")),
        (["1", "01", "2"], ("01", "1", "2")),
        ([" pos", "pos ", "neg"], ("neg", "pos")),
        (["9" * 5000, "1"], ("1", "9" * 5000)),
    ],
)
def test_label_names(tmp_path, labels, names):
    content = "label,text\n" + "".join(f"{label},t\n" for label in labels)
    assert read(tmp_path, "a.csv", content)[1] == names


def test_json_integers_and_strings_are_one_label(tmp_path):
    content = "".join(
        json.dumps({"text": "t", "label": label}) + "\n"
        for label in [1, "1", -0, "0", 10, "2"]
    )
    examples, names = read(tmp_path, "a.jsonl", content)
    assert names == ("0", "1", "2", "10")
    assert examples.labels.tolist() == [1, 1, 0, 0, 3, 2]


def test_known_label_names_keep_their_order(tmp_path):
    examples, names = read(
        tmp_path, "a.csv", "text,label\nt,a\n", label_names=["b", "a"]
    )
    assert names == ("b", "a")
    assert examples.labels.tolist() == [1]


def test_file_without_labels(tmp_path):
    path = write(tmp_path / "a.csv", "text\nt\n")
    examples, names = text_files.read_examples(path, "text", None, ["a", "b"])
    assert examples.texts == ["t"]
    assert examples.labels is None
    assert names == ("a", "b")


def test_cell_above_the_default_limit(tmp_path):
    limit = csv.field_size_limit()
    text = "long " * limit
    examples, _ = read(tmp_path, "a.csv", f"text,label\n{text},a\nt,b\n")
    assert examples.texts[0] == text
    assert csv.field_size_limit() == limit


def test_load_files(tmp_path):
    train = write(tmp_path / "my.csv", "t,l\nx,b\ny,a\n")
    dev = write(tmp_path / "dev.jsonl", '{"t": "z", "l": "b"}')
    dataset = text_files.load_files(
        str(train), dev, text_column="t", label_column="l"
    )
    assert dataset.name == "my"
    assert dataset.label_names == ("a", "b")
    assert dataset.train.labels.tolist() == [1, 0]
    assert dataset.dev.texts == ["z"]
    assert dataset.dev.labels.tolist() == [1]
    assert dataset.test is None


# Name of the training file, its content, and what the message must say.
BAD_FILES = [
    ("a.csv", None, "--train_file {}: there is no such file; correct"),
    ("a.csv", "folder", "--train_file {}: this is a folder; give a file"),
    ("a", "folder", "--train_file {}: this is a folder; give a file"),
    ("a.txt", b"x", "{}: the name must end in .csv, .tsv or .jsonl"),
    ("a.csv.gz", b"x", "must end in .csv, .tsv or .jsonl"),
    ("a", b"x", "must end in .csv, .tsv or .jsonl"),
    ("a.csv", b"", "--train_file {}: the file is empty; give"),
    ("a.csv", b"\xef\xbb\xbf \n", "the file is empty"),
    ("a.jsonl", b"\n\n", "the file is empty"),
    ("a.csv", b"text,label\n", "{}: there is no example in it, only a header"),
    ("a.tsv", b"text\tlabel", "there is no example in it, only a header"),
    (
        "a.csv",
        b"body,stars\nt,1\n",
        "there is no column 'text', only 'body', 'stars'; name the right one "
        "with --text_column",
    ),
    ("a.csv", b"text, label\nt,1\n", "'label', only 'text', ' label'; name"),
    ("a.csv", b"text;label\nt;1\n", "no column 'text', only 'text;label'"),
    ("a.csv", b"Text,label\nt,1\n", "no column 'text', only 'Text', 'label'"),
    ("a.tsv", b"text\ty\nt\t1\n", "'label', only 'text', 'y'; name the right"),
    ("a.tsv", b"text\ty\nt\t1\n", "the right one with --label_column"),
    (
        "a.jsonl",
        b'{"text": "t", "label": 1}\n\n{"txt": "t"}\n',
        "{}, line 3: there is no column 'text', only 'txt'; name",
    ),
    ("a.jsonl", b'{"text": "t"}\n', "line 1: there is no column 'label'"),
    (
        "a.csv",
        ",".join(f"c{i}" for i in range(15)) + "\n" + "," * 14,
        "'c8', 'c9' and 5 more; name",
    ),
    ("a.csv", b"\ntext,label,text\n1,2,3\n", "line 2: the header has two"),
    (
        "a.csv",
        b'text,label\n"a\n\nb",1\nc,d,1\n',
        "{}, line 5: there are 3 cells where the header has 2; quote values",
    ),
    ("a.csv", b"text,label\nt\n", "line 2: there are 1 cells where"),
    ("a.tsv", b"text\tlabel\r\n\r\na\tb\t1", "line 3: there are 3 cells"),
    (
        "a.csv",
        b'text,label\n"a\nb",1\n"c,1\nd,0\n',
        "{}, line 4: a quote is opened and never closed; close it",
    ),
    ("a.csv", b'text,label\n"a"b,1\n', "line 2: ',' expected after '\"';"),
    (
        "a.jsonl",
        b'{"text": "t", "label": 1}\r{"text": \r',
        "{}, line 2: this is not JSON (Expecting value); write one JSON",
    ),
    ("a.jsonl", b'{"text": "t"} {}\n', "line 1: this is not JSON (Extra"),
    ("a.jsonl", b"[" * 200_000, "line 1: this is not JSON (it is too large"),
    ("a.jsonl", b"1" * 5000, "line 1: this is not JSON (it is too large"),
    ("a.jsonl", b'["t", 1]\n', "line 1: there is ['t', 1] where a JSON object"),
    ("a.jsonl", b"null", "line 1: there is None where a JSON object"),
    ("a.csv", b"text,label\nt,1\n,0\n", "line 3: the text in 'text' is empty;"),
    ("a.csv", b'text,label\n" \n",0\n', "line 2: the text in 'text' is empty"),
    ("a.tsv", "text\tlabel\n\u3000\t0", "line 2: the text in 'text' is empty"),
    ("a.jsonl", b'{"text": "", "label": 1}', "the text in 'text' is empty"),
    ("a.jsonl", b'{"text": null, "label": 1}', "is None, not a string; corr"),
    ("a.jsonl", b'{"text": 5, "label": 1}', "is 5, not a string; correct"),
    (
        "a.jsonl",
        '{"text": ["%s"], "label": 1}' % ("t" * 1000),
        "is ['" + "t" * 55 + "..., not a string",
    ),
    ("a.csv", b"text,label\nt,\n", "line 2: the label in 'label' is missing;"),
    ("a.tsv", b"text\tlabel\nt\t \n", "the label in 'label' is missing; fill"),
    ("a.jsonl", b'{"text": "t", "label": null}', "'label' is missing; fill"),
    ("a.jsonl", b'{"text": "t", "label": true}', "is True, not a string or an"),
    ("a.jsonl", b'{"text": "t", "label": 1.0}', "is 1.0, not a string or an"),
    ("a.jsonl", b'{"text": "t", "label": [1]}', "with --label_column"),
    (
        "a.csv",
        b"\xef\xbb\xbftext,label\r\nt,1\r\ncaf\xe9,0\r\n",
        "{}, line 3: the byte 0xe9 is not UTF-8; save the file in UTF-8",
    ),
    ("a.csv", "text,label\nt,1\n".encode("utf-16"), "line 1: the byte 0xff is"),
    ("a.tsv", b"text\tlabel\rt\t\0\r", "{}, line 2: there is a NUL byte,"),
    ("a.csv", "text,label\n".encode("utf-16-le"), "line 1: there is a NUL"),
    ("a.jsonl", rb'{"text": "\ud83d", "label": 1}', "half a character"),
    ("a.jsonl", rb'{"text": "t", "label": "\u0000"}', "an escape of a NUL"),
    (
        "a.csv",
        b"text,label\nt,1\nu, 1\n",
        "{}: every label is '1', and training needs two classes or more; look "
        "at the file and at --label_column",
    ),
]


@pytest.mark.parametrize(("name", "content", "fragment"), BAD_FILES)
def test_bad_training_file(tmp_path, name, content, fragment):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        write(path, content)
    with pytest.raises(InputError) as caught:
        text_files.load_files(path)
    message = str(caught.value)
    assert message.startswith(f"--train_file {path}")
    assert fragment.replace("{}", str(path)) in message
    assert len(message.splitlines()) == 1
    assert len(message) < 400 + len(str(path))


@pytest.mark.parametrize("flag", ["--dev_file", "--test_file"])
def test_unknown_label(tmp_path, flag):
    train = write(tmp_path / "train.csv", "text,label\nt,pos\nt,neg\n")
    other = write(tmp_path / "other.csv", 'text,label\n"t\n",neg\nt,Pos\n')
    with pytest.raises(InputError) as caught:
        text_files.load_files(train, **{flag.removeprefix("--"): other})
    assert str(caught.value) == (
        f"{flag} {other}, line 4: the label 'Pos' is not one of the known "
        "labels 'neg', 'pos'; correct the label or add its class to the "
        "training file"
    )


def test_message_without_a_flag(tmp_path):
    path = tmp_path / "a.csv"
    with pytest.raises(InputError) as caught:
        text_files.read_examples(path, "text", "label")
    assert str(caught.value).startswith(f"{path}: there is no such file")


def test_text_and_label_are_one_column(tmp_path):
    with pytest.raises(InputError, match="--text_column and --label_column"):
        text_files.read_examples(tmp_path / "a.csv", "text", "text")


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, os.strerror(13))

    path = write(tmp_path / "a.csv", "text,label\nt,1\n")
    monkeypatch.setattr(text_files.pathlib.Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"\(Permission denied\); see to its"):
        text_files.load_files(path)
