"""Predictions: line i of the output is of text i of the input."""

import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import tfadv
from tests import binaries, tiny_run
from tfadv.data import loading
from tfadv.data.settings import DataSettings
from tfadv.errors import InputError
from tfadv.export import hugging_face
from tfadv.inference import prediction
from tfadv.runs import run_folder
from tfadv.training import loop

ROOT = pathlib.Path(__file__).parents[2]
TEXTS = [
    "good film",
    "",
    "the plot is bad",
    " ",
    "a " * 50,
    "\u2028b\x85c\x0cd",
]


def lines(texts):
    return "".join(f"{text}\n" for text in texts).encode()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a run, the files it was trained on, and other files."""
    binaries.warm_up()
    folder = tmp_path_factory.mktemp("predict")
    tiny_run.write_all(folder)
    loop.train(
        loading.load_data(
            DataSettings(
                **{
                    f"{split}_file": folder / f"{split}.csv"
                    for split in ("train", "dev", "test")
                }
            )
        ),
        tiny_run.settings(folder / "encoder", max_length=16, max_steps=2),
        folder / "run",
    )
    (folder / "texts.txt").write_bytes(lines(TEXTS))
    (folder / "latin.txt").write_bytes(b"good\n\ncaf\xe9\n")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "unlabelled.csv").write_text(
        'id,body\n1,"good, fine"\n2,bad\n3,dull\n'
    )
    (folder / "blank.csv").write_text("text\ngood\n \n")
    (folder / "other_classes").mkdir()
    for split in ("train", "test"):
        tiny_run.write_csv(
            folder / "other_classes" / f"{split}.csv",
            tiny_run.examples(40, seed=7),
            ["no", "yes"],
        )
    for name in ("used", "overwritten"):
        (folder / name).mkdir()
        (folder / name / "predictions.jsonl").write_text("kept")
    return folder


@pytest.fixture(scope="module")
def run(data):
    return tfadv.load(data / "run")


class Call:
    """The binary at work."""

    def __init__(self, folder, arguments, stdin=b""):
        self.streams = [folder / n for n in ("stdin", "stdout", "stderr")]
        if isinstance(stdin, bytes):
            self.streams[0].write_bytes(stdin)
        else:
            self.streams[0] = stdin
        self.process = binaries.start("tools.predict", arguments, self.streams)

    def wait(self):
        """Returns the exit code, and what went to stdout and to stderr."""
        self.process.join(100)
        self.process.kill()
        written = (path.read_bytes() for path in self.streams[1:])
        return self.process.exitcode, *written


@pytest.fixture
def call(data, tmp_path):
    """Calls the binary; returns what `Call.wait` does."""

    def call(*arguments, stdin=b""):
        arguments = [f"--run_dir={data}/run", *arguments]
        return Call(tmp_path, arguments, stdin).wait()

    return call


def assert_refused(called, error, message=""):
    """Code 2, and one line that says why."""
    code, stdout, stderr = called
    assert code == 2, stderr
    assert stdout == b""
    assert stderr.count(b"\n") == 1, stderr
    assert stderr.decode().startswith(f"error[{error}]: ")
    assert message in stderr.decode()


def parsed(output):
    assert output.endswith(b"\n")
    return [json.loads(line) for line in output[:-1].split(b"\n")]


def check(rows, texts, run):
    """They are of these texts, in order, and say what the run says."""
    expected = run.predict_proba(texts)
    assert [row["index"] for row in rows] == list(range(len(texts)))
    assert [row["text"] for row in rows] == texts
    for row, probabilities in zip(rows, expected, strict=True):
        assert list(row) == ["index", "text", "label", "score", "probabilities"]
        assert list(row["probabilities"]) == ["bad", "good"]
        found = list(row["probabilities"].values())
        np.testing.assert_allclose(found, probabilities, atol=1e-6)
        assert row["score"] == max(found)
        assert row["probabilities"][row["label"]] == row["score"]


# Good input

# Arguments, stdin, and which texts are classified.
GOOD = {
    "stdin": ([], lines(TEXTS), TEXTS),
    "a text file, beside which stdin is not read": (
        ["--texts_file={d}/texts.txt"],
        b"\xff",
        TEXTS,
    ),
    "a table without labels": (
        ["--test_file={d}/unlabelled.csv", "--text_column=body"],
        b"",
        ["good, fine", "bad", "dull"],
    ),
    "a split of the run's own data": (
        ["--split=dev"],
        b"",
        tiny_run.dataset().dev.texts,
    ),
    "a split of a folder with other classes": (
        ["--data_dir={d}/other_classes"],
        b"",
        tiny_run.examples(40, seed=7).texts,
    ),
    "a Hugging Face checkpoint": (
        ["--run_dir={d}/checkpoint"],
        lines(TEXTS),
        TEXTS,
    ),
    "a new folder": (["--output_dir={d}/new/deep"], lines(TEXTS), TEXTS),
    "the run's folder": (["--output_dir={d}/run"], lines(TEXTS), TEXTS),
    "earlier predictions": (
        ["--output_dir={d}/overwritten", "--overwrite"],
        lines(TEXTS),
        TEXTS,
    ),
}


@pytest.fixture(scope="module")
def good_calls(data, run, tmp_path_factory):
    """All calls with good input, which run side by side."""
    (data / "checkpoint").mkdir()
    hugging_face.save(run, data / "checkpoint")
    calls = {}
    for case, (arguments, stdin, _) in GOOD.items():
        arguments = [a.format(d=data) for a in arguments]
        calls[case] = Call(
            tmp_path_factory.mktemp("streams"),
            [f"--run_dir={data}/run", *arguments],
            stdin,
        )
    return {case: call.wait() for case, call in calls.items()}


@pytest.mark.parametrize("case", GOOD)
def test_good_input(good_calls, data, run, case):
    arguments, _, texts = GOOD[case]
    code, output, stderr = good_calls[case]
    assert (code, stderr) == (0, b"")
    if arguments and arguments[0].startswith("--output_dir="):
        assert output == b""
        folder = arguments[0].partition("=")[2].format(d=data)
        assert not list(data.glob("**/partial.*"))
        output = pathlib.Path(folder, "predictions.jsonl").read_bytes()
    check(parsed(output), texts, run)


def test_a_run_that_holds_predictions_can_be_trained_anew(good_calls, data):
    assert (data / "run" / "predictions.jsonl").exists()
    run_folder.check_output(data / "run", overwrite=True)


@pytest.mark.parametrize(
    ("stdin", "texts"),
    [
        (b"good\nbad", ["good", "bad"]),
        (b"good\r\nbad\r\n", ["good", "bad"]),
        (b"a\rb\r\r\n", ["a\rb\r"]),
        (b"\xef\xbb\xbfgood\n\xef\xbb\xbfbad\n", ["good", "\ufeffbad"]),
        (b"\n", [""]),
        (b"\n\n \n", ["", "", " "]),
        ("\u2028\u0085\n\x1c\x0b\n".encode(), ["\u2028\u0085", "\x1c\x0b"]),
        (b"", []),
    ],
)
def test_lines_are_texts(stdin, texts):
    assert list(prediction.read_texts(io.BytesIO(stdin), "stdin")) == texts


def test_nothing_is_left_of_what_fails_late(data, run):
    before = set(data.rglob("*"))
    for folder in ("late/deep", "used"):
        texts = prediction.read_texts(io.BytesIO(b"good\n\xff\n"), "stdin")
        with (
            pytest.raises(InputError) as error,
            prediction.results_file(
                data / folder / "predictions.jsonl"
            ) as file,
        ):
            chunks = prediction.predict(run, texts, chunk_size=1)
            prediction.write(chunks, file, progress=int)
        assert error.value.code == "not-utf8"
        assert "stdin, line 2" in str(error.value)
    assert set(data.rglob("*")) == before
    assert (data / "used" / "predictions.jsonl").read_text() == "kept"


def test_many_chunks_make_no_more_graphs(run, monkeypatch):
    calls = []
    model = type(run.classifier)
    traced = model.call

    def call(*args, **kwargs):
        calls.append(1)
        return traced(*args, **kwargs)

    monkeypatch.setattr(model, "call", call)
    texts = tiny_run.examples(90, seed=3).texts
    for count in (1, 33, 90):
        run.predict_proba(texts[:count])
    # Keras opens the shapes of its one graph as it sees others.
    warm = len(calls)
    assert warm <= 3
    for _ in prediction.predict(run, ["", *texts], chunk_size=13):
        pass
    assert len(calls) == warm


# Bad input

# Arguments, the error's code, and what the line must tell.
REFUSED = {
    "a folder that is no run": (["--run_dir={d}"], "no-run", "--run_dir={d}"),
    "no text": ([], "no-texts", ""),
    "an empty file": (["--texts_file={d}/empty.txt"], "no-texts", ""),
    "no such file": (
        ["--texts_file={d}/none.txt"],
        "no-such-file",
        "--texts_file={d}/none.txt",
    ),
    "a folder of texts": (
        ["--texts_file={d}"],
        "is-a-folder",
        "--texts_file={d}",
    ),
    "not UTF-8": (
        ["--texts_file={d}/latin.txt"],
        "not-utf8",
        "line 3: the byte 0xe9",
    ),
    "two sources": (
        ["--texts_file={d}/texts.txt", "--test_file={d}/test.csv"],
        "clash",
        "--texts_file={d}/texts.txt",
    ),
    "a split of a text file": (
        ["--texts_file={d}/texts.txt", "--split=dev"],
        "clash",
        "--split=dev",
    ),
    "a file and a dataset": (
        ["--test_file={d}/test.csv", "--dataset=sst2"],
        "clash",
        "--dataset=sst2",
    ),
    "a column of stdin": (
        ["--text_column=body"],
        "clash",
        "--text_column=body",
    ),
    "no such column": (
        ["--test_file={d}/unlabelled.csv"],
        "no-such-column",
        "'body'",
    ),
    "a blank text in a table": (
        ["--test_file={d}/blank.csv"],
        "bad-text",
        "blank.csv: line 3",
    ),
    "another split than the file's": (
        ["--test_file={d}/test.csv", "--split=dev"],
        "no-file-of-split",
        "--dev_file",
    ),
    "predictions that are there": (
        ["--output_dir={d}/used"],
        "results-exist",
        "--overwrite",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input(call, data, case):
    arguments, error, message = REFUSED[case]
    before = set(data.rglob("*"))
    called = call(*(a.format(d=data) for a in arguments))
    assert_refused(called, error, message.format(d=data))
    assert set(data.rglob("*")) == before
    assert (data / "used" / "predictions.jsonl").read_text() == "kept"


def test_a_terminal_is_no_source(call):
    leader, follower = os.openpty()
    with open(leader, "rb"), open(follower):
        called = call(stdin=os.ttyname(follower))
    assert_refused(called, "no-texts", "a terminal")


@pytest.mark.parametrize("text", [b"caf\xe9", b"\xed\xa0\x80", b"g\0o\0"])
def test_a_line_that_is_no_text(text):
    texts = prediction.read_texts(io.BytesIO(b"good\n\n" + text), "stdin")
    assert next(texts) == "good"
    with pytest.raises(InputError) as error:
        list(texts)
    assert error.value.code in ("not-utf8", "nul-byte")
    assert "stdin, line 3" in str(error.value)


# Pipes


def test_a_pipe_is_answered_until_its_reader_goes(data, run):
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tools.predict"),
            f"--run_dir={data}/run",
        ],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    texts = ["bad", ""] * (prediction.CHUNK_SIZE // 2)
    process.stdin.write(lines(texts))
    rows = [json.loads(process.stdout.readline()) for _ in texts]
    check(rows, texts, run)
    process.stdout.close()
    process.stdin.write(lines(texts))
    assert process.stderr.read() == b""
    assert process.wait(60) == 0
    process.stdin.close()


@pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="there is no full device"
)
def test_a_full_disk_is_bad_input():
    with (
        open("/dev/full", "w") as full,
        pytest.raises(InputError) as error,
        prediction.standard_output(full) as file,
    ):
        prediction.write([[{"index": 0}]], file, progress=int)
    assert error.value.code == "unwritable"


def test_help_without_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise RuntimeError")
    called = subprocess.run(
        [sys.executable, "-m", "tools.predict", "--help"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    for flag in ("run_dir", "texts_file", "test_file", "output_dir"):
        assert f"--{flag}" in called.stdout
    assert called.stderr == ""
