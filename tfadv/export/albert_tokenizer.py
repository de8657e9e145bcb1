"""ALBERT's tokenizer for transformers, which reads it as `tokenizer.json`."""

import pathlib
import re

from tfadv.text.sentencepiece import AlbertTokenizer


def save(tokenizer: AlbertTokenizer, folder: pathlib.Path) -> None:
    """Writes the `tokenizer.json` of a tokenizer of ALBERT.

    Without it `transformers` 5 makes a tokenizer of `spiece.model` that
    splits texts at the model's user-defined symbols, full stops and brackets,
    before all else: about every eighth sentence got other ids than ALBERT was
    pretrained with.

    Args:
        tokenizer: `tfadv.text.sentencepiece.AlbertTokenizer`.
        folder: `pathlib.Path` of a folder with its `spiece.model`.
    """
    from sentencepiece import sentencepiece_model_pb2
    from tokenizers import (
        AddedToken,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
    )

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "spiece.model").read_bytes())
    pieces = [
        # Pieces like "2," are never used: see `AlbertTokenizer`.
        (p.piece, -1e4 if re.search(r"\d,$", p.piece) else p.score)
        for p in model.pieces
    ]
    written = Tokenizer(models.Unigram(pieces, tokenizer.unk_id, False))
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(quotes, '"') for quotes in ("``", "''")
    ]
    if not tokenizer.keep_accents:
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if tokenizer.do_lower_case:
        steps.append(normalizers.Lowercase())
    if character_map := model.normalizer_spec.precompiled_charsmap:
        steps.append(normalizers.Precompiled(character_map))
    written.normalizer = normalizers.Sequence(steps)
    written.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    written.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[
            ("[CLS]", tokenizer.cls_id),
            ("[SEP]", tokenizer.sep_id),
        ],
    )
    written.decoder = decoders.Metaspace()
    written.add_special_tokens(
        [
            AddedToken(pieces[i][0], normalized=False, special=True)
            for i in tokenizer.special_ids
        ]
    )
    written.save(str(folder / "tokenizer.json"))
