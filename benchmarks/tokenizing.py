"""Measures whether texts are tokenized and batched faster than trained on.

python -m benchmarks.tokenizing
python -m benchmarks.tokenizing --short

Film reviews: first they are tokenized and batched and nothing else, then a
classifier trains on the same batches by FreeLB. In one process, in turns.
"""

import numpy as np
from tqdm import tqdm

from benchmarks import measure

AIM = 20


def main():
    parser = measure.make_parser(__doc__)
    parser.add_argument("--encoder", default="all-minilm-l6-v2")
    parser.add_argument("--dataset", default="movie_reviews")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--batch", type=int, default=32, help="texts")
    parser.add_argument("--steps", type=int, default=3, help="n of FreeLB")
    parser.add_argument(
        "--gamma", type=float, default=0.0, help="random start of FreeLB"
    )
    parser.add_argument(
        "--updates", type=int, default=50, help="trained on in each turn"
    )
    parser.add_argument("--repeats", type=int, default=5, help="turns")
    options = measure.parse(parser, short={"updates": 10, "repeats": 3})
    from tfadv import startup
    from tfadv.datasets import catalogue

    train = catalogue.load(options.dataset).train
    startup.import_tensorflow()
    rates = measure_rates(options, train)
    print(
        f"{len(train):,} training texts of {options.dataset}; FreeLB, n = "
        f"{options.steps}, {options.encoder}, {options.precision}, batches of "
        f"{options.batch}; median of {options.repeats} in turns"
    )
    print(f"\n{report(rates)}")


def report(rates):
    """Lays out texts a second, as ratios to training's.

    Args:
        rates: dict of floats, training's as `"training"`.

    Returns:
        string.
    """
    rows = [
        [
            name,
            rate / rates["training"],
            f"at least {AIM}" if name == "both" else None,
        ]
        for name, rate in rates.items()
    ]
    columns = ["texts a second", "of training's", "aim"]
    return (
        f"{measure.table(columns, rows)}\n\n1.00 here: "
        f"{rates['training']:.0f} texts a second."
    )


def measure_rates(options, train):
    """Measures tokenizing, batching, both, and training.

    Returns:
        dict of texts a second.
    """
    import tensorflow as tf

    import tfadv
    from benchmarks import updates
    from tfadv.data import batching

    tokenizer = tfadv.Tokenizer.from_pretrained(options.encoder, 128)
    classifier = updates.make_classifier("FreeLB", options)
    tokenized = batching.tokenize(train, tokenizer)
    batches = batching.training_batches(tokenized, options.batch, seed=0)

    @tf.function(input_signature=batches.element_spec, autograph=False)
    def update(x, y):
        return classifier.train_step((x, y))

    endless = iter(
        batching.training_batches(
            tokenized, options.batch, seed=1, epochs=1_000_000
        )
    )

    def train_on_some():
        texts = 0
        for _ in range(options.updates):
            x, y = next(endless)
            update(x, y)
            texts += len(y)
        return texts

    def make_all_batches():
        return sum(len(y) for _, y in batches)

    # In its order: tokenizing, batching, training.
    functions = {
        "tokenizing": lambda: len(batching.tokenize(train, tokenizer)),
        "batching": make_all_batches,
        "training": train_on_some,
    }
    update(*next(endless))
    seconds = {name: [] for name in functions}
    for _ in tqdm(range(options.repeats), "turns"):
        for name, function in functions.items():
            texts = []
            took = measure.timed(lambda f=function, t=texts: t.append(f()))
            seconds[name].append(took / texts[0])
    medians = {name: np.median(of_one) for name, of_one in seconds.items()}
    both = medians["tokenizing"] + medians["batching"]
    return {
        "tokenizing": 1 / medians["tokenizing"],
        "batching": 1 / medians["batching"],
        "both": 1 / both,
        "training": 1 / medians["training"],
    }


if __name__ == "__main__":
    main()
