"""Measures k-PGD on word embeddings, over sentences of SST-2's real lengths.

python -m benchmarks.attack
python -m benchmarks.attack --short

Ours: `tfadv.pgd_attack` over `evaluation_batches`, as tools.attack drives it;
of each example it keeps the strongest of the k + 1 points. The peer: the
usual loop, without gradients for the weights, over random batches, each
padded to its longest sentence; it keeps the last point. With fewer batches
than there are, both take those at equal distances in the order of the tokens
of a sentence; the time of their tokens stands for that of all. Needs PyTorch
and transformers.
"""

import functools

from benchmarks import lengths, measure, sizes

MODULE = "benchmarks.attack"
AIMS = {"tfadv, float32": 0.4}
EPSILON = 0.2


def main():
    parser = measure.make_parser(__doc__)
    sizes.add_encoder_flag(parser)
    lengths.add_flags(parser, sentences=1000)
    parser.add_argument("--batch", type=int, default=32, help="texts")
    parser.add_argument(
        "--batches", type=int, help="of each system; None: all sentences"
    )
    parser.add_argument("--steps", type=int, default=10, help="k")
    options = measure.parse(parser, short={"batches": 2})
    if options.only:
        measure.answer_batches(
            our_batches if options.only in measure.OURS else torch_batches,
            options,
        )
        return
    drawn = lengths.draw(options)
    whole = -(-len(drawn) // options.batch)
    batches = min(options.batches or whole, whole)
    print(
        f"{sizes.describe_encoder(options.encoder)}; {options.steps} steps in "
        f"an L2 ball; {lengths.describe(drawn, options)}; {batches} of {whole} "
        f"batches of {options.batch}",
        flush=True,
    )
    report = measure.compare_batches(MODULE, drawn, batches, AIMS, at_once=1)
    print(f"\n{report}")


def our_batches(options, drawn):
    """Returns all batches: their sizes, and what attacks them."""
    from tfadv import startup

    startup.import_tensorflow()
    import tensorflow as tf

    import tfadv
    from benchmarks import updates
    from tfadv.data import batching

    options.precision = measure.OURS[options.only]
    classifier = updates.make_classifier("plain", options)
    sentences = updates.make_sentences(
        drawn, classifier.encoder.backbone.vocabulary_size, lengths.MAX_LENGTH
    )
    batches = batching.evaluation_batches(sentences, options.batch)

    @tf.function(input_signature=batches.element_spec, autograph=False)
    def attack(x, y):
        found = tfadv.pgd_attack(classifier, x, y, EPSILON, steps=options.steps)
        return found.fooled, found.delta

    return [
        (updates.computed(x), functools.partial(attack, x, y))
        for x, y in batches
    ]


def torch_batches(options, drawn):
    """Returns all batches: their sizes, and what attacks them."""
    from benchmarks import torch_peers

    torch_peers.use_all_cores()
    wanted = sizes.ENCODERS[options.encoder]
    model = torch_peers.make_model(wanted).eval()
    attack = functools.partial(
        torch_peers.pgd, epsilon=EPSILON, steps=options.steps
    )
    return [
        (
            inputs["input_ids"].shape,
            functools.partial(attack, model, inputs, labels),
        )
        for inputs, labels in torch_peers.make_loader(
            drawn, wanted.vocabulary, options.batch
        )
    ]


if __name__ == "__main__":
    main()
