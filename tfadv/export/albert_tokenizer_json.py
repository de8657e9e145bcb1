"""ALBERT's tokenizer for transformers, which reads it as `tokenizer.json`."""

import base64
import re

from sentencepiece import sentencepiece_model_pb2


def describe(tokenizer, folder):
    """Describes a tokenizer of ALBERT as `tokenizer.json` does.

    Without it `transformers` 5 makes a tokenizer of `spiece.model` that
    splits texts at the model's user-defined symbols, full stops and brackets,
    before all else: about every eighth sentence got other ids than ALBERT was
    pretrained with.

    Args:
        tokenizer: `tfadv.text.sentencepiece.AlbertTokenizer`.
        folder: `pathlib.Path` of a folder with its `spiece.model`.

    Returns:
        dict for JSON.
    """
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "spiece.model").read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    character_map = model.normalizer_spec.precompiled_charsmap
    spaces = {
        "type": "Metaspace",
        "replacement": "▁",
        "prepend_scheme": "always",
        "split": True,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": i,
                "content": pieces[i][0],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for i in tokenizer.special_ids
        ],
        "normalizer": _normalizer(tokenizer, character_map),
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [{"type": "WhitespaceSplit"}, spaces],
        },
        "post_processor": _template(tokenizer.cls_id, tokenizer.sep_id),
        "decoder": spaces,
        "model": {
            "type": "Unigram",
            "unk_id": tokenizer.unk_id,
            # Pieces like "2," are never used: see `AlbertTokenizer`.
            "vocab": [
                [piece, -1e4 if re.search(r"\d,$", piece) else score]
                for piece, score in pieces
            ],
            "byte_fallback": False,
        },
    }


def _normalizer(tokenizer, character_map):
    normalizers = [
        {"type": "Replace", "pattern": {"String": quotes}, "content": '"'}
        for quotes in ("``", "''")
    ]
    if not tokenizer.keep_accents:
        normalizers += [{"type": "NFKD"}, {"type": "StripAccents"}]
    if tokenizer.do_lower_case:
        normalizers.append({"type": "Lowercase"})
    if character_map:
        encoded = base64.b64encode(character_map).decode()
        normalizers.append(
            {"type": "Precompiled", "precompiled_charsmap": encoded}
        )
    return {"type": "Sequence", "normalizers": normalizers}


def _template(cls_id, sep_id):
    """Where the control tokens go in a text and in a pair of texts."""

    def token(name, segment):
        return {"SpecialToken": {"id": name, "type_id": segment}}

    def text(name, segment):
        return {"Sequence": {"id": name, "type_id": segment}}

    single = [token("[CLS]", 0), text("A", 0), token("[SEP]", 0)]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, text("B", 1), token("[SEP]", 1)],
        "special_tokens": {
            name: {"id": name, "ids": [i], "tokens": [name]}
            for name, i in (("[CLS]", cls_id), ("[SEP]", sep_id))
        },
    }
