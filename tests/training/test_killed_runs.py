"""Real processes, really killed: their runs end as if nothing had happened."""

import collections
import random
import re
import signal

import pytest

from tests import kill_runs, tiny_run

EVERYWHERE = (
    "--max_length=16",
    "--epochs=2",
    "--batch_size=8",
    "--adv_step_size=0.1",
    "--learning_rate=0.008",
    "--deterministic",
)
CONTRASTIVE = (
    "--contrastive_start_step=8",
    "--contrastive_negatives=10",
    "--contrastive_weight=0.2",
)
ADVERSARY = ("--adv_steps=2", "--adv_init_magnitude=0.1")
METHODS = {
    "baseline": (),
    "freelb": ADVERSARY,
    "carl": (*ADVERSARY, *CONTRASTIVE),
    "rar": ADVERSARY,
    "carl_rar": (*ADVERSARY, *CONTRASTIVE),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    tiny_run.write_all(folder)
    return folder


@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    return kill_runs.Runner(tmp_path_factory.mktemp("log"))


def flags_of(method, data, output_dir):
    return (
        f"--method={method}",
        *(f"--{s}_file={data}/{s}.csv" for s in ("train", "dev", "test")),
        f"--encoder={data}/encoder",
        f"--output_dir={output_dir}",
        *EVERYWHERE,
        *METHODS[method],
    )


def resumed_at(ended):
    found = re.search(r"resuming at update (\d+) of 24", ended.printed)
    return int(found[1]) if found else None


def test_killed_twice_and_terminated_a_run_ends_the_same(
    runner, data, tmp_path
):
    """Killed while the bank is filled, and while a backup is written."""
    whole, often = tmp_path / "whole", tmp_path / "often"
    # One pass, which has the smallest graph.
    ended = runner.run(*flags_of("carl", data, whole), "--adv_steps=1")
    assert ended.code == 0, ended.printed
    flags = (*flags_of("carl", data, often), "--adv_steps=1")
    ended = runner.run(*flags, kill_at=("memory bank is filled", 7), every=3)
    assert ended.killed and resumed_at(ended) is None
    ended = runner.run(*flags, kill_at=("half of a backup", 3))
    assert ended.killed and resumed_at(ended) == 6
    assert list((often / "backup").glob("partial*"))
    ended = runner.run(*flags, term_at=("has ended", 4), every=9)
    assert ended.code == 128 + signal.SIGTERM
    assert resumed_at(ended) == 8
    assert ended.printed.endswith(
        "\nended by SIGTERM after update 12 of 24; the same command goes on "
        "from there\n"
    )
    # It ended with an epoch.
    ended = runner.run(*flags)
    assert ended.code == 0, ended.printed
    assert resumed_at(ended) == 12
    assert kill_runs.differences(often, whole) == []


@pytest.mark.slow
def test_killed_anywhere_a_run_ends_the_same(runner, data, tmp_path, capsys):
    """Every method is killed several times, at points that chance chooses."""
    chance = random.Random(3)
    rows, killed = [], collections.Counter()
    for method in METHODS:
        whole = tmp_path / f"{method}_whole"
        ended = runner.run(*flags_of(method, data, whole))
        assert ended.code == 0, ended.printed
        # What happens once is chosen as often as what happens always.
        kinds = collections.Counter(
            re.sub(r" \d+", "", event) for event in ended.events
        )
        for number in range(4):
            folder = tmp_path / f"{method}_{number}"
            flags = flags_of(method, data, folder)
            points = []
            while len(points) < 3 and not (folder / "results.json").exists():
                what = chance.choice(list(kinds))
                # Few enough for what is left of the run.
                nth = chance.randint(1, -(-kinds[what] // 3))
                every = chance.choice([1, 2, 5])
                how = {"kill_at": (what.split(" has ended")[0], nth)}
                if len(points) == 2:
                    how = {"after": chance.uniform(1.0, 6.0)}
                ended = runner.run(*flags, every=every, **how)
                assert ended.killed or ended.code == 0, ended.printed
                points.append((how, ended))
            if not (folder / "results.json").exists():
                last = runner.run(*flags)
                assert last.code == 0, last.printed
                points.append(({}, last))
            same = kill_runs.differences(folder, whole)
            for (how, ended), (_, after) in zip(
                points, [*points[1:], ({}, None)], strict=True
            ):
                if ended.killed:
                    killed[method] += 1
                    going_on = ended.events[-1] if ended.events else "starting"
                    rows.append(
                        (
                            f"{method} {number + 1}",
                            "time" if "after" in how else "event",
                            going_on,
                            resumed_at(after) if after else "ended",
                            "yes" if not same else f"NO: {', '.join(same)}",
                        )
                    )
    with capsys.disabled():
        print("\n| run | killed by | what was going on | resumed at | same |")
        print("|---|---|---|---|---|")
        for row in rows:
            print("| " + " | ".join(map(str, row)) + " |")
    assert all(row[-1] == "yes" for row in rows)
    assert sum(killed.values()) > 20
    assert min(killed[method] for method in METHODS) > 2
