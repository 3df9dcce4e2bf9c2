"""What leaves a run: weights as they will be written, tokenizer, papers.

The papers are a JSON object that travels with every export, so that kablate
can build the model again and see whether these are the weights that left:

    format, version   "kablate" and VERSION
    symbols           configuration symbols that can change a result
    tokenizer         byte, bpe or gpt2
    dtype             fp32, bf16 or f16
    weights_sha256    of the weights as read back, in fp32
    run               study, step, seed, hash and commit, as far as recorded
"""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2.data.tokenization.tokenizers import Tokenizer
from gpt2.export import formats
from gpt2.generation import generate
from gpt2.generation.generate import Trained
from gpt2.model.gpt import GPT
from gpt2.model.initial import weights_sha256
from gpt2.settings.run import ModelSettings
from kconf import config_py
from kconf.bind import SettingsError, build
from records import history, read
from records.extras import installing
from records.layout import CellDir

FORMAT, VERSION = "kablate", 1
DTYPES = dict(zip(formats.DTYPES, (torch.float32, torch.bfloat16, torch.float16)))
NEEDS = installing("export")


class ExportError(RuntimeError):
    """A model that cannot leave, or an export that cannot be read; it says why."""


@dataclass(frozen=True)
class Parcel:
    """A model whose fp32 values are those of `dtype`, in evaluation mode, on the
    CPU; its tokenizer and its papers.
    """

    model: GPT
    tokenizer: Tokenizer
    papers: dict[str, Any]

    @property
    def dtype(self) -> torch.dtype:
        """The type of the values when written."""
        return DTYPES[self.papers["dtype"]]


def of_run(directory: Path) -> tuple[Trained, dict[str, Any]]:
    """A finished run and what its papers say of where it comes from.

    Raises what gpt2.generation.generate.load raises.
    """
    trained, cell = generate.load(directory, "cpu"), CellDir(directory)
    config, record = config_py.read(cell.config_py), read.trained(cell.run_json)
    inside = sorted(set(config.values) - config.operational)
    symbols = {name: config.values[name] for name in inside}
    identity = {"study", "step", "seed", "hash"} & set(record["cell"])
    known = {name: record["cell"][name] for name in sorted(identity)}
    known["commit"] = record.get("provenance", {}).get("git", {}).get("commit")
    return trained, {"symbols": symbols, "run": known}


def pack(
    trained: Trained, origin: Mapping[str, Any], dtype: str, whole: bool
) -> Parcel:
    """The model rounded to `dtype`. Unless it leaves `whole`, rows of the
    embedding that no token uses are zero: they stay behind.

    origin: symbols and run, as `of_run` gives them. Raises ExportError for a
    value that the type cannot hold.
    """
    model = copy.deepcopy(trained.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rounded = parameter.to(DTYPES[dtype])
            if not rounded.isfinite().all():
                raise ExportError(
                    f"{name} reaches {parameter.abs().max():.3g}, more than {dtype} "
                    "holds: use DTYPE=bf16 or fp32"
                )
            parameter.copy_(rounded)
        if not whole:
            model.wte.weight[trained.tokenizer.vocab_size :] = 0
    papers = {
        "format": FORMAT,
        "version": VERSION,
        "dtype": dtype,
        "tokenizer": trained.tokenizer.name,
        "weights_sha256": weights_sha256(model),
        **origin,
    }
    return Parcel(model, trained.tokenizer, papers)


def read_papers(place: Path, text: str | None) -> dict[str, Any]:
    """The papers in their JSON form. Raises ExportError for none, for those of
    another program and for a newer version.
    """
    try:
        papers = json.loads(text or "null")
        form, version = papers["format"], papers["version"]
    except (ValueError, TypeError, KeyError):
        form, version = None, None
    if form != FORMAT:
        raise ExportError(f"{place} was not written by `make export`: it has no papers")
    if type(version) is not int or not 1 <= version <= VERSION:
        raise ExportError(
            f"{place} has version {version!r}, this code reads up to {VERSION}: update "
            "this checkout"
        )
    return papers


def empty_model(place: Path, papers: Mapping[str, Any]) -> GPT:
    """The model that the papers describe, to be filled. Raises ExportError."""
    try:
        settings = build(ModelSettings, history.completed(papers["symbols"]))
    except SettingsError as error:
        raise ExportError(
            f"{place}: {error}; another version of this code wrote it (commit "
            f"{papers['run']['commit']})"
        ) from None
    return generate.empty_model(settings, "cpu").eval()


def require_intact(place: Path, papers: Mapping[str, Any], model: GPT) -> None:
    """Raise ExportError unless the model holds the weights that left."""
    if weights_sha256(model) != papers["weights_sha256"]:
        raise ExportError(
            f"{place} does not hold the weights that its papers name: it is damaged, or "
            "was changed after the export"
        )
