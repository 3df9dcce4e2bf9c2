"""The process beside a run that reads a corpus on the fly and encodes it.

It is told what to read in one line of JSON on standard input, and writes frames
to standard output: a kind (one byte), a count and a length (u64 each, little-
endian), and as many bytes:

    T  tokens of `count` training documents, a separator after each
    P  JSON: the position behind a block, `count` is the block's number
    E  why it ends, in words

The order of the documents is that of the corpus by blocks of
CONFIG_SHUFFLE_BUFFER; in a block they are permuted by (seed, epoch, number), in
an order of one block's own. So the tokens before a block are the same for every
seed, and a position behind one serves all runs of the corpus. It ends when its
standard input is closed, hence with the process that started it.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpt2.data.loading.frames import HEAD, Position, START
from gpt2.data.packing.on_the_fly import source_sha256
from gpt2.data.packing.splits import pieces
from gpt2.data.permutation import Permutation
from gpt2.data.sources.corpora import CorpusError, Document
from gpt2.data.sources.hub import Stream
from gpt2.data.tokenization.bpe import tokenizer_of
from gpt2.data.tokenization.tokenizers import Tokenizer, TokenizerError, encode
from gpt2.settings.run import DataSettings

TOGETHER = 64
"""Documents in a frame, at most."""


def epoch_blocks(
    stream: Stream, seed: int, epoch: int, place: Any
) -> Iterator[tuple[list[Document], Any]]:
    """(training documents of a block in their order, the place behind it), from a
    place in the stream on, None its start. Raises CorpusError.
    """
    settings = stream.settings
    for block, place in stream.blocks(place):
        kept = [
            (name, bytes(text))
            for split, text, _, name in pieces(settings, iter(block), stream.source)
            if split == "train"
        ]
        if settings.shuffle_buffer and kept:
            key = f"feed:{seed}:{epoch}:{place['block']}"
            order = Permutation(len(kept), key)(np.arange(len(kept)))
            kept = [kept[at] for at in order.tolist()]
        yield kept, place


def frames(
    stream: Stream, tokenizer: Tokenizer, seed: int, position: Position
) -> Iterator[tuple[bytes, int, bytes]]:
    """(kind, count, content) from a position on, without end.

    An epoch ends with the corpus or, with CONFIG_DATA_TOKENS, with the block that
    reaches it. Raises CorpusError, also for a corpus without a training document,
    and TokenizerError.
    """
    settings, eot = stream.settings, np.array([tokenizer.eot], tokenizer.dtype)
    epoch, tokens, place = (position[key] for key in START)
    with ThreadPoolExecutor(settings.workers, "encode") as pool:
        while True:
            for texts, place in _ahead(epoch_blocks(stream, seed, epoch, place)):
                encoded = pool.map(lambda each: encode(tokenizer, *each), texts)
                while group := list(islice(encoded, TOGETHER)):
                    joined = np.concatenate([x for each in group for x in (each, eot)])
                    tokens += len(joined)
                    yield b"T", len(group), joined.tobytes()
                over = bool(settings.tokens) and tokens >= settings.tokens
                behind = {"epoch": epoch, "tokens": tokens, "stream": place}
                behind = {**START, "epoch": epoch + 1} if over else behind
                yield b"P", place["block"], json.dumps(behind).encode()
                if over:
                    break
            if not tokens:
                raise CorpusError(f"{stream.description} holds no training document")
            epoch, tokens, place = epoch + 1, 0, None


def _ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The items, the next one fetched by a thread meanwhile."""
    with ThreadPoolExecutor(1, "read") as reader:
        job = reader.submit(next, items, None)
        while (item := job.result()) is not None:
            job = reader.submit(next, items, None)
            yield item


def serve(task: dict[str, Any], out: BinaryIO) -> None:
    """Write frames until nobody reads them; an error is the last one."""
    settings = DataSettings(**task["settings"])
    try:
        stream = Stream(settings, task["revision"])
        found = source_sha256(stream)
        if found != task["source"]:
            raise CorpusError(
                f"{stream.description} is not what `make data` found there (sha256 "
                f"{task['source'][:16]} then, {found[:16]} now): bring it back, or run "
                "make data and make, which plans anew"
            )
        tokenizer = tokenizer_of(settings, Path(task["directory"]))
        for kind, count, content in frames(
            stream, tokenizer, task["seed"], task["position"]
        ):
            out.write(HEAD.pack(kind, count, len(content)) + content)
            out.flush()
    except BrokenPipeError:
        return
    except (CorpusError, TokenizerError, OSError) as error:
        why = str(error).encode()
        out.write(HEAD.pack(b"E", 0, len(why)) + why)
        out.flush()


def main() -> None:
    """The process: what libraries print goes to standard error."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    task = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    serve(task, out)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)
