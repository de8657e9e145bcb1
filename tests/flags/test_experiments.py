"""The flagfiles of the paper's experiments say what the paper says."""

import pathlib

import pytest

from tests.tools import in_process

FOLDER = pathlib.Path(__file__).parents[2] / "flags" / "experiments"
METHODS = ("baseline", "freelb", "carl", "rar", "carl_rar")

# Table 1.
ADVERSARY = {
    "sst2": {"gamma": 0.6, "alpha": 0.1, "epsilon": 0.0, "n": 2},
    "yahoo": {"gamma": 0.0, "alpha": 0.01, "epsilon": 0.0, "n": 3},
    "yelp": {"gamma": 0.5, "alpha": 0.05, "epsilon": 0.0, "n": 3},
    "ag_news": {"gamma": 0.0, "alpha": 0.01, "epsilon": 0.0, "n": 3},
}
# Table 3.
START_STEPS = {"sst2": 6315, "yahoo": 7200, "yelp": 5625, "ag_news": 7750}
# Section 4.1.
TRAIN_EXAMPLES = {
    "sst2": 67349,
    "yahoo": 5 * 12000,
    "yelp": 2 * 30000,
    "ag_news": 4 * 15000,
}
# Section 4.3.
NEGATIVES = {"sst2": 16000, "yahoo": 16000, "yelp": 20000, "ag_news": 16000}
BATCH_SIZES = {"sst2": 32, "yahoo": 32, "yelp": 32, "ag_news": 16}

FLAGS_OF = {
    "gamma": "adv_init_magnitude",
    "alpha": "adv_step_size",
    "epsilon": "adv_max_norm",
    "n": "adv_steps",
}

each_cell = pytest.mark.parametrize(
    ("dataset", "method"),
    [(dataset, method) for dataset in ADVERSARY for method in METHODS],
)


def read(dataset, method):
    """The flags that a flagfile sets."""
    text = (FOLDER / f"{dataset}_{method}.cfg").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    flags = dict(line.removeprefix("--").split("=") for line in lines)
    assert len(flags) == len(lines)
    return flags


@each_cell
def test_a_cell_is_the_papers(dataset, method):
    flags = read(dataset, method)
    assert flags.pop("method") == method
    assert flags.pop("dataset") == dataset
    assert flags.pop("encoder") == "albert/albert-base-v2"
    assert int(flags.pop("batch_size")) == BATCH_SIZES[dataset]
    assert float(flags.pop("learning_rate")) == 1e-5
    assert flags.pop("learning_rate_schedule") == "constant"
    # The paper names neither.
    epochs = int(flags.pop("epochs"))
    del flags["max_length"]
    if method != "baseline":
        for symbol, value in ADVERSARY[dataset].items():
            assert float(flags.pop(FLAGS_OF[symbol])) == value
    if "carl" in method:
        start = int(flags.pop("contrastive_start_step"))
        assert start == START_STEPS[dataset]
        # CARL has an epoch at least.
        updates = -(-TRAIN_EXAMPLES[dataset] // BATCH_SIZES[dataset])
        assert start <= (epochs - 1) * updates
        assert flags.pop("contrastive_loss") == "nce"
        assert int(flags.pop("contrastive_negatives")) == NEGATIVES[dataset]
        assert float(flags.pop("contrastive_temperature")) == 0.07
        assert float(flags.pop("bank_momentum")) == 0.5
    if "rar" in method:
        assert float(flags.pop("reconstruction_weight")) == 0.1
    assert not flags


@pytest.mark.parametrize(
    "flagfile", sorted(FOLDER.glob("*.cfg")), ids=lambda path: path.stem
)
def test_every_flagfile_is_one_that_train_takes(flagfile, tmp_path):
    called = in_process.call(
        "train",
        [
            f"--flagfile={flagfile}",
            f"--output_dir={tmp_path / 'run'}",
            "--only_check_args",
        ],
    )
    assert called.returncode == 0, called.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("dataset", ADVERSARY)
def test_the_cells_of_a_dataset_differ_in_their_method_alone(dataset):
    cells = [read(dataset, method) for method in METHODS]
    common = set.intersection(*(set(flags.items()) for flags in cells))
    for flags in cells:
        own = set(flags.items()) - common
        assert {name.split("_")[0] for name, _ in own} <= {
            "method",
            "adv",
            "contrastive",
            "bank",
            "reconstruction",
        }
