# ruff: noqa: RUF001 (texts in many scripts)
"""Ids must be those of the originals, for every text.

The truth for ALBERT is Google's preprocessing, written here anew in plain
Python on the `sentencepiece` package; for BERT it is the `tokenizers` library
that `transformers.BertTokenizer` runs on.
"""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import unicodedata

import hypothesis
import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
import tokenizers
from hypothesis import strategies as st
from sentencepiece import sentencepiece_model_pb2

import tfadv
from tests import tiny_run
from tfadv.errors import InputError
from tfadv.text import make_character_classes
from tfadv.text.sentencepiece import AlbertTokenizer
from tfadv.text.tokenizer import Tokenizer
from tfadv.text.wordpiece import BertTokenizer

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
# Where Unicode has letters, marks and formats. What lies elsewhere is
# unassigned or private and alike, so some of it will do.
ASSIGNED = [
    c
    for c in CODE_POINTS
    if c < 0x32400 or 0xE0000 <= c < 0xE0200 or c % 101 == 0
]
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LONG = 1_000_000  # a max_length that cuts nothing off

TEXTS = [
    "",
    "   ",
    "\t\n \u3000 \x1c",
    "It's a gorgeous, witty, seductive movie.",
    "On 1,000 screens in 2010, 2011, and 2,, x10, 10,x",
    "``quoted'' 'text'",
    "naïve CAFÉ ﬁne Ⅷ ½ İstanbul ŞIĞ",
    "ΟΔΥΣΣΕΥΣ ΑΣ Σ ΑΣ' 'ΑΣ'Α Σ. Α̈Σ.Β",
    "中文字 かな 한국어 ไทย हिन्दी שָׁלוֹם",
    "[CLS] [SEP] [MASK] <pad> <unk> [PAD] [UNK] [sep]",
    "a\x00b \x85 a\u200db \ufffd \ufeff",
    "😀👨‍👩‍👧 #hashtag @user http://a.b/c?d=e",
    "´ \u2017 \u1fef\u1fef \u2033",
]
# What the rules look at, so that arbitrary texts are not arbitrary in vain.
BITS = [
    *("Σ", "ΑΣ", "ς", "İ", "K", "ß", "'", "''", "``", ".", "\u0345", "\u0301"),
    *("1,", "2010,", "10,", ",", "0", "x", "a", "the ", "##", "#", "-", "$"),
    *("[SEP]", "[MASK]", "<pad>", "[", "]", "▁", "\x00", "\u200d", "\xa0"),
    *("\u3000", "\x1c", "\x85", "中", "é", "e\u0301", "½", "´", "\U0001f600"),
]
CHARACTERS = st.characters(exclude_categories=["Cs"])
ANY_TEXT = st.one_of(
    st.text(CHARACTERS, max_size=40),
    st.lists(st.one_of(st.sampled_from(BITS), CHARACTERS)).map("".join),
)
# The first call of a graph and a busy machine are no reason to fail.
PATIENT = hypothesis.settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(hypothesis.HealthCheck),
)


class GoogleAlbert:
    """The preprocessing of ALBERT's original code, and its piece ids."""

    def __init__(self, model):
        self.model = sentencepiece.SentencePieceProcessor(model_proto=model)

    def preprocess(self, text, lower=True, keep_accents=False, spaces=True):
        if spaces:
            text = " ".join(text.strip().split())
        text = text.replace("``", '"').replace("''", '"')
        if not keep_accents:
            text = unicodedata.normalize("NFKD", text)
            text = "".join(c for c in text if not unicodedata.combining(c))
        return text.lower() if lower else text

    def encode_pieces(self, text):
        new_pieces = []
        for piece in self.model.EncodeAsPieces(text):
            if len(piece) > 1 and piece[-1] == "," and piece[-2].isdigit():
                cur = self.model.EncodeAsPieces(piece[:-1].replace("▁", ""))
                if piece[0] != "▁" and cur[0][0] == "▁":
                    if len(cur[0]) == 1:
                        cur = cur[1:]
                    else:
                        cur[0] = cur[0][1:]
                cur.append(piece[-1])
                new_pieces.extend(cur)
            else:
                new_pieces.append(piece)
        return new_pieces

    def __call__(self, text, **options):
        pieces = self.encode_pieces(self.preprocess(text, **options))
        ids = [self.model.PieceToId(piece) for piece in pieces]
        # A run of unknown characters may spell a control token; that one
        # thing the original lets through, and the library must not.
        control = self.model.IsControl
        return [self.model.unk_id() if control(i) else i for i in ids]

    def equal(self, expected, found):
        """Whether ids are the same or split the text equally well."""
        if expected == found:
            return True
        scores, surfaces = [], []
        for ids in (expected, found):
            scores.append(sum(map(self.model.GetScore, ids)))
            surfaces.append("".join(map(self.model.IdToPiece, ids)))
        tie = abs(scores[0] - scores[1]) <= 1e-5 * abs(scores[0])
        return tie and surfaces[0] == surfaces[1]


class RustBert:
    """The `tokenizers` library as `transformers.BertTokenizer` sets it up.

    No token is added to it, which is what `split_special_tokens` comes to: a
    control token that a text spells stays text.
    """

    def __init__(self, pieces, lower=True, strip=None, chinese=True):
        self.backend = tokenizers.Tokenizer(
            tokenizers.models.WordPiece(
                {piece: i for i, piece in enumerate(pieces)},
                unk_token="[UNK]",
                max_input_chars_per_word=100,
            )
        )
        self.backend.normalizer = tokenizers.normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=chinese,
            strip_accents=strip,
            lowercase=lower,
        )
        self.backend.pre_tokenizer = (
            tokenizers.pre_tokenizers.BertPreTokenizer()
        )

    def batch(self, texts):
        found = self.backend.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def __call__(self, text):
        return self.batch([text])[0]


def inner_ids(tokenizer, texts):
    """The ids of texts without those of `[CLS]` and `[SEP]`."""
    return [row[1:-1] for row in tokenizer.tokenize(texts).to_list()]


def write_config(folder, **config):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture(scope="session")
def albert_folder(tmp_path_factory):
    """A small SentencePiece model made with the settings of ALBERT's."""
    folder = tmp_path_factory.mktemp("albert")
    words = "the film witty movie gorgeous seductive naive cafe quoted text"
    corpus = [
        f'{word} in {year}, {n}, and {n},000 of {year} (x{n}0, ας ος "{word}". '
        f"{n % 5} x{n}, {n % 5} y{n}, {n % 5} z{n}, the movie"
        for year in range(2000, 2020)
        for n, word in enumerate(words.split())
    ]
    model = tiny_run.sentencepiece_model(
        corpus,
        150,
        user_defined_symbols=list('()"-.–£€'),
        normalization_rule_name="nmt_nfkc",
        split_by_number=False,
        split_by_unicode_script=False,
    )
    (folder / "spiece.model").write_bytes(model)
    write_config(folder, model_type="albert")
    return folder


@pytest.fixture(scope="session")
def real_albert_folder():
    root = pathlib.Path(__file__).parents[2]
    folder = os.environ.get("TFADV_ALBERT_FOLDER")
    folder = pathlib.Path(folder or root / "../shared/albert-base-v2")
    if not (folder / "spiece.model").is_file():
        pytest.skip("no albert-base-v2: name it in TFADV_ALBERT_FOLDER")
    return folder


@pytest.fixture(scope="session")
def bert_pieces():
    letters = "abcdefghijklmnopqrstuvwxyz0123456789äéασςй"
    others = "!\"#$%'(),-./:;<=>?@[]^_`{|}~中文字。、«»▁"
    words = ["the", "movie", "##vie", "##ing", "sep", "mask", "cls", "2010"]
    pieces = [*BERT_SPECIAL, *words, *letters, *others]
    return [*pieces, *("##" + letter for letter in letters), "İ", "##\u0307"]


@pytest.fixture(scope="session")
def bert_folder(tmp_path_factory, bert_pieces):
    folder = tmp_path_factory.mktemp("bert")
    text = "".join(piece + "\n" for piece in bert_pieces)
    (folder / "vocab.txt").write_text(text, encoding="utf-8")
    write_config(folder, model_type="bert")
    return folder


@pytest.fixture(scope="session")
def albert(albert_folder):
    return Tokenizer.from_pretrained(albert_folder, max_length=LONG)


@pytest.fixture(scope="session")
def google(albert_folder):
    return GoogleAlbert((albert_folder / "spiece.model").read_bytes())


@pytest.fixture(scope="session")
def bert(bert_folder):
    return Tokenizer.from_pretrained(bert_folder, max_length=LONG)


@pytest.fixture(scope="session")
def rust(bert_pieces):
    return RustBert(bert_pieces)


@pytest.fixture(scope="session", params=["albert", "bert"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="session")
def short(folder):
    """A tokenizer of either family that cuts texts to ten ids."""
    return Tokenizer.from_pretrained(folder, max_length=10)


def assert_as_google(google, tokenizer, texts, **options):
    for text, found in zip(texts, inner_ids(tokenizer, texts), strict=True):
        expected = google(text, **options)
        assert google.equal(expected, found), (text, expected, found)


def assert_as_rust(rust, tokenizer, texts):
    found = inner_ids(tokenizer, texts)
    for text, ids, expected in zip(
        texts, found, rust.batch(texts), strict=True
    ):
        assert ids == expected, text


# ALBERT


def test_albert_ids_are_googles(google, albert):
    assert_as_google(google, albert, TEXTS)


@PATIENT
@hypothesis.given(st.lists(ANY_TEXT, max_size=8))
def test_albert_ids_are_googles_for_any_text(google, albert, texts):
    assert_as_google(google, albert, texts)


@pytest.mark.parametrize("pattern", ["a{0}b {0} ΑΣ{0} {0}Σ", "{}", "ΑΣ{}Α"])
def test_albert_ids_are_googles_for_every_character(google, albert, pattern):
    points = ASSIGNED if pattern == "{}" else ASSIGNED[::5]
    texts = [pattern.format(chr(c)) for c in points]
    assert_as_google(google, albert, texts)


@pytest.mark.slow
def test_albert_ids_are_googles_for_all_of_unicode(google, albert):
    for i in range(0, len(CODE_POINTS), 50_000):
        points = CODE_POINTS[i : i + 50_000]
        texts = ["a{0}b {0} ΑΣ{0} {0}Σ".format(chr(c)) for c in points]
        assert_as_google(google, albert, texts)


@pytest.mark.parametrize(
    "options",
    [
        {"lower": False},
        {"keep_accents": True},
        {"lower": False, "keep_accents": True, "spaces": False},
    ],
    ids=str,
)
def test_albert_settings_do_as_googles(google, albert_folder, options):
    tokenizer = AlbertTokenizer(
        (albert_folder / "spiece.model").read_bytes(),
        max_length=LONG,
        do_lower_case=options.get("lower", True),
        keep_accents=options.get("keep_accents", False),
        remove_space=options.get("spaces", True),
    )
    assert_as_google(google, tokenizer, TEXTS, **options)


def test_pieces_that_end_in_digit_and_comma_are_split_anew(google, albert):
    model = google.model
    pieces = [model.IdToPiece(i) for i in range(model.GetPieceSize())]
    split = [p for p in pieces if p[-1] == "," and p[-2:-1].isdigit()]
    # All branches of the rule: at the start of a word; inside one, with the
    # number alone a piece of its own or not.
    assert {piece[0] == "▁" for piece in split} == {True, False}
    starts = [model.EncodeAsPieces(p[:-1])[0] for p in split if p[0] != "▁"]
    assert {start == "▁" for start in starts} == {True, False}
    for piece in split:
        text = piece.replace("▁", "") if piece[0] == "▁" else "x" + piece
        [found] = inner_ids(albert, [text])
        assert found == google(text)
        assert model.PieceToId(piece) not in found
        assert found[-1] == model.PieceToId(",")


def test_albert_base_ids_are_googles(real_albert_folder):
    google = GoogleAlbert((real_albert_folder / "spiece.model").read_bytes())
    albert = Tokenizer.from_pretrained(real_albert_folder, max_length=LONG)
    assert albert.special_ids == (0, 1, 2, 3, 4)
    years = [
        f"In {n}, {n % 40}, and x{n}, of 1,{n}." for n in range(1900, 2030)
    ]
    assert_as_google(google, albert, TEXTS + years)
    characters = ["a{0}b {0}".format(chr(c)) for c in ASSIGNED[::10]]
    assert_as_google(google, albert, characters)


# BERT


def test_bert_ids_are_those_of_transformers(bert_folder, bert):
    transformers = pytest.importorskip("transformers")
    theirs = transformers.BertTokenizer.from_pretrained(
        bert_folder, split_special_tokens=True
    )
    found = bert.tokenize(TEXTS).to_list()
    assert found == [theirs(text)["input_ids"] for text in TEXTS]


@PATIENT
@hypothesis.given(st.lists(ANY_TEXT, max_size=8))
def test_bert_ids_are_rusts_for_any_text(rust, bert, texts):
    assert_as_rust(rust, bert, texts)


def everything_a_normalizer_makes(normalizer):
    """A vocabulary in which each changed character shows what it became."""
    made = set("ab") | set(map(chr, range(0x21, 0x500)))
    for c in ASSIGNED:
        text = normalizer.normalize_str(chr(c))
        # An ideograph in spaces tells nothing new.
        if text.strip() != chr(c):
            made |= set(text)
    made = sorted(c for c in made if not c.isspace())
    return [*BERT_SPECIAL, *made, *("##" + c for c in made)]


def sweep_bert(points, **options):
    """Compares texts of 64 characters each in several neighbourhoods."""
    rust = RustBert(BERT_SPECIAL, **options)
    pieces = everything_a_normalizer_makes(rust.backend.normalizer)
    rust = RustBert(pieces, **options)
    bert = BertTokenizer(
        pieces,
        LONG,
        do_lower_case=options.get("lower", True),
        strip_accents=options.get("strip"),
        tokenize_chinese_chars=options.get("chinese", True),
    )
    texts = [
        " ".join("a{0}b {0} {0}a".format(chr(c)) for c in points[i : i + 64])
        for i in range(0, len(points), 64)
    ]
    assert_as_rust(rust, bert, texts)


BERT_OPTIONS = [
    {},
    {"lower": False},
    {"strip": False, "chinese": False},
    {"lower": False, "strip": True},
]


@pytest.mark.parametrize("options", BERT_OPTIONS, ids=str)
def test_bert_ids_are_rusts_for_every_character(options):
    sweep_bert(ASSIGNED if not options else ASSIGNED[::5], **options)


@pytest.mark.slow
@pytest.mark.parametrize("options", BERT_OPTIONS, ids=str)
def test_bert_ids_are_rusts_for_all_of_unicode(options):
    sweep_bert(CODE_POINTS, **options)


@pytest.mark.slow
def test_the_stored_character_classes_are_those_of_the_library():
    path = make_character_classes.PATH
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored == make_character_classes.make()


TOKENIZE_ONLY = """
import sys
import tfadv
from tfadv.sources import names
checkpoint = names.open_checkpoint(sys.argv[1])
tfadv.Tokenizer.from_pretrained(checkpoint)(["a"])
print({"keras_hub", "torch", "transformers"} & sys.modules.keys())
"""


def test_a_tokenizer_needs_no_model_library(folder):
    finished = subprocess.run(
        [sys.executable, "-c", TOKENIZE_ONLY, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert finished.stdout == "set()\n"


def test_a_character_by_itself_is_as_in_rust(rust, bert):
    # U+FEFF, for one, means something else where a text begins.
    texts = [chr(c) for c in ASSIGNED if c < 0x3000 or 0xE000 <= c < 0x11000]
    assert_as_rust(rust, bert, texts)


@pytest.mark.parametrize("letter", ["a", "é", "й", "中", "a\u0301", "."])
def test_a_word_of_more_than_100_characters_is_unknown(rust, bert, letter):
    texts = [letter * n for n in (99, 100, 101, 400)]
    texts += ["the " + text + " the" for text in texts]
    assert_as_rust(rust, bert, texts)


def test_minilm_ids_are_rusts(minilm_folder):
    text = (minilm_folder / "vocab.txt").read_text(encoding="utf-8")
    pieces = text.split("\n")[:-1]
    bert = Tokenizer.from_pretrained(minilm_folder, max_length=LONG)
    assert bert.vocabulary_size == 30522
    assert bert.special_ids == (0, 100, 101, 102, 103)
    words = [" ".join(pieces[i : i + 50]) for i in range(0, len(pieces), 50)]
    assert_as_rust(RustBert(pieces), bert, TEXTS + words)


# Either family


def test_spelled_control_tokens_stay_text(short):
    texts = [
        "[CLS]",
        "[SEP] [MASK][SEP]",
        "<pad>",
        "[PAD]",
        "[cls] a[SEP]b",
        "▁[MASK]",
    ]
    control = set(short.special_ids) - {short.unk_id}
    for row in inner_ids(short, texts):
        assert row
        assert not control & set(row)


def test_a_control_token_that_sentencepiece_finds_in_a_text_is_unknown(
    albert_folder,
):
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((albert_folder / "spiece.model").read_bytes())
    for piece in model.pieces[2:5]:
        piece.type = piece.USER_DEFINED
    tokenizer = AlbertTokenizer(model.SerializeToString(), do_lower_case=False)
    [row] = inner_ids(tokenizer, ["the [SEP]"])
    assert tokenizer.sep_id not in row
    assert row[-1] == tokenizer.unk_id


@PATIENT
@hypothesis.given(texts=st.lists(ANY_TEXT, max_size=8))
def test_inputs_of_any_texts_are_well_formed(short, texts):
    inputs = {k: v.numpy() for k, v in short(texts).items()}
    assert list(inputs) == ["token_ids", "padding_mask", "segment_ids"]
    ids, mask = inputs["token_ids"], inputs["padding_mask"]
    assert ids.shape[0] == len(texts)
    assert ids.shape[1] <= short.max_length
    for array in inputs.values():
        assert array.dtype == np.int32
        assert array.shape == ids.shape
    assert not inputs["segment_ids"].any()
    control = set(short.special_ids) - {short.unk_id}
    lengths = mask.sum(axis=1)
    assert not len(texts) or lengths.max() == ids.shape[1]
    for row, ones, length in zip(ids, mask, lengths, strict=True):
        assert ones.tolist() == [1] * length + [0] * (len(row) - length)
        assert row[0] == short.cls_id
        assert row[length - 1] == short.sep_id
        assert (row[length:] == short.pad_id).all()
        assert not control & set(row[1 : length - 1])


def test_a_text_without_pieces_is_cls_and_sep(short):
    expected = [[short.cls_id, short.sep_id]] * 3
    assert short.tokenize(["", " \t\n ", "\u3000"]).to_list() == expected


def test_no_texts_are_a_batch_of_none(short):
    assert short.tokenize([]).to_list() == []
    assert all(v.shape[0] == 0 for v in short([]).values())
    graph = tf.function(short.__call__).get_concrete_function(
        tf.TensorSpec([None], tf.string)
    )
    assert graph(tf.constant([], tf.string))["token_ids"].shape[0] == 0


def test_a_long_text_is_cut_to_max_length(folder, short):
    whole = Tokenizer.from_pretrained(folder, max_length=LONG)
    for text in ("the movie " * 10_000, "a" * 100_000, "é中Σ " * 25_000):
        [ids] = inner_ids(whole, [text])
        [cut] = short.tokenize([text]).to_list()
        assert len(cut) == min(10, len(ids) + 2)
        assert cut == [short.cls_id, *ids[:8], short.sep_id]


def test_a_text_of_exactly_max_length_is_kept_whole(folder, short):
    whole = Tokenizer.from_pretrained(folder, max_length=LONG)
    texts = ["the"[:n] + " movie" * m for n in range(4) for m in range(9)]
    expected = inner_ids(whole, texts)
    assert {7, 8, 9} <= set(map(len, expected))
    assert inner_ids(short, texts) == [row[:8] for row in expected]


def test_a_long_albert_text_is_as_googles(google, albert):
    text = "The film of 2010, witty ΑΣ naïve\u3000``text'' and x10, "
    assert_as_google(google, albert, [text * 2_000])


def test_a_long_bert_text_is_as_rusts(rust, bert):
    assert_as_rust(rust, bert, ["The Móvie, 中文 [SEP] naïve 2010 " * 3_000])


def test_bytes_that_are_not_utf8_count_as_replacement_characters(short):
    broken = [
        b"\xff the",
        b"the \xe4\xb8",
        b"a\xc0\xafb \xed\xa0\x80",
        b"\xe4``\xf0\x9f\x98''",
        b"\xc2 \xe0\xc2\x85a",
    ]
    as_text = [text.decode("utf-8", "replace") for text in broken]
    found = short.tokenize(tf.constant(broken)).to_list()
    assert found == short.tokenize(as_text).to_list()


def test_lists_arrays_and_tensors_give_the_same_ids(short):
    expected = short.tokenize(TEXTS).to_list()
    for texts in (
        np.array(TEXTS, object),
        tf.constant(TEXTS),
        [text.encode() for text in TEXTS],
    ):
        assert short.tokenize(texts).to_list() == expected
    assert short.tokenize(np.array(["the", "a"])).to_list() == (
        short.tokenize(["the", "a"]).to_list()
    )


def test_graphs_and_pipelines_give_the_ids_of_eager_calls(short):
    expected = short.tokenize(TEXTS).to_list()
    texts = tf.data.Dataset.from_tensor_slices(TEXTS).batch(4)
    rows = [row for batch in texts.map(short.tokenize) for row in batch]
    assert [row.numpy().tolist() for row in rows] == expected
    call = tf.function(
        short.__call__, input_signature=[tf.TensorSpec([None], tf.string)]
    )
    eager, graph = short(TEXTS), call(TEXTS)
    for name, value in eager.items():
        np.testing.assert_array_equal(value, graph[name])
    for batch in texts.map(short):
        assert batch["token_ids"].shape == batch["padding_mask"].shape


SERVE = """
import json, sys
import tensorflow as tf
import tensorflow_text
texts = tf.constant(json.load(sys.stdin))
module = tf.saved_model.load(sys.argv[1])
for serve in module.albert, module.bert:
    print(json.dumps({k: v.numpy().tolist() for k, v in serve(texts).items()}))
"""


def test_an_export_serves_the_same_ids_in_another_process(
    albert, bert, tmp_path
):
    module = tf.Module()
    module.tokenizers = [albert, bert]
    texts = [tf.TensorSpec([None], tf.string)]
    module.albert = tf.function(albert.__call__, input_signature=texts)
    module.bert = tf.function(bert.__call__, input_signature=texts)
    tf.saved_model.save(module, tmp_path)
    # In Turkish, the lower-case "I" of ops that heed the locale has no dot.
    environment = os.environ | {"LC_ALL": "tr_TR.UTF-8"}
    served = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=environment,
    )
    for tokenizer, line in zip(
        (albert, bert), served.stdout.splitlines(), strict=True
    ):
        expected = {k: v.numpy().tolist() for k, v in tokenizer(TEXTS).items()}
        assert json.loads(line) == expected


def test_ids_become_pieces_and_text_again(short):
    ids = short(["the movie", "a"])["token_ids"]
    assert short.detokenize(ids) == ["the movie", "a"]
    assert short.detokenize(ids[0]) == "the movie"
    assert short.detokenize(short.tokenize(["a", "the a"])) == ["a", "the a"]
    assert short.detokenize([]) == ""
    [pieces, last] = short.ids_to_tokens(ids)
    assert pieces[0] == last[0] == "[CLS]"
    assert pieces[-1] == "[SEP]"
    assert "".join(pieces[1:-1]).replace("##", "").replace("▁", "") == (
        "themovie"
    )
    unknown = short.ids_to_tokens([short.unk_id])
    assert short.detokenize([short.cls_id, short.unk_id]) == unknown[0]


ATTRIBUTES = {
    "max_length",
    "vocabulary_size",
    "special_ids",
    "do_lower_case",
    "strip_accents",
    "tokenize_chinese_chars",
    "keep_accents",
    "remove_space",
}


def attributes(tokenizer):
    kept = {k: v for k, v in vars(tokenizer).items() if k in ATTRIBUTES}
    pieces = tokenizer.ids_to_tokens(range(tokenizer.vocabulary_size))
    return {"class": type(tokenizer), "pieces": pieces, **kept}


@pytest.mark.parametrize("lower", [True, False])
def test_a_saved_tokenizer_comes_back_identical(folder, tmp_path, lower):
    saved = Tokenizer.from_pretrained(folder, max_length=17)
    saved.do_lower_case = lower
    saved.save(tmp_path / "new" / "folder")
    found = Tokenizer.from_pretrained(tmp_path / "new" / "folder")
    assert attributes(found) == attributes(saved)
    shorter = Tokenizer.from_pretrained(tmp_path / "new" / "folder", 5)
    assert shorter.max_length == 5
    if lower:
        assert (
            found.tokenize(TEXTS).to_list() == saved.tokenize(TEXTS).to_list()
        )


def test_transformers_reads_a_saved_tokenizer(folder, tmp_path):
    transformers = pytest.importorskip("transformers")
    saved = Tokenizer.from_pretrained(folder)
    saved.save(tmp_path)
    theirs = getattr(transformers, type(saved).__name__)
    theirs = theirs.from_pretrained(tmp_path)
    texts = ["The naïve movie", "CAFE of 2000"]
    assert theirs(texts)["input_ids"] == saved.tokenize(texts).to_list()
    ids = list(range(saved.vocabulary_size))
    assert theirs.convert_ids_to_tokens(ids) == saved.ids_to_tokens(ids)
    assert theirs.pad_token_id == saved.pad_id
    assert theirs.mask_token_id == saved.mask_id
    assert theirs.model_max_length == saved.max_length


@pytest.mark.parametrize("lower", [True, False])
def test_a_keras_hub_preset_gives_the_ids_of_its_vocabulary(
    folder, tmp_path, lower
):
    keras_hub = pytest.importorskip("keras_hub")
    ours = Tokenizer.from_pretrained(folder)
    if isinstance(ours, BertTokenizer):
        theirs = keras_hub.models.BertTokenizer(
            str(folder / "vocab.txt"), lowercase=lower
        )
        ours = BertTokenizer(
            ours.ids_to_tokens(range(ours.vocabulary_size)),
            do_lower_case=lower,
        )
        write_config(tmp_path, class_name="BertBackbone")
    else:
        theirs = keras_hub.models.AlbertTokenizer(str(folder / "spiece.model"))
        write_config(tmp_path, class_name="AlbertBackbone")
    theirs.save_to_preset(str(tmp_path))
    found = Tokenizer.from_pretrained(tmp_path)
    assert attributes(found) == attributes(ours)
    assert found.tokenize(TEXTS).to_list() == ours.tokenize(TEXTS).to_list()


@pytest.mark.parametrize("options", BERT_OPTIONS, ids=str)
def test_tokenizer_json_alone_gives_vocabulary_and_settings(
    tmp_path, bert_pieces, options
):
    write_config(tmp_path, model_type="bert")
    rust = RustBert(bert_pieces, **options)
    rust.backend.save(str(tmp_path / "tokenizer.json"))
    found = Tokenizer.from_pretrained(tmp_path, max_length=LONG)
    assert found.vocabulary_size == len(bert_pieces)
    assert_as_rust(rust, found, TEXTS)


def test_ids_that_tokenizer_json_leaves_out_are_never_found(tmp_path):
    write_config(tmp_path, model_type="bert")
    rust = RustBert(["a"])
    content = json.loads(rust.backend.to_str())
    content["model"]["vocab"] = {"[UNK]": 1, "a": 7, "##a": 9}
    content["added_tokens"] = [
        {"content": piece, "id": i}
        for piece, i in [
            ("[PAD]", 0),
            ("[CLS]", 2),
            ("[SEP]", 3),
            ("[MASK]", 4),
        ]
    ]
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    found = Tokenizer.from_pretrained(tmp_path)
    assert found.vocabulary_size == 10
    assert found.tokenize(["aa", "[MASK]"]).to_list() == [
        [2, 7, 9, 3],
        [2, 1, 1, 1, 3],
    ]


def test_of_equal_pieces_the_last_counts():
    bert = BertTokenizer([*BERT_SPECIAL, "a", "b", "", "a", ""])
    assert inner_ids(bert, ["a b"]) == [[8, 6]]


def test_tokenizer_config_is_heeded(bert_folder, bert_pieces, tmp_path):
    text = (bert_folder / "vocab.txt").read_text(encoding="utf-8")
    (tmp_path / "vocab.txt").write_text(text, encoding="utf-8")
    write_config(tmp_path, model_type="bert")
    (tmp_path / "tokenizer_config.json").write_text(
        '{"do_lower_case": false, "strip_accents": null, "max_len": 512}'
    )
    found = Tokenizer.from_pretrained(tmp_path)
    assert found.max_length == 128
    assert_as_rust(RustBert(bert_pieces, lower=False), found, TEXTS[:4])


@contextlib.contextmanager
def one_line_error(code, *words):
    with pytest.raises(InputError) as caught:
        yield
    assert caught.value.code == code
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("config", "files", "code", "words"),
    [
        (
            {"model_type": "roberta"},
            {},
            "unsupported-family",
            ["roberta", "albert", "bert"],
        ),
        (
            {"class_name": "GPT2Backbone"},
            {},
            "unsupported-family",
            ["gpt2", "albert", "bert"],
        ),
        (
            {"model_type": "albert"},
            {},
            "missing-file",
            ["spiece.model", "config.json"],
        ),
        (
            {"model_type": "bert"},
            {},
            "missing-file",
            ["vocab.txt", "config.json"],
        ),
        (
            {"model_type": "albert"},
            {"spiece.model": b"\xffno model"},
            "bad-vocabulary",
            ["spiece.model"],
        ),
        (
            {"model_type": "albert"},
            {"spiece.model": b""},
            "bad-vocabulary",
            ["spiece.model"],
        ),
        (
            {"model_type": "bert"},
            {"vocab.txt": b"\xff\xfe"},
            "bad-text",
            ["vocab.txt"],
        ),
        (
            {"model_type": "bert"},
            {"vocab.txt": b"[PAD]\na\n"},
            "missing-pieces",
            ["[UNK]"],
        ),
        (
            {"model_type": "bert"},
            {"tokenizer.json": b"{\n"},
            "bad-json",
            ["tokenizer.json"],
        ),
        (
            {"model_type": "bert"},
            {"tokenizer.json": b"[1]"},
            "bad-json",
            ["tokenizer.json"],
        ),
        (
            {"model_type": "bert"},
            {"tokenizer.json": b'{"model": {"type": "BPE"}}'},
            "unsupported-tokenizer",
            ["WordPiece", "BPE"],
        ),
        (
            {"model_type": "bert"},
            {"tokenizer.json": b'{"model": [1]}'},
            "bad-tokenizer",
            ["AttributeError"],
        ),
    ],
)
def test_a_bad_folder_is_told_in_one_line(tmp_path, config, files, code, words):
    write_config(tmp_path, **config)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with one_line_error(code, str(tmp_path), *words):
        Tokenizer.from_pretrained(tmp_path)


def test_a_class_takes_its_own_family_only(folder, short):
    other = {AlbertTokenizer: BertTokenizer, BertTokenizer: AlbertTokenizer}
    assert type(type(short).from_pretrained(folder)) is type(short)
    with one_line_error("unsupported-family"):
        other[type(short)].from_pretrained(folder)


def test_max_length_has_room_for_a_token(folder):
    with one_line_error("max-length-too-small", "max_length", "2"):
        Tokenizer.from_pretrained(folder, max_length=2)


def test_the_package_offers_the_tokenizer():
    assert tfadv.Tokenizer is Tokenizer


def test_a_tokenizer_outlives_a_new_seed(albert_folder):
    tokenizer = Tokenizer.from_pretrained(albert_folder)
    traced = tf.function(tokenizer.tokenize)
    before = traced(tf.constant(["a good film"])).to_list()
    tf.random.set_seed(1)
    assert tokenizer.tokenize(["a good film"]).to_list() == before
    assert traced(tf.constant(["a good film"])).to_list() == before
