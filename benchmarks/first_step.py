"""Measures how long it takes from a command to the end of its first step.

python -m benchmarks.first_step
python -m benchmarks.first_step --short

Ours: tools.train itself, FreeLB on the film reviews with the packaged
encoder, clocks around its calls. The peer: the same in plain PyTorch and
transformers, with the same texts and weights. Both read and tokenize all of
the training texts before the first step, ours those of dev and test as well.
Needs PyTorch and transformers.
"""

import os
import pathlib
import statistics
import sys
import tempfile
import time

from tqdm import tqdm

from benchmarks import measure

MODULE = "benchmarks.first_step"
OURS = "tfadv"
MAX_LENGTH = 128


def main():
    parser = measure.make_parser(__doc__)
    parser.add_argument("--encoder", default="all-minilm-l6-v2")
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--batch", type=int, default=32, help="texts")
    parser.add_argument("--steps", type=int, default=3, help="n of FreeLB")
    parser.add_argument("--repeats", type=int, default=5)
    options = measure.parse(parser, short={"repeats": 1})
    if options.only:
        clock = Clock()
        measure.answer(
            lambda: (our_start if options.only == OURS else peer_start)(
                options, clock
            )
        )
        return
    print(
        f"FreeLB, n = {options.steps}, on {options.dataset} with "
        f"{options.encoder}, batches of {options.batch}; each command in a "
        f"process of its own, in turns, {options.repeats} times after one "
        "that fills the caches; medians",
        flush=True,
    )
    found = {name: [] for name in (OURS, measure.PEER)}
    for number in tqdm(range(options.repeats + 1), "commands"):
        for name, phases in found.items():
            with measure.Worker(MODULE, name) as worker:
                answered = worker.ask()
            if number:
                phases.append(answered)
    print(f"\n{report(found)}")


def report(found):
    """Lays out the phases of both.

    Args:
        found: dict of lists of dicts: by the systems' names, of each process,
            each phase's seconds.

    Returns:
        string.
    """
    medians = {
        name: {
            phase: statistics.median(p[phase] for p in processes)
            for phase in processes[0]
        }
        for name, processes in found.items()
    }
    whole = {
        name: statistics.median(sum(p.values()) for p in processes)
        for name, processes in found.items()
    }
    peer = whole[measure.PEER]
    phases = list(
        dict.fromkeys(p for of_one in medians.values() for p in of_one)
    )
    rows = [
        [phase, *(of_one.get(phase, 0.0) / peer for of_one in medians.values())]
        for phase in phases
    ]
    rows.append(["all", *(seconds / peer for seconds in whole.values())])
    columns = ["phase", *(f"{name}, of PyTorch's whole" for name in medians)]
    slowest = max(medians[OURS], key=medians[OURS].get)
    share = medians[OURS][slowest] / whole[OURS]
    return (
        f"{measure.table(columns, rows)}\n\nWhat takes most of ours: "
        f"{slowest}, {share:.0%}. 1.00 here: {peer:.1f} s."
    )


class Clock:
    """Adds up the time since the process began by what it was spent on."""

    def __init__(self):
        self.phases = {}
        self._last = time.clock_gettime(time.CLOCK_BOOTTIME) - _age()

    def done(self, phase):
        """Says what the time since the last call was spent on."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.phases[phase] = self.phases.get(phase, 0.0) + now - self._last
        self._last = now

    def around(self, owner, name, before, phase):
        """Has calls of a function be a phase, and what was before another."""
        function = getattr(owner, name)

        def clocked(*args, **kwargs):
            self.done(before)
            result = function(*args, **kwargs)
            self.done(phase)
            return result

        setattr(owner, name, clocked)


def _age():
    """Returns the seconds since this process was started."""
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2]
    ticks = int(fields.split()[19])
    boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot - ticks / os.sysconf("SC_CLK_TCK")


class FirstStepDoneError(Exception):
    """Ends the command."""


def our_start(options, clock):
    """Runs tools.train until its first step is done."""
    from tfadv.data import loading
    from tfadv.tools import train as binary

    def import_all():
        binary_import()
        from tfadv.training import loop

        put_clocks(clock, loop)

    binary_import = binary.startup.import_tensorflow
    binary.startup.import_tensorflow = import_all
    clock.around(binary.startup, "import_tensorflow", "other", "imports")
    clock.around(loading, "load", "imports", "data")
    with tempfile.TemporaryDirectory() as folder:
        sys.argv = [
            "train",
            "--method=freelb",
            f"--dataset={options.dataset}",
            f"--encoder={options.encoder}",
            f"--max_length={MAX_LENGTH}",
            f"--batch_size={options.batch}",
            f"--adv_steps={options.steps}",
            f"--output_dir={folder}/run",
        ]
        try:
            binary.start()
        except FirstStepDoneError:
            return clock.phases


def put_clocks(clock, loop):
    """Puts clocks around what training calls before its first step ends."""
    from tfadv.update.classifier import AdversarialClassifier

    clock.around(loop.Tokenizer, "from_pretrained", "encoder", "tokenizing")
    clock.around(loop, "build_classifier", "other", "encoder")
    clock.around(loop.batching, "tokenize", "other", "tokenizing")
    # What Python does in a traced function, it does while it is traced.
    clock.around(AdversarialClassifier, "train_step", "other", "tracing")

    def first_step_done(self, batch, logs=None):
        clock.done("first step")
        raise FirstStepDoneError

    loop.callbacks.StepTimer.on_train_batch_end = first_step_done


def peer_start(options, clock):
    """Does the same in PyTorch, as a script of one's own would."""
    import torch
    import transformers

    from benchmarks import torch_peers
    from tfadv.datasets import catalogue
    from tfadv.sources import pip_archives

    clock.done("imports")
    train = catalogue.load(options.dataset).train
    clock.done("data")
    torch_peers.use_all_cores()
    folder = pip_archives.encoder_folder(options.encoder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2
    ).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=torch_peers.LEARNING_RATE
    )
    clock.done("encoder")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    token_ids = tokenizer(
        list(train.texts), truncation=True, max_length=MAX_LENGTH
    )["input_ids"]
    clock.done("tokenizing")
    chosen = torch.randperm(len(train))[: options.batch].tolist()
    batch = tokenizer.pad(
        {"input_ids": [token_ids[i] for i in chosen]}, return_tensors="pt"
    )
    labels = torch.tensor([int(train.labels[i]) for i in chosen])
    torch_peers.freelb_gradients(model, batch, labels, options.steps)
    optimizer.step()
    clock.done("first step")
    return clock.phases


if __name__ == "__main__":
    main()
