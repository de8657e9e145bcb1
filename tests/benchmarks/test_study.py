"""The study's statistics and its report."""

import json
import pathlib

import numpy as np
import pytest
from scipy import stats

from benchmarks import study, study_report, study_search

ROOT = pathlib.Path(__file__).parents[2]


def row(method, seed, accuracy, **more):
    epsilon = {"accuracy": accuracy, "cosine": 0.5, "euclidean": 2.0}
    return {
        "dataset": "movie_reviews",
        "method": method,
        "seed": seed,
        "test": 0.8 + accuracy / 100,
        "steps": 10,
        "train_examples": 160,
        "attacked_examples": 100,
        "attack": {"steps": 5, "norm": "l2"},
        "epsilons": {"0.1": epsilon},
        "hotflip": 0.25,
        **more,
    }


def test_difference_is_the_paired_t_test():
    one = {1: 3.0, 2: 5.0, 3: 4.5}
    other = {3: 4.0, 2: 3.0, 1: 2.0, 9: 100.0}
    found = study_report.difference(one, other)
    expected = stats.ttest_rel([3.0, 5.0, 4.5], [2.0, 3.0, 4.0])
    assert found["mean"] == pytest.approx(3.5 / 3)
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["interval"] == pytest.approx(expected.confidence_interval())


@pytest.mark.parametrize("other", [{1: 1.0}, {1: 1.0, 2: 2.0}])
def test_difference_without_spread_has_no_test(other):
    found = study_report.difference({1: 2.0, 2: 3.0}, other)
    assert found == {"mean": 1.0, "interval": None, "p": None}


def test_holm_by_hand():
    found = study_report.holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": None})
    assert found == {
        "a": pytest.approx(0.03),
        "b": pytest.approx(0.06),
        "c": pytest.approx(0.06),
        "d": None,
    }


def test_report_shows_means_spread_and_differences():
    texts = {
        f"{who}_{when}": 0.5 if when == "after" else 1.0
        for who in ("prediction", "victim")
        for when in ("before", "after")
    }
    rows = [
        row("rar", 1, 0.7, texts={**texts, "changed_tokens": 1.0}),
        row("rar", 2, 0.9, texts={**texts, "changed_tokens": 2.0}),
        row("freelb", 1, 0.6),
        row("freelb", 2, 0.7),
    ]
    report = study_report.markdown(rows)
    lines = report.split("\n")
    freelb, rar, difference, *_ = [
        line for line in lines if line.startswith(("| freelb", "| rar"))
    ]
    assert "65.0 (7.1)" in freelb and "80.0 (14.1)" in rar
    assert "+15.0 [-48.5, +78.5]" in difference
    assert "1.50 (0.71)" in report
    assert "seeds 1, 2" in report


def test_data_sets_together_are_paired_each_with_its_own():
    rows = [
        row("freelb", 1, 0.6),
        row("carl", 1, 0.7),
        row("freelb", 1, 0.1, dataset="sst2"),
        row("carl", 1, 0.4, dataset="sst2"),
    ]
    report = study_report.markdown(rows)
    _, both = report.split("## Both")
    # 10 and 30 points: 20, and 12.706 times a standard error of 10.
    assert "+20.0 [-107.1, +147.1]" in both
    assert "## Both" not in study_report.markdown(rows[:2])


def test_sst2_splits_share_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SST2", tmp_path / "study" / "texts")
    lines = [f'a "quoted film {i}\t{i % 2}' for i in range(5000)]
    for name, part in (("train", lines), ("dev", ["good\t1", "bad\t0"])):
        text = "\n".join(["sentence\tlabel", *part]) + "\n"
        (tmp_path / f"{name}.tsv").write_text(text)
    study.prepare_sst2(tmp_path)
    found = {
        name: (study.SST2 / f"{name}.tsv").read_text().splitlines()
        for name in ("train", "dev", "test")
    }
    assert {rows[0] for rows in found.values()} == {"sentence\tlabel"}
    assert found["test"][1:] == ["good\t1", "bad\t0"]
    drawn = [*found["train"][1:], *found["dev"][1:]]
    assert len(drawn) == len(set(drawn)) == 4500
    assert set(drawn) <= set(lines)
    assert len(found["dev"]) == 501
    # Drawn, not taken from the head.
    assert np.mean([line in lines[:500] for line in found["dev"]]) < 0.5


def test_sst2_without_its_folder_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(study, "SST2", tmp_path / "texts")
    with pytest.raises(SystemExit, match="--sst2"):
        study.prepare_sst2(None)


@pytest.mark.parametrize("dataset", study.DATASETS)
def test_methods_have_the_same_budget(dataset):
    """The cells differ in what their method needs, and in nothing else."""
    flags = {}
    for method in study.METHODS:
        path = f"flags/experiments/study_{dataset}_{method}.cfg"
        lines = (ROOT / path).read_text().splitlines()
        flags[method] = {x for x in lines if x.startswith("--")}
    shared = {
        x for x in flags["freelb"] if not x.startswith(("--method", "--adv_"))
    }
    for lines in flags.values():
        assert shared <= lines
    for method in ("carl", "rar", "carl_rar"):
        assert flags["freelb"] - {"--method=freelb"} <= flags[method]


def test_lines_of_earlier_calls_are_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [("movie_reviews", "rar", 4), ("movie_reviews", "freelb", 2)]
    monkeypatch.setattr(
        study, "read", lambda d, m, s: row(m, s, 0.5, dataset=d)
    )
    path = tmp_path / "runs.jsonl"
    earlier = [row("rar", 10, 0.1), row("freelb", 2, 0.2), row("carl", 1, 0.3)]
    path.write_text("\n".join(map(json.dumps, earlier)) + "\n")
    lines = study.together(path, found)
    cells = [(x["method"], x["seed"], x["epsilons"]["0.1"]) for x in lines]
    accuracies = [(m, s, e["accuracy"]) for m, s, e in cells]
    assert accuracies == [
        ("freelb", 2, 0.5),
        ("carl", 1, 0.3),
        ("rar", 4, 0.5),
        ("rar", 10, 0.1),
    ]


def trial(name, method, dev, attacked, **changes):
    return {
        "name": name,
        "dataset": "movie_reviews",
        "method": method,
        "changes": changes,
        "dev": dev,
        "attacked_examples": 100,
        "epsilons": {"0.1": {"accuracy": attacked, "cosine": 0.9}},
    }


def test_a_search_keeps_the_lines_of_other_variations(tmp_path, monkeypatch):
    def read(name, dataset):
        return {**trial(name, "carl", 0.9, 0.9), "dataset": dataset}

    monkeypatch.setattr(study_search, "read", read)
    path = tmp_path / "search.jsonl"
    first, second, *_ = study_search.VARIATIONS
    earlier = [trial(name, "carl", 0.1, 0.1) for name in (second, first)]
    path.write_text("\n".join(map(json.dumps, earlier)) + "\n")
    found = study_search.together(path, [(second, "movie_reviews")])
    assert [(row["name"], row["dev"]) for row in found] == [
        (first, 0.1),
        (second, 0.9),
    ]


def test_search_takes_the_strongest_that_costs_little():
    rows = [
        trial("FreeLB", "freelb", 0.80, 0.60),
        trial("CARL, 1", "carl", 0.80, 0.61, contrastive_weight=1),
        trial("CARL, 2", "carl", 0.79, 0.63, contrastive_weight=2),
        # Stronger still, for more than a point; and no weight alone.
        trial("CARL, 3", "carl", 0.789, 0.70, contrastive_weight=3),
        trial("CARL, NCE", "carl", 0.8, 0.7, contrastive_weight=1, loss="nce"),
        trial("RAR, 1", "rar", 0.7, 0.9, reconstruction_weight=1),
    ]
    assert study_search.choose(rows) == {"carl": "CARL, 2", "rar": None}
    report = study_search.markdown(rows)
    assert "| CARL, 3 | 78.9 | 70.0 | 0.900 |" in " ".join(report.split())
    assert "Chosen: CARL, 2; no rar." in report


def test_runs_without_hotflip_have_no_such_column():
    rows = [row("freelb", 1, 0.6), row("freelb", 2, 0.6)]
    assert "HotFlip" in study_report.markdown(rows)
    del rows[1]["hotflip"]
    assert "HotFlip" not in study_report.markdown(rows)


def test_search_varies_what_the_cells_have():
    """Every variation is of a flag of its method's cell."""
    for name, (method, changes) in study_search.VARIATIONS.items():
        path = ROOT / f"flags/experiments/study_sst2_{method}.cfg"
        flags = dict(
            line[2:].split("=", 1)
            for line in path.read_text().splitlines()
            if line.startswith("--")
        )
        for flag in changes:
            # The cells have the default.
            if flag != "contrastive_representation":
                assert flag in flags, (name, flag)
