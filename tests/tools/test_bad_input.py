"""Whatever is wrong: code 2, one line that says what and where, no trace."""

import hashlib
import json
import pickle
import shutil
import subprocess

import pytest

from tests import binaries, report_runs, tiny_run
from tfadv.runs import run_folder

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

# Binaries, what is wrong, how it is given, and what the line must say.
ROWS = [
    # Files of texts.
    (
        TRAINERS,
        "missing file",
        "--train_file={d}/none.csv",
        "--train_file {d}/none.csv: there is no such file",
    ),
    (
        TRAINERS,
        "missing dev file",
        "--dev_file={d}/none.csv",
        "--dev_file {d}/none.csv: there is no such file",
    ),
    (
        USERS,
        "missing file",
        "--test_file={d}/none.csv",
        "--test_file {d}/none.csv: there is no such file",
    ),
    (
        TRAINERS,
        "missing adversaries",
        "--augment_file={d}/none.jsonl",
        "--augment_file {d}/none.jsonl: there is no such file",
    ),
    (
        TRAINERS,
        "empty file",
        "--train_file={d}/empty.csv",
        "--train_file {d}/empty.csv: the file is empty",
    ),
    (
        USERS,
        "empty file",
        "--test_file={d}/empty.csv",
        "--test_file {d}/empty.csv: the file is empty",
    ),
    (
        TRAINERS,
        "header alone",
        "--dev_file={d}/header.csv",
        "--dev_file {d}/header.csv: there is no example in it",
    ),
    (
        TRAINERS,
        "folder for a file",
        "--train_file={d}/folder.csv",
        "--train_file {d}/folder.csv: this is a folder",
    ),
    (
        USERS,
        "folder for a file",
        "--test_file={d}/folder.csv",
        "--test_file {d}/folder.csv: this is a folder",
    ),
    (
        TRAINERS,
        "dangling link",
        "--train_file={d}/link.csv",
        "--train_file {d}/link.csv: there is no such file",
    ),
    (
        USERS,
        "dangling link",
        "--test_file={d}/link.csv",
        "--test_file {d}/link.csv: there is no such file",
    ),
    (
        TRAINERS,
        "wrong encoding",
        "--train_file={d}/latin.csv",
        "--train_file {d}/latin.csv, line 3: the byte 0xe9 is not UTF-8",
    ),
    (
        USERS,
        "wrong encoding",
        "--test_file={d}/latin.csv",
        "--test_file {d}/latin.csv, line 3: the byte 0xe9 is not UTF-8",
    ),
    (
        f"{TRAINERS} {USERS}",
        "wrong column",
        "--train_file={d}/train.csv --test_file={d}/test.csv "
        "--text_column=sentence",
        "there is no column 'sentence', only 'text', 'label'; name the right "
        "one with --text_column",
    ),
    (
        f"{TRAINERS} {MEASURERS} export",
        "one column for both",
        "--train_file={d}/train.csv --test_file={d}/test.csv "
        "--label_column=text",
        "--text_column and --label_column are both 'text'",
    ),
    (
        TRAINERS,
        "class never seen in train",
        "--dev_file={d}/ugly.csv",
        "--dev_file {d}/ugly.csv, line 3: the label 'ugly'",
    ),
    (
        "train",
        "class never seen in train, in test",
        "--test_file={d}/ugly.csv",
        "--test_file {d}/ugly.csv, line 3: the label 'ugly'",
    ),
    (
        f"{MEASURERS} export",
        "class never seen in train",
        "--test_file={d}/ugly.csv",
        "--test_file {d}/ugly.csv, line 3: the label 'ugly'",
    ),
    (
        TRAINERS,
        "unknown label of adversaries",
        "--augment_file={d}/ugly.jsonl",
        "--augment_file {d}/ugly.jsonl, line 1: the label 'ugly'",
    ),
    (
        TRAINERS,
        "one class",
        "--train_file={d}/one_class.csv",
        "--train_file {d}/one_class.csv: every label is 'good'",
    ),
    (
        TRAINERS,
        "empty text",
        "--train_file={d}/blank.csv",
        "--train_file {d}/blank.csv, line 3: the text in 'text' is empty",
    ),
    (
        USERS,
        "empty text",
        "--test_file={d}/blank.csv",
        "--test_file {d}/blank.csv, line 3: the text in 'text' is empty",
    ),
    (
        "predict",
        "missing texts",
        "--texts_file={d}/none.txt",
        "--texts_file {d}/none.txt: there is no such file",
    ),
    (
        "predict",
        "empty texts",
        "--texts_file={d}/empty.csv",
        "there are no texts in the input",
    ),
    (
        "predict",
        "folder for texts",
        "--texts_file={d}/encoder",
        "--texts_file {d}/encoder:",
    ),
    (
        "predict",
        "texts of a wrong encoding",
        "--texts_file={d}/latin.csv",
        "--texts_file {d}/latin.csv, line 3: the byte 0xe9 is not UTF-8",
    ),
    (
        "predict",
        "clash of texts and split",
        "--texts_file={d}/dev.csv --split=dev",
        "--split=dev and --texts_file={d}/dev.csv clash",
    ),
    (
        "predict",
        "missing flags",
        "--split=test --run_dir={d}/run_without_flags",
        "{d}/run_without_flags/flags.cfg is missing",
    ),
    (
        TRAINERS,
        "not JSON",
        "--train_file={d}/broken.jsonl",
        "--train_file {d}/broken.jsonl, line 2: this is not JSON",
    ),
    (
        TRAINERS,
        "missing folder",
        f"{NO_FILES} --data_dir={{d}}/none",
        "--data_dir={d}/none: expected a folder with train, dev and test",
    ),
    (
        TRAINERS,
        "wrong folder",
        f"{NO_FILES} --data_dir={{d}}/encoder",
        "--data_dir={d}/encoder: expected train.tsv, train.csv or train.jsonl",
    ),
    (
        TRAINERS,
        "duplicate ids",
        f"{DRAWN} --split_ids_file={{d}}/twice.json",
        "--split_ids_file={d}/twice.json: train/1 is in train and again in",
    ),
    (
        TRAINERS,
        "ids of another dataset",
        f"{DRAWN} --split_ids_file={{d}}/yelp.json",
        "--split_ids_file={d}/yelp.json: its rows are of yelp",
    ),
    (
        TRAINERS,
        "missing ids",
        f"{DRAWN} --split_ids_file={{d}}/none.json",
        "--split_ids_file={d}/none.json: the file cannot be read (No such",
    ),
    (
        TRAINERS,
        "ids are no JSON",
        f"{DRAWN} --split_ids_file={{d}}/latin.csv",
        "--split_ids_file={d}/latin.csv: this is not JSON",
    ),
    (
        TRAINERS,
        "ids beyond the file",
        f"{DRAWN} --split_ids_file={{d}}/beyond.json",
        "--split_ids_file={d}/beyond.json:",
    ),
    # Flags.
    (
        ALL,
        "unknown flag",
        "--alpha=1",
        "Unknown command line flag 'alpha'; --help lists all flags",
    ),
    (
        f"{TRAINERS} {USERS}",
        "stray argument",
        "carl",
        "'carl' is not a flag; --help lists all flags",
    ),
    (ALL, "missing flagfile", "--flagfile={d}/none.cfg", "{d}/none.cfg"),
    (ALL, "flagfile is a folder", "--flagfile={d}/encoder", "{d}/encoder"),
    (
        ALL,
        "flagfile of a wrong encoding",
        "--flagfile={d}/latin.cfg",
        "{d}/latin.cfg",
    ),
    (TRAINERS, "unknown value", "--method=pgd", "--method=pgd"),
    (TRAINERS, "unknown precision", "--precision=int8", "--precision=int8"),
    (USERS, "unknown value", "--split=all", "--split=all"),
    (
        "attack reconstruct",
        "unknown norm",
        "--attack_norm=l1",
        "--attack_norm=l1",
    ),
    ("tune", "unknown search", "--fine_search=grid", "--fine_search=grid"),
    (
        f"{TRAINERS} {USERS}",
        "unknown dataset",
        f"{NO_FILES} --dataset=imdb",
        "imdb",
    ),
    (ALL, "no bool", "--overwrite=maybe", "--overwrite=maybe"),
    (TRAINERS, "no number", "--adv_steps=x", "--adv_steps=x"),
    (TRAINERS, "out of range", "--adv_steps=0", "--adv_steps=0"),
    (TRAINERS, "rate of zero", "--learning_rate=0", "--learning_rate=0"),
    (TRAINERS, "negative seed", "--seed=-1", "--seed=-1"),
    (TRAINERS, "share above 1", "--bank_momentum=2", "--bank_momentum=2"),
    (
        TRAINERS,
        "no negatives",
        "--contrastive_negatives=0",
        "--contrastive_negatives=0",
    ),
    (
        "attack reconstruct tune",
        "out of range, attack",
        "--attack_steps=0",
        "--attack_steps=0",
    ),
    (
        "attack",
        "negative radius",
        "--epsilons=0.1,-1",
        "--epsilons=['0.1', '-1']",
    ),
    ("reconstruct", "negative radius", "--epsilon=-1", "--epsilon=-1"),
    ("tune", "no bounds", "--tune_steps=4,2", "--tune_steps=['4', '2']"),
    ("tune", "no trials", "--coarse_trials=0", "--coarse_trials=0"),
    ("train", "far out of range", "--adv_steps={huge}", "--adv_steps={huge}"),
    (
        TRAINERS,
        "far out of range, batch",
        "--batch_size={huge}",
        "--batch_size={huge}",
    ),
    (
        TRAINERS,
        "far out of range, epochs",
        "--epochs={huge}",
        "--epochs={huge}",
    ),
    (
        TRAINERS,
        "far out of range, negatives",
        "--method=carl --contrastive_start_step=0 "
        "--contrastive_negatives={huge}",
        "--contrastive_negatives={huge}",
    ),
    (
        "attack reconstruct tune",
        "far out of range, attack",
        "--attack_steps={huge}",
        "--attack_steps={huge}",
    ),
    (
        TRAINERS,
        "NaN",
        "--adv_max_norm=nan",
        "adv_max_norm=nan: clash",
    ),
    (
        TRAINERS,
        "NaN of an unused flag",
        "--contrastive_weight=nan",
        "--contrastive_weight=nan: expected a finite number",
    ),
    (
        TRAINERS,
        "infinite",
        "--reconstruction_weight=inf",
        "--reconstruction_weight=inf: expected a finite number",
    ),
    ("attack", "NaN", "--epsilons=0.1,nan", "--epsilons=['0.1', 'nan']"),
    (
        "attack reconstruct tune",
        "NaN step",
        "--attack_step_size=nan",
        "--attack_step_size=nan",
    ),
    (
        "reconstruct",
        "NaN",
        "--epsilon=nan",
        "--epsilon=nan: expected a finite number",
    ),
    ("tune", "NaN bound", "--tune_max_norm=nan", "--tune_max_norm=['nan']"),
    (
        f"{TRAINERS} {USERS}",
        "clash of data",
        "--dataset=movie_reviews --test_file={d}/test.csv",
        "--dataset=movie_reviews and --t",
    ),
    (
        TRAINERS,
        "clash of the start and the ball",
        "--adv_init_magnitude=0.8 --adv_max_norm=0.1",
        "adv_init_magnitude=0.8, adv_max_norm=0.1: clash",
    ),
    (
        TRAINERS,
        "clash of two starts",
        "--contrastive_start_step=5 --contrastive_start_epoch=2",
        "contrastive_start_step=5, contrastive_start_epoch=2.0: clash",
    ),
    (
        TRAINERS,
        "no slices",
        "--accumulation_steps=0",
        "--accumulation_steps=0",
    ),
    (
        TRAINERS,
        "more slices than texts",
        "--batch_size=4 --accumulation_steps=5",
        "batch_size=4, accumulation_steps=5: clash",
    ),
    (
        TRAINERS,
        "clash of rate and warm-up",
        "--warmup_proportion=0.2",
        "learning_rate_schedule=constant, warmup_proportion=0.2: clash",
    ),
    (
        "tune",
        "clash of objective and share",
        "--tune_attack_share=0.1",
        "tune_objective=dev_accuracy, tune_attack_share=0.1: clash",
    ),
    (
        "train",
        "start after the end",
        "--method=carl --contrastive_start_step=9 --max_steps=99",
        "--contrastive_start_step=9: the run has 6 updates",
    ),
    (
        "tune",
        "start after the end",
        "--method=carl --contrastive_start_step=9 --max_steps=99",
        "--contrastive_start_step=9: the run has 6 updates",
    ),
    (
        "export",
        "clash of format and precision",
        "--format=huggingface --precision=bfloat16",
        "--precision=bfloat16 and --format=huggingface clash",
    ),
    (
        "export",
        "clash of versions and overwriting",
        "--overwrite",
        "--overwrite and --format=saved_model clash",
    ),
    ("export", "unknown format", "--format=onnx", "--format=onnx"),
    (
        "tune",
        "clash of method and search",
        "--method=baseline",
        "--method=baseline",
    ),
    (
        USERS,
        "clash of split and file",
        "--dev_file={d}/dev.csv",
        "--split=test needs --test_file",
    ),
    # Encoders.
    (
        TRAINERS,
        "missing encoder",
        "--encoder={d}/none",
        "--encoder='{d}/none': expected a folder, found none",
    ),
    (
        TRAINERS,
        "text too long",
        "--max_length=1000",
        "--encoder={d}/encoder: --max_length=1000, but the encoder reads at "
        "most 24 tokens",
    ),
    (
        TRAINERS,
        "encoder of a pickle",
        "--encoder={d}/encoder_of_pickle",
        "--encoder: {d}/encoder_of_pickle has no weights: expected "
        "model.safetensors or model.weights.h5, found pytorch_model.bin",
    ),
    (
        TRAINERS,
        "encoder without config",
        "--encoder={d}/encoder_without_config",
        "--encoder: {d}/encoder_without_config has no config.json",
    ),
    (
        TRAINERS,
        "broken config",
        "--encoder={d}/encoder_with_broken_config",
        "{d}/encoder_with_broken_config/config.json cannot be read as JSON",
    ),
    (
        TRAINERS,
        "config of a wrong encoding",
        "--encoder={d}/encoder_with_latin_config",
        "{d}/encoder_with_latin_config/config.json cannot be read as JSON",
    ),
    (
        TRAINERS,
        "config without heads",
        "--encoder={d}/encoder_without_heads",
        "--encoder: the files in {d}/encoder_without_heads do not make",
    ),
    (
        TRAINERS,
        "config of other shapes",
        "--encoder={d}/encoder_of_other_shapes",
        "--encoder: the files in {d}/encoder_of_other_shapes do not make",
    ),
    (
        TRAINERS,
        "truncated encoder",
        "--encoder={d}/encoder_truncated",
        "--encoder: the files in {d}/encoder_truncated do not make",
    ),
    (
        TRAINERS,
        "pickle by another name",
        "--encoder={d}/encoder_of_hidden_pickle",
        "--encoder: the files in {d}/encoder_of_hidden_pickle do not make",
    ),
    (
        TRAINERS,
        "missing vocabulary",
        "--encoder={d}/encoder_without_vocabulary",
        "{d}/encoder_without_vocabulary must have the vocabulary as vocab.txt",
    ),
    (
        TRAINERS,
        "empty vocabulary",
        "--encoder={d}/encoder_with_empty_vocabulary",
        "{d}/encoder_with_empty_vocabulary",
    ),
    (
        TRAINERS,
        "vocabulary of a wrong encoding",
        "--encoder={d}/encoder_with_latin_vocabulary",
        "{d}/encoder_with_latin_vocabulary/vocab.txt must be readable UTF-8",
    ),
    (
        TRAINERS,
        "vocabulary too long",
        "--encoder={d}/encoder_with_long_vocabulary",
        "{d}/encoder_with_long_vocabulary",
    ),
    # Runs.
    *(
        (USERS, problem, f"--run_dir={{d}}/{folder}", message)
        for problem, folder, message in (
            ("missing run", "none", "--run_dir={d}/none: not the folder of a"),
            ("wrong folder", "ag_news", "{d}/ag_news: not the folder of a run"),
            ("file for a run", "dev.csv", "{d}/dev.csv: not the folder of a"),
            (
                "run of a newer version",
                "run_of_newer_format",
                "--run_dir={d}/run_of_newer_format: the run has format",
            ),
            (
                "broken description",
                "run_with_broken_description",
                "--run_dir={d}/run_with_broken_description: run.json cannot",
            ),
            (
                "description of a wrong encoding",
                "run_with_latin_description",
                "--run_dir={d}/run_with_latin_description: run.json cannot",
            ),
            (
                "description without classes",
                "run_without_classes",
                "--run_dir={d}/run_without_classes: run.json does not tell",
            ),
            (
                "text too long",
                "run_of_long_texts",
                "--run_dir={d}/run_of_long_texts: --max_length=1000, but the",
            ),
            (
                "missing results",
                "run_without_results",
                "--run_dir={d}/run_without_results: this run is not whole, it "
                "has no results.json",
            ),
            (
                "missing weights",
                "run_without_weights",
                "--run_dir={d}/run_without_weights: this run is not whole, it "
                "has no model.weights.h5",
            ),
            (
                "truncated weights",
                "run_truncated",
                "--run_dir={d}/run_truncated: model.weights.h5 does not hold",
            ),
            (
                "weights of other shapes",
                "run_of_other_shapes",
                "--run_dir={d}/run_of_other_shapes: model.weights.h5 does not",
            ),
            (
                "pickle for weights",
                "run_of_pickle",
                "--run_dir={d}/run_of_pickle: model.weights.h5 does not hold",
            ),
            (
                "broken config of the encoder",
                "run_with_broken_config",
                "{d}/run_with_broken_config/encoder/config.json cannot be",
            ),
            (
                "missing vocabulary",
                "run_without_vocabulary",
                "{d}/run_without_vocabulary/encoder must have the vocabulary",
            ),
        )
    ),
    # All of them open runs alike.
    *(
        ("evaluate", problem, f"--run_dir={{d}}/{folder}", message)
        for problem, folder, message in (
            (
                "description without precision",
                "run_without_precision",
                "--run_dir={d}/run_without_precision: run.json does not desc",
            ),
            (
                "weights overwritten",
                "run_overwritten",
                "--run_dir={d}/run_overwritten: model.weights.h5 does not hold",
            ),
            (
                "weights with other bytes",
                "run_with_other_bytes",
                "--run_dir={d}/run_with_other_bytes: model.weights.h5 does not",
            ),
        )
    ),
    *(
        (MEASURERS, problem, f"--run_dir={{d}}/{folder}", message)
        for problem, folder, message in (
            (
                "run of other classes",
                "run_of_other_classes",
                "is not one of the known labels 'a', 'b'",
            ),
            (
                "missing flags",
                "run_without_flags",
                "{d}/run_without_flags/flags.cfg is missing",
            ),
            (
                "flags of a wrong encoding",
                "run_with_latin_flags",
                "{d}/run_with_latin_flags/flags.cfg",
            ),
        )
    ),
    *(
        ("predict", problem, f"--run_dir={{d}}/{folder}", message)
        for problem, folder, message in (
            (
                "truncated checkpoint",
                "encoder_truncated",
                "--run_dir={d}/encoder_truncated: expected whole safetensors",
            ),
            (
                "checkpoint of a pickle",
                "encoder_of_pickle",
                "--run_dir={d}/encoder_of_pickle: expected the weights as "
                "model.safetensors, found pytorch_model.bin",
            ),
            (
                "checkpoint of a hidden pickle",
                "encoder_of_hidden_pickle",
                "--run_dir={d}/encoder_of_hidden_pickle: expected whole safet",
            ),
            (
                "checkpoint of other shapes",
                "encoder_of_other_shapes",
                "--run_dir={d}/encoder_of_other_shapes: expected bert.embed",
            ),
            (
                "checkpoint without vocabulary",
                "encoder_without_vocabulary",
                "--run_dir={d}/encoder_without_vocabulary:",
            ),
        )
    ),
    (
        "reconstruct",
        "run of another method",
        "--run_dir={d}/run_of_another_method",
        "--run_dir={d}/run_of_another_method: a freelb run has no recon",
    ),
    (
        "reconstruct",
        "missing victim",
        "--victim_run={d}/none",
        "--victim_run={d}/none: not the folder of a run",
    ),
    (
        "reconstruct",
        "truncated victim",
        "--victim_run={d}/run_truncated",
        "--victim_run={d}/run_truncated: model.weights.h5 does not hold",
    ),
    ("report", "missing run", "{d}/none", "{d}/none: not the folder of a run"),
    ("report", "wrong folder", "{d}/encoder", "{d}/encoder: not the folder of"),
    (
        "report",
        "run of a newer version",
        "{d}/run_of_newer_format",
        "{d}/run_of_newer_format: the run has format",
    ),
    *(
        ("report", problem, f"{{d}}/{folder}", message)
        for problem, folder, message in (
            (
                "missing results",
                "run_without_results",
                "{d}/run_without_results/results.json cannot be read",
            ),
            (
                "missing flags",
                "run_without_flags",
                "{d}/run_without_flags/flags.cfg",
            ),
            (
                "flags of a wrong encoding",
                "run_with_latin_flags",
                "{d}/run_with_latin_flags/flags.cfg",
            ),
            (
                "results of another form",
                "attacked_of_odd_results",
                "{d}/attacked_of_odd_results/results.json: expected the form",
            ),
            (
                "unknown method",
                "attacked_of_odd_method",
                "{d}/attacked_of_odd_method/results.json: there is no method",
            ),
            (
                "robustness of another form",
                "attacked_of_odd_robustness",
                "{d}/attacked_of_odd_robustness/robustness.json: expected the",
            ),
            (
                "a token without a norm",
                "attacked_without_a_norm",
                "{d}/attacked_without_a_norm/robustness.json: expected the",
            ),
            (
                "broken robustness",
                "attacked_with_broken_robustness",
                "{d}/attacked_with_broken_robustness/robustness.json cannot be",
            ),
            (
                "clash of radii",
                "rar_0 {d}/attacked_elsewhere",
                "rar (rar_0): its runs were attacked at different radii",
            ),
            (
                "missing metrics",
                "attacked_without_metrics",
                "{d}/attacked_without_metrics/metrics.jsonl: expected the form",
            ),
            (
                "broken metrics",
                "attacked_with_broken_metrics",
                "{d}/attacked_with_broken_metrics/metrics.jsonl cannot be read",
            ),
            (
                "adversaries of another form",
                "attacked_with_odd_adversaries",
                "{d}/attacked_with_odd_adversaries/adversaries.jsonl: a line",
            ),
            (
                "pickle for representations",
                "attacked_with_pickle",
                "{d}/attacked_with_pickle/representations.npz cannot be read",
            ),
            (
                "truncated representations",
                "attacked_with_truncated_arrays",
                "{d}/attacked_with_truncated_arrays/representations.npz cannot",
            ),
        )
    ),
    (
        "report",
        "printed alone",
        "--output_dir= {d}/run_without_flags",
        "{d}/run_without_flags/flags.cfg",
    ),
    # Output.
    (
        TRAINERS,
        "folder in use",
        "--output_dir={d}/ag_news",
        "--output_dir={d}/ag_news: the folder is in use, it holds",
    ),
    (
        "export",
        "folder in use",
        "--output_dir={d}/ag_news",
        "--output_dir={d}/ag_news: expected a new folder or one of earlier",
    ),
    (
        "export",
        "folder in use by a checkpoint",
        "--format=huggingface --output_dir={d}/encoder",
        "--output_dir={d}/encoder",
    ),
    (
        "train",
        "folder with a run",
        "--output_dir={d}/run",
        "--output_dir={d}/run: the folder already holds a run",
    ),
    (
        "tune",
        "folder with another search",
        "--output_dir={d}/search",
        "--output_dir={d}/search holds another search",
    ),
    (
        "tune",
        "flags of a search of a wrong encoding",
        "--output_dir={d}/search_latin",
        "{d}/search_latin",
    ),
    (
        f"{MEASURERS} predict",
        "results there already",
        "--output_dir={d}/results",
        "is there already; give --overwrite to replace it",
    ),
    (
        "report",
        "results there already",
        "--output_dir={d}/results",
        "{d}/results/report.html is there already; give --overwrite",
    ),
    (
        ALL,
        "file for the output",
        "--output_dir={d}/dev.csv",
        "--output_dir={d}/dev.csv: cannot write there, expected a folder",
    ),
    (
        ALL,
        "output below a file",
        "--output_dir={d}/dev.csv/out",
        "--output_dir={d}/dev.csv/out: cannot write there, expected a folder, "
        "found a file at {d}/dev.csv",
    ),
    (
        ALL,
        "output is a dangling link",
        "--output_dir={d}/link.csv",
        "--output_dir={d}/link.csv: cannot write there, expected a folder",
    ),
    (
        ALL,
        "no space",
        "--output_dir={d}/full/out",
        "--output_dir={d}/full/out: cannot write there (",
    ),
    (
        "train",
        "no space after a while",
        "--output_dir={d}/filling/out",
        "--output_dir={d}/filling/out: cannot write there (",
    ),
]

CASES = [
    pytest.param(binary, arguments, message, id=f"{binary}: {problem}")
    for names, problem, arguments, message in ROWS
    for binary in names.split()
]

# Folders that are disks of that many bytes; one is full from the start.
DISKS = {"full": 2**12, "filling": 7 * 2**12}

FILES = {
    "empty.csv": b"",
    "header.csv": b"text,label\n",
    "latin.csv": b"text,label\ngood,good\ncaf\xe9,bad\n",
    "latin.cfg": b"--seed=1\n# caf\xe9\n",
    "ugly.csv": b"text,label\ngood,good\nbad,ugly\n",
    "one_class.csv": b"text,label\ngood,good\nfine,good\n",
    "blank.csv": b"text,label\ngood,good\n ,bad\n",
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
    "search/search.cfg": b"--seed=5\n",
    "search_latin/search.cfg": b"--augment_file=caf\xe9\n",
    "results/evaluation.json": b"{}",
    "results/robustness.json": b"{}",
    "results/adversaries.jsonl": b"",
    "results/predictions.jsonl": b"",
    "results/report.html": b"",
}


def changed_json(**changes):
    """Returns what changes fields of a JSON file; `None` drops one."""

    def change(old):
        content = {**json.loads(old), **changes}
        kept = {k: v for k, v in content.items() if v is not None}
        return json.dumps(kept).encode()

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
# The same of a run that was trained.
RUNS = {
    "run_of_newer_format": {
        "run.json": changed_json(format=run_folder.FORMAT + 1)
    },
    "run_with_broken_description": {"run.json": truncated},
    "run_with_latin_description": {"run.json": b'{"method": "caf\xe9"}'},
    "run_without_classes": {"run.json": changed_json(label_names=None)},
    "run_without_precision": {"run.json": changed_json(precision=None)},
    "run_of_long_texts": {"run.json": changed_json(max_length=1000)},
    "run_of_another_method": {
        "run.json": changed_json(method="freelb", objectives={})
    },
    "run_of_other_classes": {"run.json": changed_json(label_names=["a", "b"])},
    "run_without_results": {"results.json": None},
    "run_without_weights": {"model.weights.h5": None},
    "run_truncated": {"model.weights.h5": truncated},
    "run_overwritten": {"model.weights.h5": overwritten},
    "run_with_other_bytes": {"model.weights.h5": with_other_bytes},
    "run_of_pickle": {"model.weights.h5": PICKLE},
    "run_of_other_shapes": {
        "encoder/config.json": changed_json(hidden_size=12)
    },
    "run_without_flags": {"flags.cfg": None},
    "run_with_latin_flags": {"flags.cfg": b"--test_file=caf\xe9\n"},
    "run_with_broken_config": {"encoder/config.json": truncated},
    "run_without_vocabulary": {"encoder/vocab.txt": None},
}
# The same of a run that was attacked.
ATTACKED = {
    "attacked_of_odd_results": {"results.json": b'{"method": "freelb"}'},
    "attacked_of_odd_method": {"results.json": changed_json(method="pgd")},
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


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with good and with bad input."""
    folder = tmp_path_factory.mktemp("work")
    tiny_run.write_all(folder)
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "folder.csv").mkdir()
    (folder / "link.csv").symlink_to("nowhere.csv")
    damage(folder, "encoder", ENCODERS)
    report_runs.write_all(folder)
    damage(folder, "rar_0", ATTACKED)
    return folder


@pytest.fixture(scope="module")
def runs(work):
    """The folder, where there is a run, too."""
    arguments = f"{GOOD['train']} --output_dir={{d}}/run"
    called = call("train", arguments.format(d=work).split(), work)
    assert called.returncode == 0, called.stderr
    damage(work, "run", RUNS)


def call(binary, arguments, work):
    return binaries.call(
        f"tools.{binary}", *arguments, folder=work, stdin=work / "dev.csv"
    )


@pytest.fixture(scope="module")
def disks(work, runs):
    """Makes folders small disks; tells whether that could be done."""
    for name in DISKS:
        (work / name).mkdir()
    try:
        for name, size in DISKS.items():
            mount = f"mount -t tmpfs -o size={size} tmpfs".split()
            subprocess.run(
                [*mount, work / name], check=True, capture_output=True
            )
    except (OSError, subprocess.CalledProcessError):
        yield False
        return
    (work / "full" / "all").write_bytes(bytes(DISKS["full"]))
    yield True
    for name in DISKS:
        subprocess.run(["umount", work / name], check=True)


def snapshot(folder):
    """Every name in a folder, with a hash of what is in it."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        if path.is_file()
        else path.is_dir()
        for path in folder.rglob("*")
        if not DISKS.keys() & set(path.parts)
    }


@pytest.fixture(scope="module")
def untouched(work, runs):
    """What the binaries must leave as it is."""
    return snapshot(work)


@pytest.mark.parametrize(("binary", "arguments", "message"), CASES)
def test_bad_input(work, untouched, disks, binary, arguments, message):
    if not disks and any(f"{{d}}/{name}/" in arguments for name in DISKS):
        pytest.skip("no disk can be mounted here")
    places = {"d": work, "huge": 10**30}
    words = f"{GOOD[binary]} {arguments}".format(**places).split()
    message = message.format(**places)
    called = call(binary, words, work)
    stderr = called.stderr
    after = snapshot(work)
    for folder in (work, *(work / name for name in DISKS)):
        shutil.rmtree(folder / "out", ignore_errors=True)
    assert called.returncode == 2, stderr
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("error: ")
    assert message in stderr
    assert after == untouched
