"""One, two and four replicas, and two machines, do what one device does.

The runs are `tests.replica_runs`', in processes of their own.
"""

import contextlib
import json
import os
import signal
import socket
import time

import pytest

from tests import binaries, tiny_run

TOLERANCE = 1e-5
# The cases of tests.replica_runs, which must not be imported: it is a process.
CASES, CARL_CASES = 11, 6


def answer(*arguments):
    """What a module of the tests prints last, as JSON."""
    called = binaries.call(*arguments, timeout=1800)
    assert called.returncode == 0, called.stderr[-3000:]
    return json.loads(called.stdout.split("\n")[-2])


def differences(*arguments):
    return answer("tests.replica_runs", "--json", *arguments)


def assert_equal(lines):
    for line in lines:
        for part in ("losses", "weights", "optimizer", "banks"):
            assert line[part] < TOLERANCE, line


def test_two_replicas_equal_one():
    """The last batch of an epoch leaves one of them without an example."""
    # Joining at once, a run has one graph instead of two.
    arguments = ["--replicas=2", "--steps=6", "--started=0", "--examples=17"]
    case = "carl, infonce all"
    lines = differences(*arguments, case)
    assert_equal(lines)
    assert [line["case"] for line in lines] == [case, f"{case}, sharded"]


@pytest.mark.slow
def test_all_methods_on_one_two_and_four_replicas():
    lines = differences()
    print(*lines, sep="\n")
    assert_equal(lines)
    # Banks are sharded over 2 and 4 replicas.
    assert len(lines) == 3 * CASES + 2 * CARL_CASES


def test_evaluation_is_that_of_one_device_and_losses_must_be_means():
    found = answer("tests.replica_checks", "evaluation", "reduction")
    for name, gap in found["evaluation"].items():
        assert gap < 1e-6, name
    assert found["reduction"] == "loss-not-a-mean"


@pytest.mark.slow
def test_an_overflow_on_one_replica_ends_the_update_on_all():
    found = answer("tests.replica_checks", "overflow")["overflow"]
    assert found["calm"]["scales"] == [1024, 1024]
    assert found["overflow"]["scales"] == [512, 512]
    assert found["overflow"]["moved"] == 0
    assert found["calm again"]["updates"] == [2, 2]
    for step in found.values():
        assert step["apart"] == 0
        assert (step["moved"] > 0) == (step is not found["overflow"])


@pytest.mark.slow
def test_a_sharded_bank_is_saved_whole_and_comes_back_everywhere():
    found = answer("tests.replica_checks", "sharded_bank")["sharded_bank"]
    # Nine rows on two replicas: no device has all of a table.
    assert found["shapes"] == [[5, 8]] * 4
    assert found["sharded"] == found["whole"] == found["restored"] == 0
    assert found["trained on"] > 0


@pytest.mark.slow
def test_replicas_have_masks_of_their_own_and_count_alike():
    found = answer("tests.replica_checks", "dropout")["dropout"]
    assert found["masks differ"]
    for one, other in found["states"]:
        assert one == other


@pytest.mark.slow
def test_a_whole_run_on_two_devices():
    found = answer("tests.replica_checks", "train")["train"]
    assert found["steps"] == 26
    assert found["accuracies"][0] == found["accuracies"][1]
    # 45 of the 90 rows.
    assert "2 x 45 x 8 float32" in found["printed"]
    assert "on each of 2 replicas" in found["printed"]


@pytest.mark.slow
def test_a_run_on_two_devices_goes_on_within_an_epoch():
    found = answer("tests.replica_checks", "resumed")["resumed"]
    assert "resuming at update 17 of 26" in found["printed"]
    assert found["metrics"].pop("epoch") == 0
    expected = {"loss", "adversarial_accuracy", "val_loss"}
    assert expected < found["metrics"].keys()
    for name, apart in found["metrics"].items():
        assert apart < TOLERANCE, name
    assert found["weights"] < TOLERANCE
    assert found["accuracies"][0] == found["accuracies"][1]


@pytest.mark.slow
def test_a_search_on_two_devices():
    found = answer("tests.replica_checks", "search")["search"]
    assert found["status"] == ["completed"] * 3
    assert found["printed"].count("on each of 2 replicas") == 3


def test_one_device_has_no_bank_to_share(tmp_path):
    tiny_run.write_all(tmp_path)
    arguments = train_arguments(tmp_path)
    arguments[arguments.index("--strategy=multi_worker")] = (
        "--strategy=mirrored"
    )
    called = binaries.call(
        *arguments,
        "--method=carl",
        "--bank_sharding",
        CUDA_VISIBLE_DEVICES="-1",
    )
    assert called.returncode == 2
    assert called.stderr.startswith("error[one-replica]: --bank_sharding: ")
    assert called.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()


# Several machines


@pytest.fixture
def ports():
    """Two free ports, as far as one can know."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in (one, other)]


@contextlib.contextmanager
def run_workers(ports, folder, *arguments):
    """Runs a module on two machines that are one.

    Yields the processes and a function that waits for their ends, and returns
    what each has printed and its errors.
    """
    workers = []
    # Not pipes: a worker that waits for a full one to be read would let the
    # other one wait, too.
    outputs = [
        [folder / f"{i}.{name}" for name in ("out", "err")] for i in "01"
    ]
    with contextlib.ExitStack() as stack:
        for index, paths in enumerate(outputs):
            config = {
                "cluster": {"worker": [f"127.0.0.1:{port}" for port in ports]},
                "task": {"type": "worker", "index": index},
            }
            module, *rest = arguments
            worker = binaries.start(
                module,
                rest,
                [os.devnull, *paths],
                environment={"TF_CONFIG": json.dumps(config)},
            )
            stack.callback(worker.kill)
            workers.append(worker)

        def ends(timeout=600):
            for worker in workers:
                worker.join(timeout)
            return [[path.read_text() for path in pair] for pair in outputs]

        yield workers, ends


def test_two_workers_equal_one(ports, tmp_path):
    arguments = ["--json", "--steps=6", "freelb, gamma"]
    with run_workers(ports, tmp_path, "tests.replica_runs", *arguments) as run:
        _, ends = run
        found = ends()
    for stdout, stderr in found:
        lines = json.loads(stdout.split("\n")[-2]) if stdout else stderr
        assert [line["replicas"] for line in lines] == [2]
        assert_equal(lines)


@pytest.mark.slow
def test_all_methods_on_two_workers(ports, tmp_path):
    with run_workers(ports, tmp_path, "tests.replica_runs", "--json") as run:
        _, ends = run
        found = ends(1800)
    for stdout, stderr in found:
        assert stdout, stderr[-3000:]
        lines = json.loads(stdout.split("\n")[-2])
        assert len(lines) == CASES
        assert_equal(lines)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="keras-team/keras issue 20585")
def test_keras_itself_trains_on_several_machines(ports, tmp_path):
    """When this passes, `AdversarialClassifier` needs less of its own."""
    with run_workers(ports, tmp_path, "tests.plain_keras") as (workers, ends):
        ends()
    assert [worker.exitcode for worker in workers] == [0, 0]


def train_arguments(folder):
    return [
        "tools.train",
        *(f"--{s}_file={folder}/{s}.csv" for s in ("train", "dev", "test")),
        f"--encoder={folder}/encoder",
        f"--output_dir={folder}/run",
        "--strategy=multi_worker",
        "--max_length=16",
        "--batch_size=8",
        "--epochs=12",
        "--adv_steps=2",
        "--backup_seconds=0.5",
        "--deterministic",
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "sent", "code"),
    [
        (1, signal.SIGKILL, -signal.SIGKILL),
        (0, signal.SIGTERM, 128 + signal.SIGTERM),
        (1, signal.SIGTERM, 128 + signal.SIGTERM),
    ],
)
def test_a_worker_that_was_ended_rejoins(ports, tmp_path, which, sent, code):
    tiny_run.write_all(tmp_path)
    state = tmp_path / "run" / "backup" / "state.safetensors"
    arguments = train_arguments(tmp_path)
    with run_workers(ports, tmp_path, *arguments) as (workers, ends):
        waited = time.monotonic() + 300
        while not state.exists():
            assert time.monotonic() < waited
            time.sleep(0.2)
        os.kill(workers[which].pid, sent)
        found = ends()
    assert workers[which].exitcode == code, found
    if sent == signal.SIGTERM:
        assert "\nended by SIGTERM after update" in "\n" + found[which][1]
    assert workers[1 - which].exitcode == 2, found
    assert "start the same command on all machines" in found[1 - which][1]
    assert not (tmp_path / "run" / "results.json").exists()
    with run_workers(ports, tmp_path, *arguments) as (workers, ends):
        found = ends()
    assert [worker.exitcode for worker in workers] == [0, 0], found
    for _, stderr in found:
        assert "resuming at update" in stderr
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["steps"] == 144
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [*range(1, 13)]


@pytest.mark.parametrize(
    "config",
    ["", "{", '{"cluster": {"worker": ["a:1"]}, "task": {"index": 1}}'],
)
def test_a_wrong_tf_config_is_refused(config, tmp_path):
    tiny_run.write_all(tmp_path)
    called = binaries.call(*train_arguments(tmp_path), TF_CONFIG=config)
    assert called.returncode == 2
    assert called.stderr.startswith("error[wrong-tf-config]: --strategy=multi")
    assert called.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
