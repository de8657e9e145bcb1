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
    assert len(examples.labels) == 0
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


# Name of the training file, its content, the error's code, and the line that
# it names.
BAD_FILES = [
    ("a.csv", None, "no-such-file", None),
    ("a.csv", "folder", "is-a-folder", None),
    ("a", "folder", "is-a-folder", None),
    ("a.txt", b"x", "unknown-format", None),
    ("a.csv.gz", b"x", "unknown-format", None),
    ("a", b"x", "unknown-format", None),
    ("a.csv", b"", "empty-file", None),
    ("a.csv", b"\xef\xbb\xbf \n", "empty-file", None),
    ("a.jsonl", b"\n\n", "empty-file", None),
    ("a.csv", b"text,label\n", "empty-file", None),
    ("a.tsv", b"text\tlabel", "empty-file", None),
    ("a.csv", b"body,stars\nt,1\n", "no-such-column", 2),
    ("a.csv", b"text, label\nt,1\n", "no-such-column", 2),
    ("a.csv", b"text;label\nt;1\n", "no-such-column", 2),
    ("a.csv", b"Text,label\nt,1\n", "no-such-column", 2),
    ("a.tsv", b"text\ty\nt\t1\n", "no-such-column", 2),
    (
        "a.jsonl",
        b'{"text": "t", "label": 1}\n\n{"txt": "t"}\n',
        "no-such-column",
        3,
    ),
    ("a.jsonl", b'{"text": "t"}\n', "no-such-column", 1),
    ("a.csv", b"\ntext,label,text\n1,2,3\n", "bad-csv", 2),
    ("a.csv", b'text,label\n"a\n\nb",1\nc,d,1\n', "bad-csv", 5),
    ("a.csv", b"text,label\nt\n", "bad-csv", 2),
    ("a.tsv", b"text\tlabel\r\n\r\na\tb\t1", "bad-csv", 3),
    ("a.csv", b'text,label\n"a\nb",1\n"c,1\nd,0\n', "bad-csv", 4),
    ("a.csv", b'text,label\n"a"b,1\n', "bad-csv", 2),
    (
        "a.jsonl",
        b'{"text": "t", "label": 1}\r{"text": \r',
        "bad-json",
        2,
    ),
    ("a.jsonl", b'{"text": "t"} {}\n', "bad-json", 1),
    ("a.jsonl", b"[" * 200_000, "bad-json", 1),
    ("a.jsonl", b"1" * 5000, "bad-json", 1),
    ("a.jsonl", b'["t", 1]\n', "bad-json", 1),
    ("a.jsonl", b"null", "bad-json", 1),
    ("a.csv", b"text,label\nt,1\n,0\n", "bad-text", 3),
    ("a.csv", b'text,label\n" \n",0\n', "bad-text", 2),
    ("a.tsv", "text\tlabel\n\u3000\t0", "bad-text", 2),
    ("a.jsonl", b'{"text": "", "label": 1}', "bad-text", 1),
    ("a.jsonl", b'{"text": null, "label": 1}', "bad-text", 1),
    ("a.jsonl", b'{"text": 5, "label": 1}', "bad-text", 1),
    ("a.jsonl", '{"text": ["%s"], "label": 1}' % ("t" * 1000), "bad-text", 1),
    ("a.csv", b"text,label\nt,\n", "bad-label", 2),
    ("a.tsv", b"text\tlabel\nt\t \n", "bad-label", 2),
    ("a.jsonl", b'{"text": "t", "label": null}', "bad-label", 1),
    ("a.jsonl", b'{"text": "t", "label": true}', "bad-label", 1),
    ("a.jsonl", b'{"text": "t", "label": 1.0}', "bad-label", 1),
    ("a.jsonl", b'{"text": "t", "label": [1]}', "bad-label", 1),
    (
        "a.csv",
        b"\xef\xbb\xbftext,label\r\nt,1\r\ncaf\xe9,0\r\n",
        "not-utf8",
        3,
    ),
    ("a.csv", "text,label\nt,1\n".encode("utf-16"), "not-utf8", 1),
    ("a.tsv", b"text\tlabel\rt\t\0\r", "nul-byte", 2),
    ("a.csv", "text,label\n".encode("utf-16-le"), "nul-byte", 1),
    ("a.jsonl", rb'{"text": "\ud83d", "label": 1}', "not-utf8", 1),
    ("a.jsonl", rb'{"text": "t", "label": "\u0000"}', "not-utf8", 1),
    ("a.csv", b"text,label\nt,1\nu, 1\n", "one-class", None),
]


@pytest.mark.parametrize(("name", "content", "code", "line"), BAD_FILES)
def test_bad_training_file(tmp_path, name, content, code, line):
    path = tmp_path / name
    if content == "folder":
        path.mkdir()
    elif content is not None:
        write(path, content)
    with pytest.raises(InputError) as caught:
        text_files.load_files(path)
    error = caught.value
    assert error.code == code
    assert (error.argument, error.value) == ("train_file", str(path))
    assert error.problem.startswith("" if line is None else f"line {line}: ")
    assert error.remedy
    assert len(str(error)) < 400 + len(str(path))
    assert "\n" not in str(error)


def test_a_missing_column_is_told_with_those_that_there_are(tmp_path):
    names = [f"c{i}" for i in range(15)]
    path = write(tmp_path / "a.csv", ",".join(names) + "\n" + "," * 14)
    with pytest.raises(InputError) as caught:
        text_files.load_files(path)
    assert "'c8', 'c9' and 5 more" in caught.value.problem
    for column in ("text_column", "label_column"):
        columns = {"text_column": "c0", "label_column": "c1", column: "x"}
        path = write(tmp_path / "a.csv", ",".join(names) + "\n" + "t," * 14)
        with pytest.raises(InputError) as caught:
            text_files.load_files(path, **columns)
        assert f"`{column}`" in caught.value.remedy


@pytest.mark.parametrize("argument", ["dev_file", "test_file"])
def test_unknown_label(tmp_path, argument):
    train = write(tmp_path / "train.csv", "text,label\nt,pos\nt,neg\n")
    other = write(tmp_path / "other.csv", 'text,label\n"t\n",neg\nt,Pos\n')
    with pytest.raises(InputError) as caught:
        text_files.load_files(train, **{argument: other})
    error = caught.value
    assert error.code == "unknown-label"
    assert (error.argument, error.value) == (argument, str(other))
    assert error.problem == (
        "line 4: expected one of the labels 'neg', 'pos', found 'Pos'"
    )


def test_text_and_label_are_one_column(tmp_path):
    with pytest.raises(InputError) as caught:
        text_files.read_examples(tmp_path / "a.csv", "text", "text")
    assert caught.value.code == "one-column"


def test_unreadable_file(tmp_path, monkeypatch):
    def refuse(_):
        raise PermissionError(13, os.strerror(13))

    path = write(tmp_path / "a.csv", "text,label\nt,1\n")
    monkeypatch.setattr(text_files.pathlib.Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="Permission denied") as caught:
        text_files.load_files(path)
    assert caught.value.code == "unreadable"
