"""README's adapter for TextAttack, where that is installed."""

import pathlib
import re

import numpy as np
import pytest

import tfadv
from tests import tiny_run

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text()


def test_the_documented_adapter_is_attacked(tmp_path):
    pytest.importorskip("textattack")
    from textattack import Attack
    from textattack.attack_results import SuccessfulAttackResult
    from textattack.constraints.pre_transformation import RepeatModification
    from textattack.goal_functions import UntargetedClassification
    from textattack.search_methods import GreedyWordSwapWIR
    from textattack.transformations import WordSwapRandomCharacterDeletion

    (tmp_path / "encoder").mkdir()
    settings = tiny_run.settings(
        tiny_run.encoder_folder(tmp_path / "encoder"),
        method="baseline",
        max_length=16,
        epochs=9,
        batch_size=8,
        learning_rate=0.008,
    )
    tfadv.train(tiny_run.dataset(), settings, tmp_path / "run")
    run = tfadv.load(tmp_path / "run")
    [example] = [
        block
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL)
        if "textattack" in block
    ]
    names = {}
    exec(example, names)
    wrapper = names["Wrapper"](run)

    test = tiny_run.dataset().test
    np.testing.assert_array_equal(
        wrapper(test.texts), run.predict_proba(test.texts)
    )
    attack = Attack(
        UntargetedClassification(wrapper),
        [RepeatModification()],
        WordSwapRandomCharacterDeletion(),
        GreedyWordSwapWIR(),
    )
    fooled = 0
    for text, label in zip(test.texts, test.labels, strict=True):
        result = attack.attack(text, int(label))
        if isinstance(result, SuccessfulAttackResult):
            fooled += 1
            adversary = result.perturbed_text()
            assert adversary != text
            assert run.predict_proba([adversary]).argmax() != label
    assert fooled > 0
