"""Flags that are mistyped, out of bounds, or do not go together."""

from tests.tools import bad_input
from tests.tools.bad_input import ALL, NO_FILES, TRAINERS, USERS

ATTACKERS = "attack reconstruct tune"

ROWS = [
    # Parsing.
    (ALL, "--alpha=1", "bad-flag", "Unknown command line flag 'alpha'"),
    (f"{TRAINERS} {USERS}", "carl", "bad-flag", "'carl'"),
    (ALL, "--flagfile={d}/none.cfg", "bad-flag", "Unable to open flagfile"),
    (ALL, "--flagfile={d}/encoder", "bad-flag", "Unable to open flagfile"),
    (ALL, "--flagfile={d}/latin.cfg", "bad-flag"),
    (ALL, "--overwrite=maybe", "bad-flag"),
    (ALL, "--plugin={d}/none.py", "no-such-plugin"),
    (ALL, "--plugin=no_such_module", "no-such-plugin"),
    (TRAINERS, "--adv_steps=x", "bad-flag"),
    (TRAINERS, "--adv_steps=2.5", "bad-flag"),
    (TRAINERS, "--learning_rate=fast", "bad-flag"),
    (TRAINERS, "--contrastive_negatives=some", "bad-flag"),
    ("attack", "--epsilons=0.1,x", "bad-flag"),
    ("attack", "--epsilons=", "bad-flag"),
    ("tune", "--tune_steps=2,x", "bad-flag"),
    # A flag of tools.attack.
    ("reconstruct", "--epsilons=0.1", "bad-flag", "Unknown command line flag"),
    # Missing.
    (f"{TRAINERS} export", "--output_dir=", "missing-flag", "--output_dir:"),
    (USERS, "--run_dir=", "missing-flag", "--run_dir:"),
    # Choices.
    (TRAINERS, "--method=pgd", "unknown-method"),
    (TRAINERS, "--precision=int8", "not-a-choice"),
    (TRAINERS, "--contrastive_loss=triplet", "not-a-choice"),
    (TRAINERS, "--strategy=tpu", "not-a-choice"),
    (USERS, "--split=all", "not-a-choice"),
    ("attack reconstruct", "--attack_norm=l1", "not-a-choice"),
    ("tune", "--fine_search=grid", "not-a-choice"),
    ("tune", "--tune_objective=loss", "not-a-choice"),
    ("export", "--format=onnx", "not-a-choice"),
    (f"{TRAINERS} {USERS}", f"{NO_FILES} --dataset=imdb", "not-a-choice"),
    # Bounds.
    (TRAINERS, "--adv_steps=0", "out-of-range"),
    ("train", "--adv_steps={huge}", "out-of-range"),
    (TRAINERS, "--adv_step_size=0", "out-of-range"),
    (TRAINERS, "--adv_step_size=nan", "out-of-range"),
    (TRAINERS, "--adv_max_norm=-1", "out-of-range", "--adv_max_norm=-1.0"),
    (TRAINERS, "--adv_max_norm=nan", "out-of-range"),
    (TRAINERS, "--learning_rate=0", "out-of-range"),
    (TRAINERS, "--seed=-1", "out-of-range"),
    (TRAINERS, "--batch_size={huge}", "out-of-range"),
    (TRAINERS, "--epochs={huge}", "out-of-range"),
    (TRAINERS, "--bank_momentum=2", "out-of-range"),
    (TRAINERS, "--contrastive_negatives=0", "out-of-range"),
    (TRAINERS, "--contrastive_negatives={huge}", "out-of-range"),
    # Those of an objective that the method does not have.
    (TRAINERS, "--contrastive_weight=nan", "out-of-range"),
    (TRAINERS, "--reconstruction_weight=inf", "out-of-range"),
    (ATTACKERS, "--attack_steps=0", "out-of-range"),
    (ATTACKERS, "--attack_steps={huge}", "out-of-range"),
    (ATTACKERS, "--attack_step_size=0", "out-of-range"),
    (ATTACKERS, "--attack_step_size=nan", "out-of-range"),
    (ATTACKERS, "--max_examples=0", "out-of-range"),
    ("attack", "--epsilons=0.1,-1", "out-of-range", "--epsilons=-1"),
    ("attack", "--epsilons=0.1,nan", "out-of-range", "--epsilons=nan"),
    ("reconstruct", "--epsilon=-1", "out-of-range"),
    ("tune", "--coarse_trials=0", "out-of-range"),
    # What does not go together.
    ("tune", "--tune_steps=4,2", "not-bounds"),
    ("tune", "--tune_steps=2,3,4", "not-bounds"),
    (
        "tune",
        "--tune_max_norm=0.1,0.2 --tune_init_magnitude=0.8",
        "start-outside-ball",
    ),
    ("tune", "--tune_attack_share=0.2", "unused-setting"),
    ("tune", "--tune_epsilon=0.3", "unused-setting"),
    ("tune", "--method=baseline", "nothing-to-tune"),
    (
        TRAINERS,
        "--adv_max_norm=0.1 --adv_init_magnitude=0.8",
        "start-outside-ball",
    ),
    (TRAINERS, "--warmup_proportion=0.2", "warmup-without-schedule"),
    (
        TRAINERS,
        "--batch_size=2 --accumulation_steps=3",
        "more-slices-than-texts",
    ),
    (
        TRAINERS,
        "--contrastive_start_epoch=2 --contrastive_start_step=5",
        "two-starts",
    ),
    (
        TRAINERS,
        "--method=carl --max_steps=50 --contrastive_start_step=50",
        "starts-after-the-end",
    ),
    (
        TRAINERS,
        "--method=carl --epochs=1",
        "starts-after-the-end",
        "--contrastive_start_epoch=1.0",
    ),
    (
        TRAINERS,
        "--method=rar --epochs=1 --reconstruction_start_epoch=1",
        "starts-after-the-end",
    ),
    # Sources of data.
    (f"{TRAINERS} {USERS}", "--train_file=a.csv --dataset=sst2", "clash"),
    (f"{TRAINERS} {USERS}", "--test_file=a.csv --data_dir={d}", "clash"),
    (
        f"{TRAINERS} {USERS}",
        f"{NO_FILES} --data_dir={{d}} --dataset=movie_reviews",
        "clash",
    ),
    (TRAINERS, "--train_file=", "no-train-file", "--dev_file={d}/dev.csv"),
]
# Refused once it is known what run it is.
OF_RUNS = [
    ("predict", "--split=dev --texts_file={d}/dev.csv", "clash"),
    ("predict", "--text_column=body", "clash"),
    ("export", "--overwrite", "clash", "--overwrite:"),
    (
        "export",
        "--format=huggingface --precision=bfloat16",
        "clash",
    ),
    (
        f"{TRAINERS} evaluate",
        f"{NO_FILES} --dataset=movie_reviews --split_ids_file={{d}}/yelp.json",
        "clash",
    ),
]


@bad_input.cases(ROWS)
def test_bad_flags(tool, arguments, code, where, untouched):
    bad_input.check(tool, arguments, code, where, untouched)


@bad_input.cases(OF_RUNS)
def test_bad_flags_of_runs(tool, arguments, code, where, runs, untouched):
    bad_input.check(tool, arguments, code, where, untouched)
