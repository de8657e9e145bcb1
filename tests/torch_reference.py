"""The PyTorch reference: Hugging Face encoders, and FreeLB on top of them.

FreeLB follows Algorithm 1 of Zhu et al., "FreeLB: Enhanced Adversarial
Training for Natural Language Understanding" (2020). It is written from that
description alone, so that it and the code under test cannot share a mistake.
"""

import numpy as np
import torch
import transformers

from tests import checkpoints


def load_model(case, dtype=torch.float32):
    """The Hugging Face model with the case's weights, without dropout."""
    config = transformers.AutoConfig.for_model(**case.config)
    model = transformers.AutoModelForSequenceClassification.from_config(
        config, attn_implementation="eager"
    )
    tensors = checkpoints.random_tensors(case)
    tensors = {name: torch.from_numpy(t) for name, t in tensors.items()}
    model.load_state_dict(tensors, strict=True)
    return model.to(dtype).eval()


def _features(inputs):
    """The batch as PyTorch tensors of the type that lookups expect."""
    return [torch.from_numpy(array).long() for array in inputs]


def encoder_outputs(case, dtype=torch.float32):
    """What the encoder and the classifier make of the case's batch.

    Returns:
        A dict of arrays: `logits` [batch, labels], `pooled_output`
        [batch, hidden], which is the classifier's input, and
        `last_hidden_state` [batch, tokens, hidden].
    """
    model = load_model(case, dtype)
    *inputs, _ = checkpoints.inputs(case)
    token_ids, padding_mask, segment_ids = _features(inputs)
    batch = {
        "input_ids": token_ids,
        "attention_mask": padding_mask,
        "token_type_ids": segment_ids,
    }
    with torch.no_grad():
        encoded = model.base_model(**batch)
        logits = model(**batch).logits
    return {
        "logits": logits.numpy(),
        "pooled_output": encoded.pooler_output.numpy(),
        "last_hidden_state": encoded.last_hidden_state.numpy(),
    }


# What is dropped: embeddings, attention probabilities, the outputs of attention
# and of the feed-forward layers, the classifier's input.
_DROPOUTS = {
    "albert": (
        "albert.embeddings.dropout",
        "{layer}.attention.attention_dropout",
        "{layer}.attention.output_dropout",
        # transformers makes this one and does not call it; Google's original
        # does, and so do we.
        "{layer}.dropout",
        "dropout",
    ),
    "bert": (
        "bert.embeddings.dropout",
        "{layer}.attention.self.dropout",
        "{layer}.attention.output.dropout",
        "{layer}.output.dropout",
        "dropout",
    ),
}
_LAYERS = {
    "albert": "albert.encoder.albert_layer_groups.0.albert_layers.0",
    "bert": "bert.encoder.layer.0",
}


def config_outputs(case):
    """What a config makes of a case: its outputs and its dropout rates.

    Returns:
        The dict of `encoder_outputs`, and `dropout_rates`, five numbers.
    """
    modules = dict(load_model(case).named_modules())
    layer = _LAYERS[case.family]
    rates = [
        modules[name.format(layer=layer)].p for name in _DROPOUTS[case.family]
    ]
    return {**encoder_outputs(case), "dropout_rates": np.array(rates)}


def activations(x):
    """What transformers' activations make of a float32 array.

    Returns:
        A dict from names to arrays. Left out are those with weights.
    """
    from transformers.activations import ACT2FN

    functions = {n: ACT2FN[n] for n in ACT2FN if n not in ("prelu", "xielu")}
    return {
        name: f(torch.from_numpy(x)).numpy() for name, f in functions.items()
    }


def perturbed_loss(model, inputs, labels, delta):
    """Mean cross-entropy with `delta` added to the word embeddings.

    Args:
        model: A Hugging Face sequence classifier.
        inputs: `token_ids, padding_mask, segment_ids` as arrays.
        labels: The classes as an array.
        delta: A tensor of shape [batch, tokens, embedding], added before
            positions, segments and LayerNorm.
    """
    token_ids, padding_mask, segment_ids = _features(inputs)
    # Not the Embedding module, which drops the gradient of the padding's id:
    # the algorithm has no such exception.
    table = model.get_input_embeddings().weight
    words = torch.nn.functional.embedding(token_ids, table)
    outputs = model(
        inputs_embeds=words + delta,
        attention_mask=padding_mask,
        token_type_ids=segment_ids,
    )
    (labels,) = _features([labels])
    return torch.nn.functional.cross_entropy(outputs.logits, labels)


def _per_example(values):
    """Shapes one value per example to multiply [batch, tokens, embedding]."""
    return values[:, None, None]


def _norms(delta):
    """The L2 norm of each example's whole [tokens, embedding] block."""
    return delta.flatten(1).norm(dim=1)


def _ascend(delta, gradient, step_size, max_norm):
    """One normalized step up the loss, then back into the ball."""
    norms = _norms(gradient)
    # Without a gradient there is no direction: stay instead of 0 / 0.
    norms = torch.where(norms > 0, norms, torch.ones_like(norms))
    delta = delta + step_size * gradient / _per_example(norms)
    if max_norm > 0:
        norms = _norms(delta)
        inside = norms <= max_norm
        scale = max_norm / torch.where(inside, max_norm, norms)
        delta = delta * _per_example(scale)
    return delta


def freelb(model, inputs, labels, steps, step_size, init_delta, max_norm):
    """The gradients of one FreeLB training step.

    Args:
        model: A Hugging Face sequence classifier without dropout.
        inputs: `token_ids, padding_mask, segment_ids` as arrays.
        labels: The classes as an array.
        steps: The number of passes, n.
        step_size: The length of an ascent step, alpha.
        init_delta: The first pass's delta as an array
            [batch, tokens, embedding]; what it has at padding is ignored.
        max_norm: The largest norm of an example's delta after an ascent
            step, epsilon; 0 for no limit.

    Returns:
        `deltas, losses, gradients`: the delta that each pass used, each
        pass's loss, and the mean over passes of the gradient of every
        parameter by its state-dict name. All are numpy.
    """
    parameters = dict(model.named_parameters())
    dtype = model.get_input_embeddings().weight.dtype
    real = torch.from_numpy(inputs[1]).to(dtype)[:, :, None]
    delta = torch.from_numpy(init_delta).to(dtype) * real
    deltas, losses = [], []
    totals = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for step in range(steps):
        delta = delta.detach().requires_grad_()
        loss = perturbed_loss(model, inputs, labels, delta)
        ascent, *gradients = torch.autograd.grad(
            loss, [delta, *parameters.values()]
        )
        deltas.append(delta.detach().numpy())
        losses.append(loss.item())
        for name, gradient in zip(parameters, gradients, strict=True):
            totals[name] += gradient / steps
        if step < steps - 1:
            delta = _ascend(delta.detach(), ascent * real, step_size, max_norm)
    totals = {name: total.numpy() for name, total in totals.items()}
    return deltas, losses, totals


def plain_gradients(model, inputs, labels):
    """The gradients of ordinary training, as PyTorch users compute them.

    The model looks up its own embeddings and computes its own loss: nothing
    is shared with `freelb`.
    """
    token_ids, padding_mask, segment_ids = _features(inputs)
    (labels,) = _features([labels])
    model.zero_grad()
    model(
        input_ids=token_ids,
        attention_mask=padding_mask,
        token_type_ids=segment_ids,
        labels=labels,
    ).loss.backward()
    return {
        name: parameter.grad.numpy().copy()
        for name, parameter in model.named_parameters()
    }


def freelb_outputs(case, dtype=torch.float32):
    """The results of `freelb` on a case as one flat dict of arrays.

    Returns:
        A dict with `delta/{pass}`, `loss` (one value per pass) and
        `gradient/{name}`.
    """
    *inputs, labels = checkpoints.inputs(case)
    deltas, losses, gradients = freelb(
        load_model(case, dtype),
        inputs,
        labels,
        case.steps,
        case.step_size,
        checkpoints.initial_delta(case),
        case.max_norm,
    )
    outputs = {f"delta/{i}": delta for i, delta in enumerate(deltas)}
    outputs["loss"] = np.array(losses, deltas[0].dtype)
    for name, gradient in gradients.items():
        outputs[f"gradient/{name}"] = gradient
    return outputs
