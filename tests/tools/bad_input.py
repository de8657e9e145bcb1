"""Whatever is wrong: code 2, one line that says what and where, no trace.

The test modules `test_bad_*` have the tables. A row says which binaries, with
which arguments besides the good ones, which error code, and what the line names
first; by default the last of the arguments.
"""

import json
import pickle
import shutil

import pytest

from tests.tools import in_process
from tfadv.runs.record import FORMAT

# What each binary takes when nothing is wrong. A row says more, and the last
# word on a flag counts.
GOOD = {
    "train": (
        "--train_file={d}/train.csv --dev_file={d}/dev.csv "
        "--test_file={d}/test.csv --encoder={d}/encoder --max_length=16 "
        "--max_steps=1 --adv_steps=1 --method=rar --output_dir={d}/out"
    ),
    "tune": (
        "--train_file={d}/train.csv --dev_file={d}/dev.csv "
        "--encoder={d}/encoder --max_length=16 --max_steps=1 "
        "--coarse_trials=1 --fine_trials=0 --output_dir={d}/out"
    ),
    "evaluate": "--run_dir={d}/run --output_dir={d}/out",
    "attack": (
        "--run_dir={d}/run --output_dir={d}/out --epsilons=0.1 "
        "--attack_steps=1 --hotflip_words=0"
    ),
    "reconstruct": "--run_dir={d}/run --output_dir={d}/out --attack_steps=1",
    "report": "{d}/run --output_dir={d}/out",
    "export": "--run_dir={d}/run --output_dir={d}/out",
    # Its texts come from stdin.
    "predict": "--run_dir={d}/run --output_dir={d}/out",
}
ALL = "train tune evaluate attack reconstruct report export predict"
TRAINERS = "train tune"
MEASURERS = "evaluate attack reconstruct"
USERS = f"{MEASURERS} export predict"
NO_FILES = "--train_file= --dev_file= --test_file="
DRAWN = f"{NO_FILES} --dataset=ag_news --data_dir={{d}}/ag_news"

FILES = {
    "empty.csv": b"",
    "header.csv": b"text,label\n",
    "latin.csv": b"text,label\ngood,good\ncaf\xe9,bad\n",
    "latin.cfg": b"--seed=1\n# caf\xe9\n",
    "ugly.csv": b"text,label\ngood,good\nbad,ugly\n",
    "one_class.csv": b"text,label\ngood,good\nfine,good\n",
    "blank.csv": b"text,label\ngood,good\n ,bad\n",
    "nul.csv": b"text,label\ngood,good\n\0,bad\n",
    "body.csv": b"body,stars\ngood,good\nbad,bad\n",
    "texts.doc": b"text,label\ngood,good\n",
    "broken.jsonl": b'{"text": "good", "label": "good"}\n{"text": \n',
    "ugly.jsonl": b'{"reconstruction": "a dull plot", "label": "ugly"}\n',
    "twice.json": json.dumps(
        {
            "dataset": "ag_news",
            "splits": {"train": ["train/0", "train/1"], "dev": ["train/1"]},
        }
    ).encode(),
    "yelp.json": b'{"dataset": "yelp", "splits": {"train": ["train/0"]}}',
    "beyond.json": b'{"dataset": "ag_news", "splits": {"train": ["train/9"]}}',
    "ag_news/train.csv": b"text,label\none,Sports\ntwo,World\n",
    "ag_news/test.csv": b"text,label\none,Sports\ntwo,World\n",
    "bodies/train.csv": b"body,stars\ngood,good\nbad,bad\n",
    "search/search.json": b'{"settings": {"method": "rar"}}',
    "search_latin/search.json": b'{"method": "caf\xe9"}',
    "results/evaluation.json": b"{}",
    "results/robustness.json": b"{}",
    "results/adversaries.jsonl": b"",
    "results/predictions.jsonl": b"",
    "results/report.html": b"",
}


def changed_json(**changes):
    """Returns what changes a JSON file.

    The names are paths in it, with `__` between their parts; a value of `None`
    deletes what is there.
    """

    def change(old):
        content = json.loads(old)
        for path, value in changes.items():
            *parents, name = path.split("__")
            inner = content
            for parent in parents:
                inner = inner[parent]
            if value is None:
                del inner[name]
            else:
                inner[name] = value
        return json.dumps(content).encode()

    return change


def truncated(old):
    return old[: len(old) // 2]


def overwritten(old):
    return bytes(byte ^ 0x55 for byte in old)


def with_other_bytes(old):
    """Leaves an HDF5 file whose names of groups lead nowhere."""
    return old.replace(b"HEAP", b"HEAQ")


PICKLE = pickle.dumps({"weights": [1.0]})

# Copies of the good encoder: files, and their bytes, or what becomes of them,
# or `None` where they are deleted.
ENCODERS = {
    "encoder_without_config": {"config.json": None},
    "encoder_with_broken_config": {"config.json": truncated},
    "encoder_with_latin_config": {"config.json": b'{"model_type": "caf\xe9"}'},
    "encoder_without_heads": {
        "config.json": changed_json(num_attention_heads=0)
    },
    "encoder_of_other_shapes": {"config.json": changed_json(hidden_size=12)},
    "encoder_of_other_family": {
        "config.json": changed_json(model_type="distilbert")
    },
    "encoder_without_weights": {"model.safetensors": None},
    "encoder_truncated": {"model.safetensors": truncated},
    "encoder_of_hidden_pickle": {"model.safetensors": PICKLE},
    "encoder_of_pickle": {
        "model.safetensors": None,
        "pytorch_model.bin": PICKLE,
    },
    "encoder_without_vocabulary": {"vocab.txt": None},
    "encoder_with_empty_vocabulary": {"vocab.txt": b""},
    "encoder_with_latin_vocabulary": {"vocab.txt": b"[PAD]\ncaf\xe9\n"},
    "encoder_with_long_vocabulary": {
        "vocab.txt": lambda old: old + b"".join(b"w%d\n" % i for i in range(9))
    },
}
RECORD = "settings.json"
# The same of a run that was trained.
RUNS = {
    "run_of_newer_format": {RECORD: changed_json(format=FORMAT + 1)},
    "run_with_broken_record": {RECORD: truncated},
    "run_with_latin_record": {RECORD: b'{"method": "caf\xe9"}'},
    "run_without_classes": {RECORD: changed_json(classifier__label_names=None)},
    "run_of_unknown_setting": {RECORD: changed_json(settings__alpha=1)},
    "run_of_unknown_method": {RECORD: changed_json(settings__method="pgd")},
    "run_of_long_texts": {
        RECORD: changed_json(settings__encoder__max_length=1000)
    },
    "run_of_another_method": {
        RECORD: changed_json(settings__method="freelb", settings__objectives={})
    },
    "run_of_other_classes": {
        RECORD: changed_json(classifier__label_names=["a", "b"])
    },
    "run_without_data": {RECORD: changed_json(data=None)},
    "run_without_results": {"results.json": None},
    "run_without_weights": {"model.weights.h5": None},
    "run_truncated": {"model.weights.h5": truncated},
    "run_overwritten": {"model.weights.h5": overwritten},
    "run_with_other_bytes": {"model.weights.h5": with_other_bytes},
    "run_of_pickle": {"model.weights.h5": PICKLE},
    "run_of_other_shapes": {
        "encoder/config.json": changed_json(hidden_size=12)
    },
    "run_with_broken_config": {"encoder/config.json": truncated},
    "run_without_vocabulary": {"encoder/vocab.txt": None},
}
# The same of a run that was attacked.
ATTACKED = {
    "attacked_of_odd_results": {"results.json": b'{"method": "freelb"}'},
    "attacked_of_odd_robustness": {"robustness.json": b'{"clean": 1}'},
    "attacked_without_a_norm": {
        "robustness.json": lambda old: old.replace(
            b'"norms": [0.0, ', b'"norms": ['
        )
    },
    "attacked_with_broken_robustness": {"robustness.json": truncated},
    "attacked_elsewhere": {
        "robustness.json": lambda old: old.replace(b": 0.4,", b": 0.3,")
    },
    "attacked_without_metrics": {"metrics.jsonl": None},
    "attacked_with_broken_metrics": {"metrics.jsonl": overwritten},
    "attacked_with_odd_adversaries": {"adversaries.jsonl": b"[]\n"},
    "attacked_with_pickle": {"representations.npz": PICKLE},
    "attacked_with_truncated_arrays": {"representations.npz": truncated},
}


def damage(folder, original, copies):
    """Writes copies of a folder, each with files that are not as they were."""
    for name, changes in copies.items():
        shutil.copytree(
            folder / original,
            folder / name,
            ignore=shutil.ignore_patterns("tensorboard"),
        )
        for file, content in changes.items():
            path = folder / name / file
            if content is None:
                path.unlink()
            elif callable(content):
                path.write_bytes(content(path.read_bytes()))
            else:
                path.write_bytes(content)


def cases(rows):
    """Makes a test's parameters of a table: a case for each binary of a row.

    Args:
        rows: list of tuples: binaries, arguments, code, and what the line
            names first, if that is not the last of the arguments.
    """
    return pytest.mark.parametrize(
        ("tool", "arguments", "code", "where"),
        [
            pytest.param(
                tool,
                arguments,
                code,
                where[0] if where else arguments.split()[-1],
                id=f"{tool} {arguments.replace('{d}/', '')}"[:90],
            )
            for tools, arguments, code, *where in rows
            for tool in tools.split()
        ],
    )


def call(tool, arguments, folder):
    """Calls a binary with its good arguments and some more.

    Returns:
        `subprocess.CompletedProcess`.
    """
    words = f"{GOOD[tool]} {arguments}".format(d=folder, huge=10**30).split()
    stdin = (folder / "dev.csv").read_bytes()
    return in_process.call(tool, words, stdin)


def check(tool, arguments, code, where, folder):
    """Calls a binary and compares the line that it fails with."""
    called = call(tool, arguments, folder)
    where = where.format(d=folder, huge=10**30)
    assert called.returncode == 2, called.stderr
    assert called.stderr.count("\n") == 1, called.stderr
    expected = f"error[{code}]: {where}"
    assert called.stderr.startswith(expected), (called.stderr, expected)


def snapshot(folder):
    """Every name in a folder, with its size and the time it was changed."""
    return {
        path: (stat.st_size, stat.st_mtime_ns) if path.is_file() else None
        for path in folder.rglob("*")
        if not path.is_symlink() and (stat := path.stat())
    }
