"""Packaging: everything is installed below `tfadv`, nothing beside it.

The top-level folders `flags` and `tools` are the packages `tfadv.flags` and
`tfadv.tools`, in an installed copy as in the checkout (`pip install -e .`), so
that no package of another project clashes with names as common as these.
"""

import pathlib
import re

from setuptools import find_packages, setup

_ROOT = pathlib.Path(__file__).parent
_VERSION = re.search(
    r'__version__ = "(.+)"', (_ROOT / "tfadv" / "__init__.py").read_text()
)[1]

setup(
    name="tfadv",
    version=_VERSION,
    description=(
        "Adversarial training of text classifiers in Keras and TensorFlow"
    ),
    long_description=(_ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["tfadv", "tfadv.*"]),
        *(f"tfadv.{name}" for name in ("flags", "tools")),
    ],
    package_dir={"tfadv.flags": "flags", "tfadv.tools": "tools"},
    package_data={
        "tfadv": ["py.typed"],
        "tfadv.export": ["model_card.md.jinja"],
        "tfadv.flags": ["experiments/*.cfg"],
        "tfadv.report": ["page.html.jinja"],
        "tfadv.text": ["character_classes.json"],
    },
    # The tested ends of these ranges are in WORKSPACE.md.
    install_requires=[
        "absl-py>=2.1",
        "huggingface_hub>=0.36",
        # TFDS imports it through etils; neither says so.
        "importlib_resources>=6",
        "jinja2>=3.1",
        "keras>=3.15,<3.16",
        "keras-hub>=0.31,<0.33",
        "keras-tuner[bayesian]>=1.4.7,<1.5",
        "matplotlib>=3.9",
        "numpy>=1.26.4",
        "psutil>=5.9",
        "safetensors>=0.4.5",
        "sentencepiece>=0.2",
        "tensorboard>=2.20,<2.22",
        "tensorflow>=2.20,<2.22",
        "tensorflow-datasets>=4.9.10,<4.10",
        # The messages of warm-up requests.
        "tensorflow-serving-api>=2.19,<2.22",
        "tensorflow-text>=2.20,<2.22",
        "tokenizers>=0.22",
        "tqdm>=4.66",
        # Configs and tokenizer files. PyTorch is not needed.
        "transformers>=5",
    ],
    extras_require={
        "test": [
            # For tensorflow_datasets.testing.
            "dill>=0.3.6",
            "hypothesis>=6.100",
            "mypy==2.4.*",
            "pytest>=8",
            "pytest-xdist>=3.6",
            "ruff==0.17.*",
            # For the study; keras-tuner brings it, too.
            "scipy>=1.11",
            "selenium>=4.20",
        ],
        # The independent reference. On Linux plain `pip install torch` brings
        # a CUDA build of several GB; a CPU build is enough.
        "torch": ["torch==2.13.0"],
    },
    entry_points={
        "console_scripts": [
            "tfadv-train = tfadv.tools.train:start",
            "tfadv-tune = tfadv.tools.tune:start",
            "tfadv-attack = tfadv.tools.attack:start",
            "tfadv-evaluate = tfadv.tools.evaluate:start",
            "tfadv-export = tfadv.tools.export:start",
            "tfadv-predict = tfadv.tools.predict:start",
            "tfadv-reconstruct = tfadv.tools.reconstruct:start",
            "tfadv-report = tfadv.tools.report:start",
        ]
    },
)
