"""Byte-level BPE: GPT-2's vocabulary, or one trained on the corpus.

Both cut a text by GPT-2's pattern into words and merge the bytes of a word,
pair by pair, in the order of the ranks (Radford et al. 2019; Sennrich et al.
2016, 1508.07909). gpt2/data/tokenization/merges.py trains and tiktoken encodes, ten times faster
than the `tokenizers` library: a trained vocabulary has one merge per token, in
order of the tokens, so the two agree (tests/gpt2/data/tokenization/test_bpe.py). Any byte has a
token, hence `decode(encode(x)) == x` for every text x; words are made of text
alone, so no token reaches over a document's end.
"""

import base64
import binascii
import hashlib
import json
import re
from pathlib import Path
from typing import Callable, Iterable, Iterator

import numpy as np
import tiktoken
from tiktoken_ext.openai_public import r50k_pat_str
from tokenizers import Tokenizer as Library
from tokenizers import decoders, models, pre_tokenizers

from gpt2.data.tokenization.merges import ALPHABET, merges, words
from gpt2.data.tokenization.tokenizers import (
    ByteTokenizer,
    Tokenizer,
    TokenizerError,
    as_text,
    text_tokens,
)
from gpt2.settings.run import DataSettings
from records import private
from records.offline import OfflineError, offline_by
from records.progress_line import Counted

TOKENIZER = "tokenizer.json"
EOT = "<|endoftext|>"
GPT2_FILE = "r50k_base.tiktoken"
GPT2_URL = f"https://openaipublic.blob.core.windows.net/encodings/{GPT2_FILE}"
GPT2_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
# Unicode's White_Space, as in tiktoken's \s; Python's has four characters more.
WHITE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
LONG = 10_000
# What tiktoken calls the file in TIKTOKEN_CACHE_DIR.
GPT2_CACHED = hashlib.sha1(GPT2_URL.encode()).hexdigest()


class BpeTokenizer:
    """Tokens 0 … n-1 are byte strings, n separates documents.

    A text that spells the separator is encoded as the text it is.
    """

    def __init__(self, name: str, ranks: dict[bytes, int]):
        """ranks: byte string -> token, 0 … n-1, in order of the merges."""
        if sorted(ranks.values()) != list(range(len(ranks))):
            raise TokenizerError(f"{name}: the ranks are not 0-{len(ranks) - 1}")
        if missing := [b for b in range(256) if bytes([b]) not in ranks]:
            raise TokenizerError(f"{name}: no token for the byte {missing[0]:#04x}")
        self.name, self.eot, self.ranks = name, len(ranks), ranks
        self.vocab_size = self.eot + 1
        self.dtype = np.dtype("<u2" if self.vocab_size <= 1 << 16 else "<u4")
        self._encoding = tiktoken.Encoding(
            name,
            pat_str=r50k_pat_str,
            mergeable_ranks=ranks,
            special_tokens={EOT: self.eot},
        )

    def encode(self, text: bytes | memoryview | str) -> np.ndarray:
        """Tokens of one text, `dtype` (tokens,), in n log n for its longest word.

        Raises TokenizerError for bytes that are no UTF-8 and for a str with a
        lone surrogate.
        """
        parts = [
            self._encoding.encode_to_numpy(part, disallowed_special=())
            for part in _between_blanks(as_text(text))
        ]
        return np.concatenate(parts).astype(self.dtype)

    def decode(self, tokens: np.ndarray) -> bytes:
        """The bytes of the tokens, also of those that cut a character.

        Separators are left out. Raises ValueError for a token outside 0-n.
        """
        return self._encoding.decode_bytes(text_tokens(tokens, self).tolist())


def blanks(least: int) -> re.Pattern[str]:
    """Runs of so many blanks or more."""
    return re.compile(f"[{WHITE}]{{{least},}}")


BLANKS = blanks(LONG)


def _between_blanks(text: str) -> Iterator[str]:
    """The text in parts that have its words, cut at runs of LONG blanks or more.

    tiktoken's pattern keeps a place to go back to for each blank of a run, and gives
    up at a million. A word opens with one blank at most and ends with none, unless it
    is nothing else: so a run that text follows is the word of all its blanks but the
    last, which belongs to what follows.
    """
    start = 0
    for run in BLANKS.finditer(text):
        stop = run.end() - (run.end() < len(text))
        yield text[start : run.start()]
        yield text[run.start() : stop]
        start = stop
    yield text[start:]


def fixed_tokenizer(settings: DataSettings) -> Tokenizer | None:
    """The tokenizer, None for one that the corpus trains."""
    if settings.tokenizer == "byte":
        return ByteTokenizer()
    if settings.tokenizer == "gpt2":
        path = settings.gpt2_vocab_path
        return gpt2(Path(path) if path else None)
    return None


def tokenizer_of(settings: DataSettings, directory: Path) -> Tokenizer:
    """The tokenizer of a packed corpus. Raises TokenizerError."""
    path = directory / TOKENIZER
    try:
        return fixed_tokenizer(settings) or trained(path.read_bytes())
    except OSError as error:
        raise TokenizerError(
            f"{path}: {error.strerror}; `make data` trains it"
        ) from error


def gpt2(path: Path | None, sha256: str = GPT2_SHA256) -> BpeTokenizer:
    """GPT-2's tokenizer: 50,257 tokens.

    path: the vocabulary file, or the folder it lies in under its own name or
    tiktoken's; None for a cache, filled from the network unless a variable says that
    the network is not to be used (records/offline.py). Raises TokenizerError that says
    which file is needed and where.
    """
    if path is None:
        if reason := _not_to_be_fetched():
            raise TokenizerError(f"{reason}. {_where(sha256)}")
        try:
            return BpeTokenizer("gpt2", dict(_cached_ranks()))
        except (OSError, ValueError) as error:
            why = f"{GPT2_URL} cannot be reached ({type(error).__name__})"
            raise TokenizerError(f"{why}. {_where(sha256)}") from error
    if path.is_dir():
        places = [path / name for name in (GPT2_FILE, GPT2_CACHED)]
        path = next((place for place in places if place.is_file()), places[0])
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{path}: {error.strerror}. {_where(sha256)}") from error
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise TokenizerError(
            f"{path}: sha256 {found} is not that of GPT-2's vocabulary. "
            f"{_where(sha256)}"
        )
    return BpeTokenizer("gpt2", _parse(path, content))


def _cached_ranks() -> dict[bytes, int]:
    """The ranks from the cache, or from the network into it."""
    private.claim_vocabulary_cache()
    return tiktoken.load.load_tiktoken_bpe(GPT2_URL, GPT2_SHA256)


def _not_to_be_fetched() -> str:
    """Why the vocabulary, which is in no cache, may not come from the network; "" where
    it may, or need not.
    """
    try:
        variable = offline_by()
    except OfflineError as error:
        return str(error)
    cache = private.vocabulary_cache()
    if variable is None or (cache / GPT2_CACHED).is_file():
        return ""
    return f"{variable}, so {GPT2_URL} is not asked, and {cache} does not hold it"


def _where(sha256: str) -> str:
    return (
        f"CONFIG_TOKENIZER_GPT2 needs {GPT2_FILE} (sha256 {sha256}): get it from "
        f"{GPT2_URL} on a machine with a network and name it, or its folder, in "
        f"CONFIG_GPT2_VOCAB_PATH, or put it as {GPT2_CACHED} into "
        "TIKTOKEN_CACHE_DIR; CONFIG_TOKENIZER_BPE=y and CONFIG_TOKENIZER_BYTE=y "
        "need no file"
    )


def _parse(path: Path, content: bytes) -> dict[bytes, int]:
    """The ranks of a .tiktoken file: a base64 byte string and its rank a line."""
    ranks = {}
    for number, line in enumerate(content.splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise TokenizerError(f"{path}:{number}: {line!r:.60}: {error}") from error
    return ranks


def train(
    texts: Iterable[str], vocab_size: int, say: Callable[[str], object] = lambda _: None
) -> bytes:
    """tokenizer.json of a BPE trained on these texts, separator included.

    In time about linear in the text and in its longest word, of which `say` is told.
    Raises TokenizerError when the texts have too few pairs to merge.
    """
    counts = words(texts)
    longest = max(map(len, counts), default=0)
    say(f"{len(counts):,} different words, the longest of {longest:,} bytes")
    tokens, wanted = list(ALPHABET), vocab_size - len(ALPHABET) - 1
    meter = Counted("merging", wanted, scale=1e3, unit="thousand tokens")
    pairs = []
    for a, b in merges(counts, wanted):
        pairs.append((tokens[a], tokens[b]))
        tokens.append(tokens[a] + tokens[b])
        meter.advance(1)
    meter.close()
    if len(pairs) < wanted:
        raise TokenizerError(
            f"CONFIG_BPE_VOCAB_SIZE={vocab_size}: the training split has pairs for a "
            f"vocabulary of {len(tokens) + 1}: set it to that or less, or use more text"
        )
    vocabulary = {token: number for number, token in enumerate(tokens)}
    found = Library(models.BPE(vocab=vocabulary, merges=pairs))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    found.add_special_tokens([EOT])
    return found.to_str(pretty=True).encode("utf-8")


def trained(content: bytes, name: str = "bpe") -> BpeTokenizer:
    """The tokenizer of a tokenizer.json that `train` made.

    Raises TokenizerError for anything else.
    """
    try:
        vocabulary = json.loads(content)["model"]["vocab"]
        ranks = {
            bytes(BYTE_OF[character] for character in token): rank
            for token, rank in vocabulary.items()
            if token != EOT
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TokenizerError(
            f"not a byte-level BPE in tokenizer.json's form: {error!r}"
        ) from error
    return BpeTokenizer(name, ranks)


def _byte_of_character() -> dict[str, int]:
    """The byte that each character of a token in tokenizer.json stands for.

    Printable characters of Latin-1 stand for themselves, U+0100 and on for the
    other bytes in order.
    """
    shown = [b for b in range(256) if chr(b).isprintable() and chr(b) != " "]
    hidden = sorted(set(range(256)) - set(shown))
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}


BYTE_OF = _byte_of_character()
