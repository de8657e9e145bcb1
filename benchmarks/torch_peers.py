"""The peers: plain PyTorch on transformers' ALBERT, as it is usually written.

Nothing is done here that a user of both libraries would not do: FreeLB is the
loop that its authors publish, without clipping and logs; CARL's memory is
that of contrastive representation distillation, RAR's head that of masked
language models.
"""

import os

import numpy as np
import torch
import transformers
from torch.nn import functional
from transformers.models.albert.modeling_albert import AlbertMLMHead

from benchmarks import sizes

LEARNING_RATE = 5e-5
STEP_SIZE = 0.1
TEMPERATURE = 0.07
MOMENTUM = 0.5
RECONSTRUCTION_WEIGHT = 0.1
# transformers' word for a position without a loss.
_NO_WORD = -100


def use_all_cores():
    """Has PyTorch use the cores that this process may."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))


def make_model(wanted, dropout=sizes.DROPOUT):
    """Returns a classifier with random weights.

    Args:
        wanted: `sizes.EncoderSizes`.
        dropout: float, all of its dropout.
    """
    return transformers.AlbertForSequenceClassification(
        transformers.AlbertConfig(
            vocab_size=wanted.vocabulary,
            embedding_size=wanted.embedding,
            hidden_size=wanted.hidden,
            num_hidden_layers=wanted.layers,
            num_attention_heads=wanted.heads,
            intermediate_size=wanted.intermediate,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            classifier_dropout_prob=dropout,
            num_labels=2,
        )
    )


def make_update(name, options):
    """Returns the update of a method on one batch.

    Args:
        name: string, as `make_step` takes it.
        options: `argparse.Namespace` with the flags of
            `sizes.add_update_flags` and `encoder`.

    Returns:
        callable without arguments.
    """
    wanted = sizes.ENCODERS[options.encoder]
    rng = np.random.default_rng(0)
    batch = make_batch(
        rng.integers(4, wanted.vocabulary, [options.batch, options.tokens]),
        np.full(options.batch, options.tokens),
        rng.integers(0, 2, options.batch),
    )
    step = make_step(name, options)
    return lambda: step(*batch)


def make_step(name, options):
    """Returns the training step of a method, with a model of its own.

    Args:
        name: string: `"plain"`, `"FreeLB"`, `"CARL"` or `"RAR"`.
        options: `argparse.Namespace` with the flags of
            `sizes.add_update_flags` and `encoder`.

    Returns:
        callable of a batch's inputs and labels.
    """
    wanted = sizes.ENCODERS[options.encoder]
    model = make_model(wanted).train()
    rng = np.random.default_rng(0)
    settings = {"steps": options.steps, "gamma": options.gamma}
    if name == "RAR":
        add_reconstruction_head(model)
    if name == "CARL":
        memory = make_memory(wanted, options)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)

    def step(inputs, labels):
        optimizer.zero_grad()
        if name == "plain":
            model(**inputs, labels=labels).loss.backward()
        elif name == "CARL":
            # Which examples these are is all the same.
            index = rng.choice(options.examples, len(labels), replace=False)
            index = torch.from_numpy(index)
            clean = model.albert(**inputs).pooler_output

            def contrast(outputs):
                return memory.loss(clean, outputs.pooler_output, index)

            freelb_gradients(model, inputs, labels, **settings, extra=contrast)
        elif name == "RAR":

            def reconstruction(outputs):
                return RECONSTRUCTION_WEIGHT * reconstruction_loss(
                    model, inputs["input_ids"], outputs.last_hidden_state
                )

            freelb_gradients(
                model, inputs, labels, **settings, extra=reconstruction
            )
        else:
            freelb_gradients(model, inputs, labels, **settings)
        optimizer.step()

    return step


def make_part(name, options):
    """Returns CARL's contrast alone, on representations."""
    assert name == "CARL", name
    wanted = sizes.ENCODERS[options.encoder]
    memory = make_memory(wanted, options)
    shape = [options.batch, wanted.hidden]
    clean, adversarial = (
        torch.randn(shape, requires_grad=True) for _ in range(2)
    )
    index = torch.randperm(options.examples)[: options.batch]

    def part():
        clean.grad = adversarial.grad = None
        memory.loss(clean, adversarial, index).backward()

    return part


def make_batch(token_ids, lengths, labels):
    """Returns a batch as transformers' models take it, and its labels."""
    mask = np.arange(token_ids.shape[1]) < lengths[:, None]
    inputs = {
        "input_ids": torch.from_numpy(token_ids),
        "attention_mask": torch.from_numpy(mask.astype(np.int64)),
    }
    return inputs, torch.from_numpy(labels)


def make_loader(lengths, vocabulary, batch_size):
    """Returns random batches, each padded to its longest sentence.

    Args:
        lengths: list of ints, in tokens.
        vocabulary: int.
        batch_size: int.

    Returns:
        iterable of batches as of `make_batch`, newly shuffled in every epoch.
    """
    rng = np.random.default_rng(0)
    rows = [
        (torch.from_numpy(rng.integers(4, vocabulary, length)), label)
        for length, label in zip(
            lengths, rng.integers(0, 2, len(lengths)), strict=True
        )
    ]

    def collate(batch):
        ids, labels = zip(*batch, strict=True)
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        lengths = np.array([len(row) for row in ids])
        return make_batch(padded.numpy(), lengths, np.array(labels))

    return torch.utils.data.DataLoader(
        rows,
        batch_size,
        shuffle=True,
        collate_fn=collate,
        generator=torch.Generator().manual_seed(0),
    )


def freelb_gradients(
    model,
    inputs,
    labels,
    steps,
    step_size=STEP_SIZE,
    gamma=0.0,
    max_norm=0.0,
    extra=None,
):
    """Leaves the gradients of FreeLB's passes in the parameters.

    Args:
        model: `transformers.AlbertForSequenceClassification`.
        inputs: dict: `"input_ids"` and `"attention_mask"`.
        labels: int tensor of shape `[batch]`.
        steps: int, n.
        step_size: float, alpha.
        gamma: float, the size of the random start.
        max_norm: float, epsilon; 0 for no limit.
        extra: callable of the encoder's outputs in the last pass that returns
            a loss besides, or `None`.

    Returns:
        The last delta.

    Reference:
     - [Zhu et al. 2020](https://arxiv.org/abs/1909.11764) and their
       repository zhuchen03/FreeLB, run_glue_freelb.py
    """
    words = model.get_input_embeddings()
    mask = inputs["attention_mask"]
    embeddings = words(inputs["input_ids"])
    delta = torch.zeros_like(embeddings)
    if gamma:
        delta = delta.uniform_(-1, 1) * mask[:, :, None]
        dims = mask.sum(1) * embeddings.shape[-1]
        delta = delta * (gamma / dims.sqrt())[:, None, None]
    for step in range(steps):
        delta = delta.detach().requires_grad_()
        outputs = model.base_model(
            inputs_embeds=embeddings + delta, attention_mask=mask
        )
        logits = model.classifier(model.dropout(outputs.pooler_output))
        loss = functional.cross_entropy(logits, labels) / steps
        if step == steps - 1:
            if extra is not None:
                loss = loss + extra(outputs)
            loss.backward()
            break
        loss.backward()
        delta = ascend(delta.detach(), delta.grad, step_size, max_norm)
        # The first lookup's graph is gone.
        embeddings = words(inputs["input_ids"])
    return delta.detach()


def ascend(delta, gradient, step_size, max_norm):
    """Makes one step along each example's gradient, then the projection."""
    norms = gradient.flatten(1).norm(dim=1).clamp(min=1e-8)
    delta = delta + step_size * gradient / norms[:, None, None]
    if max_norm > 0:
        norms = delta.flatten(1).norm(dim=1)
        scales = torch.where(norms > max_norm, max_norm / norms, 1.0)
        delta = delta * scales[:, None, None]
    return delta


def add_reconstruction_head(model):
    """Gives a classifier the masked-LM head, tied to its word embeddings."""
    model.predictions = AlbertMLMHead(model.config)
    model.predictions.decoder.weight = model.get_input_embeddings().weight
    model.predictions.decoder.bias = model.predictions.bias


def reconstruction_loss(model, token_ids, hidden):
    """Returns the cross-entropy of the words: the logits of all positions."""
    logits = model.predictions(hidden)
    special = torch.isin(token_ids, torch.tensor([0, 2, 3]))
    return functional.cross_entropy(
        logits.flatten(0, 1),
        token_ids.masked_fill(special, _NO_WORD).flatten(),
        ignore_index=_NO_WORD,
    )


def make_memory(wanted, options):
    """Returns CARL's memory with random rows."""
    labels = np.random.default_rng(0).integers(0, 2, options.examples)
    rows = (
        functional.normalize(torch.randn(options.examples, wanted.hidden))
        for _ in range(2)
    )
    return Memory(labels, *rows, options.negatives)


class Memory:
    """Two tables of representations; the negatives' rows are gathered.

    As usual for this memory, an anchor's positive is the other table's row of
    the same example, and a row has length 1 after every update.

    Args:
        labels: int array of shape `[examples]`.
        clean: tensor of shape `[examples, hidden]`, rows of length 1.
        adversarial: tensor of shape `[examples, hidden]`, the same.
        negatives: int, m.

    Reference:
     - [Tian et al. 2020](https://arxiv.org/abs/1910.10699) and their
       repository HobbitLong/RepDistiller, crd/
    """

    def __init__(self, labels, clean, adversarial, negatives):
        self.labels = labels
        self.clean = clean
        self.adversarial = adversarial
        self.negatives = negatives
        self.z = {}
        self._others = {
            label: np.flatnonzero(labels != label)
            for label in np.unique(labels)
        }
        self._rng = np.random.default_rng(0)

    def loss(self, clean, adversarial, index):
        """Contrasts a batch's representations, then updates their rows."""
        clean = functional.normalize(clean)
        adversarial = functional.normalize(adversarial)
        rows = torch.cat([index[:, None], self.draw(index)], dim=1)
        loss = self._nce(self.clean, adversarial, rows, "adversarial")
        loss = loss + self._nce(self.adversarial, clean, rows, "clean")
        with torch.no_grad():
            self._update(self.clean, index, clean)
            self._update(self.adversarial, index, adversarial)
        return loss

    def draw(self, index):
        """Draws negatives of other classes, an example's without repeats."""
        return torch.from_numpy(
            np.stack(
                [
                    self._rng.choice(
                        self._others[label], self.negatives, replace=False
                    )
                    for label in self.labels[index.numpy()]
                ]
            )
        )

    def _nce(self, table, anchors, rows, kind):
        batch, count = rows.shape
        gathered = torch.index_select(table, 0, rows.flatten())
        gathered = gathered.view(batch, count, -1)
        scores = torch.bmm(gathered, anchors[:, :, None]).squeeze(2)
        scores = torch.exp(scores / TEMPERATURE)
        if kind not in self.z:
            self.z[kind] = scores.mean().item() * len(table)
        scores = scores / self.z[kind]
        noise = self.negatives / len(table)
        positive, negative = scores[:, 0], scores[:, 1:]
        right = torch.log(positive / (positive + noise + 1e-7)).sum()
        wrong = torch.log(noise / (negative + noise + 1e-7)).sum()
        return -(right + wrong) / batch

    def _update(self, table, index, new):
        rows = MOMENTUM * table[index] + (1 - MOMENTUM) * new
        table.index_copy_(0, index, functional.normalize(rows))


def pgd(model, inputs, labels, epsilon, steps):
    """Attacks a batch by projected gradient ascent within an L2 ball.

    Args:
        model: a classifier of transformers, in evaluation mode.
        inputs: dict: `"input_ids"` and `"attention_mask"`.
        labels: int tensor of shape `[batch]`.
        epsilon: float, the ball's radius.
        steps: int, k; one is 2.5 * epsilon / k long.

    Returns:
        delta, and which examples are fooled by it.
    """
    mask = inputs["attention_mask"]
    embeddings = model.get_input_embeddings()(inputs["input_ids"]).detach()
    delta = torch.zeros_like(embeddings)
    for _ in range(steps):
        delta.requires_grad_()
        logits = model(
            inputs_embeds=embeddings + delta, attention_mask=mask
        ).logits
        loss = functional.cross_entropy(logits, labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, delta)
        gradient = gradient * mask[:, :, None]
        delta = ascend(delta.detach(), gradient, 2.5 * epsilon / steps, epsilon)
    with torch.no_grad():
        logits = model(
            inputs_embeds=embeddings + delta, attention_mask=mask
        ).logits
    return delta, logits.argmax(1) != labels
