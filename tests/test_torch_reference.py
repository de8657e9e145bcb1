"""The PyTorch reference, its stored results and the hand-written format.

The other tests trust these; the tests here that need PyTorch are skipped
without it.
"""

import dataclasses

import numpy as np
import pytest

from tests import checkpoints

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests import torch_reference  # noqa: E402

ENCODER_CASES = checkpoints.ENCODER_CASES
CONFIG_CASES = checkpoints.CONFIG_CASES
FREELB_CASES = checkpoints.FREELB_CASES
LIMITED_CASES = [case for case in FREELB_CASES if case.max_norm]

each_encoder_case = pytest.mark.parametrize(
    "case", ENCODER_CASES, ids=lambda case: case.name
)
each_freelb_case = pytest.mark.parametrize(
    "case", FREELB_CASES, ids=lambda case: case.name
)
each_limited_case = pytest.mark.parametrize(
    "case", LIMITED_CASES, ids=lambda case: case.name
)


def assert_same(actual, expected, tolerance=1e-5):
    """Two dicts have the same keys, shapes and nearly the same values."""
    assert actual.keys() == expected.keys()
    for key, array in expected.items():
        assert actual[key].shape == array.shape, key
        np.testing.assert_allclose(
            actual[key], array, rtol=tolerance, atol=tolerance, err_msg=key
        )


def norms(delta):
    return np.sqrt((delta.astype(np.float64) ** 2).sum(axis=(1, 2)))


def run(case, model, **changes):
    """`freelb` on the case's batch, with some of its settings changed."""
    *inputs, labels = checkpoints.inputs(case)
    settings = {
        "steps": case.steps,
        "step_size": case.step_size,
        "init_delta": checkpoints.initial_delta(case),
        "max_norm": case.max_norm,
    }
    return torch_reference.freelb(model, inputs, labels, **settings | changes)


def loss_at(case, model, delta):
    *inputs, labels = checkpoints.inputs(case)
    delta = torch.from_numpy(delta)
    with torch.no_grad():
        loss = torch_reference.perturbed_loss(model, inputs, labels, delta)
    return loss.item()


def finite_differences(case, model, delta, width=1e-5):
    """d loss / d delta, one central difference per element."""
    gradient = np.zeros_like(delta)
    for index in np.ndindex(delta.shape):
        step = np.zeros_like(delta)
        step[index] = width
        above = loss_at(case, model, delta + step)
        below = loss_at(case, model, delta - step)
        gradient[index] = (above - below) / (2 * width)
    return gradient


def small_case():
    """A case of two passes whose deltas have few elements."""
    return dataclasses.replace(
        FREELB_CASES[0],
        name="finite_differences",
        tokens=4,
        steps=2,
        init_scale=0.6,
    )


@pytest.mark.parametrize(
    "case",
    ENCODER_CASES + CONFIG_CASES + FREELB_CASES,
    ids=lambda case: case.name,
)
def test_hand_written_shapes_are_those_of_the_pytorch_model(case):
    state = torch_reference.load_model(case).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    assert checkpoints.tensor_shapes(case.config) == shapes


def test_written_checkpoint_loads_into_transformers(tmp_path):
    from transformers import AutoModelForSequenceClassification

    for case in (ENCODER_CASES[0], ENCODER_CASES[-1]):
        tensors = checkpoints.random_tensors(case)
        folder = checkpoints.write_checkpoint(
            tmp_path / case.name, case.config, tensors
        )
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, output_loading_info=True
        )
        assert not any(loading.values()), loading
        state = {k: v.numpy() for k, v in model.state_dict().items()}
        assert_same(state, tensors, tolerance=0)


def test_no_golden_results_belong_to_a_case_that_is_gone():
    for kind, cases in (
        ("encoder", ENCODER_CASES),
        ("config", CONFIG_CASES),
        ("freelb", FREELB_CASES),
    ):
        names = [case.name for case in cases]
        assert len(set(names)) == len(names)
        with np.load(checkpoints.GOLDEN_FOLDER / f"{kind}.npz") as arrays:
            assert {key.split("/")[0] for key in arrays} == set(names)


@each_encoder_case
def test_live_encoder_equals_golden(case):
    assert_same(
        torch_reference.encoder_outputs(case),
        checkpoints.golden("encoder", case),
    )


@pytest.mark.parametrize("case", CONFIG_CASES, ids=lambda case: case.name)
def test_live_config_equals_golden(case):
    assert_same(
        torch_reference.config_outputs(case), checkpoints.golden("config", case)
    )


def test_live_activations_equal_golden():
    x = checkpoints.activation_inputs()
    assert_same(
        torch_reference.activations(x), checkpoints.golden_activations()
    )


@each_freelb_case
def test_live_freelb_equals_golden(case):
    assert_same(
        torch_reference.freelb_outputs(case),
        checkpoints.golden("freelb", case),
    )


@each_encoder_case
def test_float32_golden_encoder_is_close_to_float64(case):
    """So a difference above 1e-5 is a mistake, not rounding."""
    assert_same(
        torch_reference.encoder_outputs(case, torch.float64),
        checkpoints.golden("encoder", case),
        tolerance=5e-6,
    )


@each_freelb_case
def test_float32_golden_freelb_is_close_to_float64(case):
    """As above: the ascent, too, is well conditioned in these cases."""
    assert_same(
        torch_reference.freelb_outputs(case, torch.float64),
        checkpoints.golden("freelb", case),
        tolerance=5e-6,
    )


@each_encoder_case
def test_golden_encoder_tells_activations_apart(case):
    """Exact and approximate GELU differ little; 1e-5 must notice."""
    exchanged = {"gelu": "gelu_new", "gelu_new": "gelu", "relu": "gelu"}
    act = exchanged[case.config["hidden_act"]]
    changed = dataclasses.replace(
        case, config=case.config | {"hidden_act": act}
    )
    outputs = torch_reference.encoder_outputs(changed)
    for key, array in checkpoints.golden("encoder", case).items():
        assert np.abs(outputs[key] - array).max() > 2e-5, key


def test_golden_encoder_outputs_are_not_degenerate():
    """Most of tanh is not saturated, and rows of one batch differ."""
    for case in ENCODER_CASES:
        pooled = checkpoints.golden("encoder", case)["pooled_output"]
        assert np.median(np.abs(pooled)) < 0.95
        if case.batch > 1:
            assert pooled.std(axis=0).max() > 0.05


@each_freelb_case
def test_one_pass_without_delta_gives_plain_gradients(case):
    *inputs, labels = checkpoints.inputs(case)
    model = torch_reference.load_model(case)
    zeros = np.zeros_like(checkpoints.initial_delta(case))
    deltas, _, gradients = run(case, model, steps=1, init_delta=zeros)
    assert len(deltas) == 1
    assert not deltas[0].any()
    plain = torch_reference.plain_gradients(model, inputs, labels)
    assert_same(gradients, plain, tolerance=1e-6)


@each_freelb_case
def test_gradients_are_the_mean_of_plain_gradients_at_the_deltas(case):
    """A hook on the lookup adds delta: another way to the same gradients."""
    *inputs, labels = checkpoints.inputs(case)
    model = torch_reference.load_model(case)
    deltas, _, gradients = run(case, model)
    totals = {name: 0 for name in gradients}
    for delta in deltas:
        hook = model.get_input_embeddings().register_forward_hook(
            lambda layer, args, words, d=delta: words + torch.from_numpy(d)
        )
        plain = torch_reference.plain_gradients(model, inputs, labels)
        hook.remove()
        totals = {name: totals[name] + plain[name] for name in totals}
    mean = {name: total / len(deltas) for name, total in totals.items()}
    assert_same(gradients, mean, tolerance=1e-6)


@each_freelb_case
def test_passes_use_the_initial_delta_first_and_none_at_padding(case):
    _, padding_mask, _, _ = checkpoints.inputs(case)
    model = torch_reference.load_model(case)
    deltas, losses, _ = run(case, model)
    assert len(deltas) == len(losses) == case.steps
    np.testing.assert_array_equal(deltas[0], checkpoints.initial_delta(case))
    for delta in deltas:
        assert not delta[padding_mask == 0].any()
    ones = np.ones_like(deltas[0])
    deltas, _, _ = run(case, model, init_delta=ones)
    for delta in deltas:
        assert not delta[padding_mask == 0].any()


@each_limited_case
def test_norms_never_exceed_epsilon(case):
    deltas, _, _ = run(case, torch_reference.load_model(case))
    for delta in deltas:
        assert (norms(delta) <= case.max_norm * (1 + 1e-6)).all()


@each_limited_case
def test_epsilon_binds_after_every_ascent(case):
    """Or the limited cases would not test the projection."""
    model = torch_reference.load_model(case)
    deltas, _, _ = run(case, model)
    for delta in deltas[1:]:
        np.testing.assert_allclose(norms(delta), case.max_norm, rtol=1e-5)
    deltas, _, _ = run(case, model, max_norm=0)
    for delta in deltas[1:]:
        assert (norms(delta) > case.max_norm * 1.1).all()


@each_limited_case
def test_projection_keeps_the_direction_and_spares_what_is_inside(case):
    """A limit that only some examples exceed: the others must not move."""
    model = torch_reference.load_model(case)
    free, _, _ = run(case, model, steps=2, max_norm=0)
    free = free[1]
    limit = float(np.median(norms(free)))
    limited, _, _ = run(case, model, steps=2, max_norm=limit)
    scale = np.minimum(1, limit / norms(free))[:, None, None]
    np.testing.assert_allclose(limited[1], free * scale, atol=1e-6)


def test_the_padding_of_the_word_table_gets_no_gradient():
    for case in FREELB_CASES:
        gradients = checkpoints.gradients_of(checkpoints.golden("freelb", case))
        table = gradients[f"{case.family}.embeddings.word_embeddings.weight"]
        assert not table[0].any()
        assert table[1:].any()


def test_ascent_follows_the_finite_differences_of_the_loss():
    case = small_case()
    model = torch_reference.load_model(case, torch.float64)
    start = checkpoints.initial_delta(case).astype(np.float64)
    deltas, losses, _ = run(case, model)
    assert losses[0] == pytest.approx(loss_at(case, model, start), abs=1e-12)
    _, padding_mask, _, _ = checkpoints.inputs(case)
    assert (padding_mask == 0).any()
    gradient = finite_differences(case, model, start)
    assert not gradient[padding_mask == 0].any()
    step = case.step_size * gradient / norms(gradient)[:, None, None]
    np.testing.assert_allclose(deltas[1] - start, step, atol=1e-7)


def test_gradient_of_delta_equals_finite_differences():
    case = small_case()
    model = torch_reference.load_model(case, torch.float64)
    *inputs, labels = checkpoints.inputs(case)
    start = checkpoints.initial_delta(case).astype(np.float64)
    delta = torch.from_numpy(start).requires_grad_()
    torch_reference.perturbed_loss(model, inputs, labels, delta).backward()
    expected = finite_differences(case, model, start)
    np.testing.assert_allclose(delta.grad, expected, rtol=1e-6, atol=1e-9)


def test_a_gradient_of_zero_leaves_delta_where_it_is():
    case = FREELB_CASES[-2]
    assert case.steps == 4
    assert case.max_norm == 0
    model = torch_reference.load_model(case)
    torch.nn.init.zeros_(model.classifier.weight)
    deltas, losses, gradients = run(case, model)
    for delta in deltas:
        np.testing.assert_array_equal(delta, deltas[0])
    assert np.isfinite(losses).all()
    assert all(np.isfinite(g).all() for g in gradients.values())
