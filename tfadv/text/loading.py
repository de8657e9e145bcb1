"""The files of a tokenizer's folder, read and checked."""

import json

from tfadv.errors import InputError
from tfadv.sources import checkpoint


def read_text(path):
    """Reads a text file, or says in one line what is wrong with it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} must be readable UTF-8 text ({error}); copy it anew from "
            "where the encoder comes from"
        ) from None


def read_json(path):
    """Reads a JSON object; a file that is not there is an empty one."""
    if not path.is_file():
        return {}
    text = read_text(path)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        content = error
    if not isinstance(content, dict):
        raise InputError(
            f"{path} must hold a JSON object, found {content!r:.60}; copy it "
            "anew from where the encoder comes from"
        )
    return content


def read_settings(folder):
    """The settings of a tokenizer in the words of `tokenizer_config.json`."""
    backend = read_json(folder / "tokenizer.json")
    settings = {}
    if "class_name" in backend:  # KerasHub
        settings["do_lower_case"] = (backend.get("config") or {}).get(
            "lowercase"
        )
    elif backend:
        normalizer = backend.get("normalizer") or {}
        settings["do_lower_case"] = normalizer.get("lowercase")
        settings["strip_accents"] = normalizer.get("strip_accents")
        chinese = normalizer.get("handle_chinese_chars")
        settings["tokenize_chinese_chars"] = chinese
    settings |= read_json(folder / "tokenizer_config.json")
    return {k: v for k, v in settings.items() if v is not None}


def family(folder, settings):
    """The family of a folder's tokenizer, `"albert"`, `"bert"` or another."""
    # What `save` wrote by itself has no config.json, but names its class.
    name = settings.get("tokenizer_class")
    if isinstance(name, str) and not (folder / "config.json").is_file():
        return name.removesuffix("Fast").removesuffix("Tokenizer").lower()
    return checkpoint.family(checkpoint.read_config(folder))


def first_file(folder, *names):
    """Returns the first of some files that a folder has."""
    for name in names:
        if (folder / name).is_file():
            return folder / name
    found = sorted(path.name for path in folder.iterdir()) or ["nothing"]
    raise InputError(
        f"{folder} must have the vocabulary as {' or '.join(names)}; found "
        f"{', '.join(found[:10])}; copy it from where the encoder comes from"
    )
