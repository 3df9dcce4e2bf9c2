"""Tiny cells on a corpus of multi-byte texts, and the same cells by hand."""

import json
from itertools import islice
from pathlib import Path

from gpt2.data.packing.prepare import prepare
from gpt2.settings.run import run_settings
from kconf import config_py
from records import atomic
from records.jsonl import last_per_step, read_rows
from tests.conftest import SMALL
from tests.gpt2.data.sources.test_hub import write_folder
from tests.oracles import corpus
from tests.oracles.run import Records, Run

TEXTS = [
    f"{'naïve' if i % 3 else 'crème brûlée'} {i * i}{' ∮' * (i % 9)}"
    for i in range(120)
]
# Every number is another one than its default and than its neighbours', so that none
# can stand in for another. Some steps are clipped, others not; the training split is
# read into its second epoch; evaluation takes fewer windows than there are, in
# micro-batches of which the last is shorter.
COMMON = {
    **SMALL,
    "VAL_FRACTION": "0.35",
    "SEED": "11",
    "GPT2_DROPOUT": "0.2",
    "GPT2_BLOCK_SIZE": "48",
    "GPT2_VOCAB_SIZE": "300",
    "BATCH_SIZE": "3",
    "EFFECTIVE_BATCH": "6",
    "GPT2_MAX_ITERS": "10",
    "GPT2_EVAL_INTERVAL": "4",
    "GPT2_EVAL_WINDOWS": "7",
    "LEARNING_RATE": "2e-2",
    "MIN_LEARNING_RATE": "3e-3",
    "WEIGHT_DECAY": "0.3",
    "ADAM_BETA1": "0.8",
    "ADAM_BETA2": "0.9",
    "ADAM_EPS": "1e-3",
    "GRAD_CLIP": "1.2",
}
LOCAL = {"DATASET_LOCAL": "y", "SHARD_TOKENS": "1024"}
FOLDER = {
    "DATASET_FINEWEBEDU": "y",
    "SHUFFLE_BUFFER": "8",
    "SHUFFLE_SEED": "5",
    "DATA_ON_THE_FLY": "y",
    "DATA_VAL_TOKENS": "1024",
}


class Place:
    """A prepared corpus: its folder and the symbols that name it."""

    def __init__(self, folder: Path, name: str, resolve, **symbols: str):
        self.packed, self.symbols = folder / name, symbols
        settings = run_settings(resolve(COMMON, symbols)).data
        prepare(settings, self.packed, say=lambda line: None)

    def samples(self, values: dict):
        """sample(i) of the training split, by hand."""
        T, seed = values["GPT2_BLOCK_SIZE"], values["SEED"]
        train = corpus.split(TEXTS, float(values["VAL_FRACTION"]), "train")
        tokens = corpus.tokens_of(train)
        return lambda i: corpus.training_row(tokens, T, seed, i)

    def validation(self, values: dict) -> list[str]:
        """The texts of the validation split, in order."""
        return corpus.split(TEXTS, float(values["VAL_FRACTION"]), "val")

    def windows(self, values: dict) -> list[list[int]]:
        """The evaluation windows, by hand."""
        tokens = corpus.tokens_of(self.validation(values))
        T, wanted = values["GPT2_BLOCK_SIZE"], values["GPT2_EVAL_WINDOWS"]
        return corpus.evaluation_rows(tokens, T, wanted)

    def by_hand(self, values: dict) -> Records:
        """The records of a cell with these values."""
        return self.run(values).replay()

    def run(self, values: dict) -> Run:
        """The cell, by hand."""
        windows = self.windows(values)
        scored = [token for row in windows for token in row[1:]]
        text = [token for token in scored if token != corpus.SEPARATOR]
        per_token = len(text) / len(scored)
        return Run(values, self.samples(values), windows, per_token)


class OnTheFly(Place):
    """The same texts in the form of the hub, read on the fly."""

    def samples(self, values: dict):
        tokens, T = [], values["GPT2_BLOCK_SIZE"]
        stream = corpus.live_tokens(
            TEXTS,
            float(values["VAL_FRACTION"]),
            values["SEED"],
            values["SHUFFLE_SEED"],
            values["SHUFFLE_BUFFER"],
            values["DATA_TOKENS"],
        )

        def sample(i: int) -> list[int]:
            tokens.extend(islice(stream, max((i + 1) * T + 1 - len(tokens), 0)))
            return tokens[i * T : (i + 1) * T + 1]

        return sample

    def validation(self, values: dict) -> list[str]:
        """Those of the shuffled blocks, until CONFIG_DATA_VAL_TOKENS are reached."""
        kept, block = [], values["SHUFFLE_BUFFER"]
        for first in range(0, len(TEXTS), block):
            part = TEXTS[first : first + block]
            key = f"shuffle:{values['SHUFFLE_SEED']}:{first // block}"
            part = corpus.permuted(part, key)
            for text in corpus.split(part, float(values["VAL_FRACTION"]), "val"):
                if len(corpus.tokens_of(kept)) < values["DATA_VAL_TOKENS"]:
                    kept.append(text)
        return kept


def places(folder: Path, resolve) -> dict[str, Place]:
    """The corpus packed, read on the fly, and that in epochs of exactly the training
    tokens of five blocks.
    """
    lines = [json.dumps({"text": text}) for text in TEXTS]
    (folder / "all.jsonl").write_text("\n".join(lines))
    write_folder(folder / "hub", TEXTS)
    path, hub = str(folder / "all.jsonl"), str(folder / "hub")
    return {
        "packed": Place(folder, "packed", resolve, **LOCAL, LOCAL_PATH=path),
        "live": OnTheFly(folder, "live", resolve, **FOLDER, HF_PATH=hub),
        "short": OnTheFly(
            folder, "short", resolve, **FOLDER, HF_PATH=hub, DATA_TOKENS="847"
        ),
    }


def cell(directory: Path, values: dict, tree) -> Path:
    """A run directory as the runner leaves it."""
    directory.mkdir()
    config_py.write(directory / "config.py", values, tree.operational)
    record = {"schema": 1, "cell": {"hash": "0" * 64}}
    atomic.write_json(directory / "run.json", record)
    return directory


def rows(directory: Path, kind: str) -> list[dict]:
    """The rows of a kind, one per step."""
    return last_per_step(read_rows(directory / "metrics.jsonl"), kind)
