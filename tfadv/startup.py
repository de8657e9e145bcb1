"""How TensorFlow is loaded where one line on stderr is all that may come."""

import importlib
import os
import sys


def import_tensorflow() -> None:
    """Imports TensorFlow without its notes on the machine's drivers.

    They come from C++ while the library loads, whatever the log level, and
    would drown the one line that an error has.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        importlib.import_module("tensorflow")
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
