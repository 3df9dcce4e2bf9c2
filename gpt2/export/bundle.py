"""What leaves a run: weights as they will be written, tokenizer, papers.

The papers (gpt2/export/papers.py) are a JSON object that travels with every export, so
that kablate can build the model again and see whether this is what left. What they say
is not believed: everything is compared with what this checkout declares, and the tensors
that they describe with those that are there, before a model is built.
"""

import copy
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpt2.data.tokenization.tokenizers import Tokenizer
from gpt2.export import formats, q8_0
from gpt2.export.papers import FORMAT, OF_VERSION, VERSION, shortened, strict_json
from gpt2.generation import generate
from gpt2.generation.generate import Trained
from gpt2.model.costs import meta_model
from gpt2.model.gpt import GPT
from gpt2.model.initial import weights_sha256
from gpt2.settings.run import ModelSettings
from kconf import config_py
from kconf.bind import SettingsError
from records import read
from records.extras import installing
from records.files import shown
from records.kinds import Unfit, abbreviated
from records.layout import CellDir

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
            rounded = _rounded(name, parameter, dtype)
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
        **origin,
        "weights_sha256": weights_sha256(model),
        "sha256": secrets.token_hex(32),  # until gpt2/export/seal.py knows it
    }
    return Parcel(model, trained.tokenizer, papers)


def _rounded(name: str, parameter: torch.Tensor, dtype: str) -> torch.Tensor:
    """The parameter as it will be stored; blocks hold matrices, and all else is fp32."""
    if dtype in DTYPES:
        return parameter.to(DTYPES[dtype])
    if not in_blocks(name, parameter):
        return parameter
    try:
        return q8_0.rounded(parameter)
    except q8_0.BlockError as error:
        raise ExportError(f"DTYPE={dtype}: {name}: {error}") from None


def in_blocks(name: str, tensor: torch.Tensor) -> bool:
    """Whether a type of blocks holds it: matrices, but learned positions."""
    return tensor.dim() > 1 and not name.startswith(("wpe", "position"))


def read_papers(place: Path, text: object, blocks: bool = False) -> dict[str, Any]:
    """The papers in their JSON form, str or bytes. Raises ExportError for none, for those
    of another program, for a newer version, and for a field that is not of its kind; unless the format has
    `blocks`, for a type of blocks too.
    """
    place = shown(place)
    if text is None:
        raise ExportError(f"{place} was not written by `make export`: it has no papers")
    if not isinstance(text, (str, bytes)):
        raise ExportError(f"{place}: its papers are {abbreviated(text)}, not text")
    try:
        papers = strict_json(text)
    except ValueError as error:
        raise ExportError(
            f"{place}: its papers are not JSON: {shortened(error)}"
        ) from None
    if type(papers) is not dict or papers.get("format") != FORMAT:
        raise ExportError(
            f"{place} was not written by `make export`: its papers name no format {FORMAT!r}"
        )
    version = papers.get("version")
    if type(version) is int and version > VERSION:
        raise ExportError(
            f"{place} has version {abbreviated(version)}, this code reads up to {VERSION}: "
            "update this checkout"
        )
    kind = OF_VERSION[version if type(version) is int and version > 0 else VERSION]
    try:
        kind(papers)
    except Unfit as unfit:
        raise ExportError(f"{place}: its papers: {shortened(unfit)}") from None
    if papers["dtype"] in formats.BLOCKS and not blocks:
        raise ExportError(
            f"{place}: its papers: dtype is {papers['dtype']!r}, a type of FORMAT=gguf alone"
        )
    return papers


def settings_of(place: Path, papers: Mapping[str, Any], tensors: int) -> ModelSettings:
    """The settings of the model that the papers describe, each symbol looked at as a
    configuration's is. Raises ExportError, also for a file of fewer tensors than layers:
    they are not even counted out.
    """
    try:
        settings = generate.declared(ModelSettings, papers["symbols"])
    except SettingsError as error:
        raise ExportError(
            f"{shown(place)}: {shortened(error)}; another version of this code wrote it "
            f"(commit {papers['run']['commit']}), or it was changed"
        ) from None
    if tensors < settings.depth:
        raise ExportError(
            f"{shown(place)} has {tensors} tensors for {settings.depth} layers: its papers "
            "are those of another model"
        )
    return settings


def expected(settings: ModelSettings) -> dict[str, torch.Tensor]:
    """The state dict of the model, without memory behind it."""
    return meta_model(settings).state_dict()


def require_shapes(
    place: Path,
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, torch.Tensor],
) -> None:
    """Raise ExportError unless a file holds the tensors that its papers describe."""
    for name in [*wanted, *found]:
        if name not in found:
            why = f"{name} is missing"
        elif name not in wanted:
            why = f"{name} has no place here"
        elif tuple(found[name]) != tuple(wanted[name].shape):
            why = (
                f"{name} is {tuple(found[name])}, expected {tuple(wanted[name].shape)}"
            )
        else:
            continue
        why = shortened(why)
        raise ExportError(f"{shown(place)} holds another model than its papers: {why}")


def empty_model(settings: ModelSettings) -> GPT:
    """The model to be filled."""
    return generate.empty_model(settings, "cpu").eval()


def require_intact(place: Path, papers: Mapping[str, Any], model: GPT) -> None:
    """Raise ExportError unless the model holds the weights that left."""
    if weights_sha256(model) != papers["weights_sha256"]:
        raise ExportError(
            f"{shown(place)} does not hold the weights that its papers name: it is "
            "damaged, or was changed after the export"
        )
