"""Folders of runs that are not as they must be."""

from tests.tools import bad_input
from tests.tools.bad_input import MEASURERS, USERS

RUNS = [
    (USERS, "--run_dir={d}/none", "no-run"),
    (USERS, "--run_dir={d}/ag_news", "no-run"),
    (USERS, "--run_dir={d}/dev.csv", "no-run"),
    (USERS, "--run_dir={d}/run_of_newer_format", "bad-record"),
    (USERS, "--run_dir={d}/run_with_broken_record", "bad-record"),
    (USERS, "--run_dir={d}/run_with_latin_record", "bad-record"),
    (USERS, "--run_dir={d}/run_without_classes", "bad-record"),
    (USERS, "--run_dir={d}/run_of_unknown_setting", "bad-record"),
    (USERS, "--run_dir={d}/run_of_unknown_method", "unknown-method", ""),
    (USERS, "--run_dir={d}/run_of_long_texts", "max-length-too-large"),
    (USERS, "--run_dir={d}/run_without_results", "not-whole"),
    (USERS, "--run_dir={d}/run_without_weights", "not-whole"),
    (USERS, "--run_dir={d}/run_truncated", "bad-weights"),
    (USERS, "--run_dir={d}/run_of_other_shapes", "bad-weights"),
    (USERS, "--run_dir={d}/run_of_pickle", "bad-weights"),
    (USERS, "--run_dir={d}/run_with_broken_config", "bad-json"),
    (USERS, "--run_dir={d}/run_without_vocabulary", "missing-file"),
    # All of them open runs alike.
    ("evaluate", "--run_dir={d}/run_overwritten", "bad-weights"),
    ("evaluate", "--run_dir={d}/run_with_other_bytes", "bad-weights"),
    # Those that read the run's data.
    (MEASURERS, "--run_dir={d}/run_of_other_classes", "unknown-label", ""),
    (
        f"{MEASURERS} predict",
        "--split=test --run_dir={d}/run_without_data",
        "no-data",
        "",
    ),
    # Checkpoints.
    ("predict", "--run_dir={d}/encoder_truncated", "bad-weights"),
    ("predict", "--run_dir={d}/encoder_of_pickle", "no-weights"),
    ("predict", "--run_dir={d}/encoder_of_hidden_pickle", "bad-weights"),
    ("predict", "--run_dir={d}/encoder_of_other_shapes", "wrong-shape"),
    ("predict", "--run_dir={d}/encoder_without_vocabulary", "missing-file"),
    # Reconstructions.
    (
        "reconstruct",
        "--run_dir={d}/run_of_another_method",
        "no-reconstruction-head",
    ),
    ("reconstruct", "--victim_run={d}/none", "no-run"),
    ("reconstruct", "--victim_run={d}/run_truncated", "bad-weights"),
    ("reconstruct", "--victim_run={d}/run_of_other_classes", "other-classes"),
]

REPORTED = [
    ("report", "{d}/none", "no-run"),
    ("report", "{d}/encoder", "no-run"),
    ("report", "{d}/run_of_newer_format", "bad-record"),
    ("report", "{d}/run_with_latin_record", "bad-record"),
    ("report", "{d}/run_of_unknown_method", "unknown-method", ""),
    ("report", "{d}/run_without_results", "not-whole"),
    ("report", "{d}/attacked_of_odd_results", "odd-form", ""),
    ("report", "{d}/attacked_of_odd_robustness", "odd-form", ""),
    ("report", "{d}/attacked_without_a_norm", "odd-form", ""),
    ("report", "{d}/attacked_with_broken_robustness", "bad-json", ""),
    ("report", "{d}/rar_0 {d}/attacked_elsewhere", "different-epsilons", ""),
    ("report", "{d}/attacked_without_metrics", "no-such-file", ""),
    ("report", "{d}/attacked_with_broken_metrics", "bad-json", ""),
    ("report", "{d}/attacked_with_odd_adversaries", "odd-form", ""),
    ("report", "{d}/attacked_with_pickle", "bad-representations", ""),
    ("report", "{d}/attacked_with_truncated_arrays", "bad-representations", ""),
    ("report", "--output_dir= {d}/none", "no-run"),
]


@bad_input.cases(RUNS)
def test_bad_runs(tool, arguments, code, where, runs, untouched):
    bad_input.check(tool, arguments, code, where, untouched)


@bad_input.cases(REPORTED)
def test_bad_reported_runs(tool, arguments, code, where, runs, untouched):
    bad_input.check(tool, arguments, code, where, untouched)
