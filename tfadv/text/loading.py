"""The settings of a tokenizer, in the words of `tokenizer_config.json`."""

from tfadv.sources.checkpoint import TOKENIZER_CONFIG, Checkpoint


def read_settings(checkpoint: Checkpoint) -> dict:
    """Reads the settings of a checkpoint's tokenizer.

    Args:
        checkpoint: `tfadv.sources.checkpoint.Checkpoint`.

    Returns:
        dict, in the words of `tokenizer_config.json`, of those settings that
        the files have.

    Raises:
        InputError: a file is not JSON.
    """
    backend = checkpoint.read_json("tokenizer.json")
    settings = {}
    if "class_name" in backend:  # KerasHub
        config = backend.get("config") or {}
        settings["do_lower_case"] = config.get("lowercase")
    elif backend:
        normalizer = backend.get("normalizer") or {}
        settings["do_lower_case"] = normalizer.get("lowercase")
        settings["strip_accents"] = normalizer.get("strip_accents")
        chinese = normalizer.get("handle_chinese_chars")
        settings["tokenize_chinese_chars"] = chinese
    settings |= checkpoint.read_json(TOKENIZER_CONFIG)
    return {k: v for k, v in settings.items() if v is not None}
