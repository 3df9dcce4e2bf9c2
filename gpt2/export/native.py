"""FORMAT=native: one safetensors file that holds everything, for any model.

The tensors have the names and shapes of this code's state dict, rows that no
token uses included. The metadata holds the papers ("kablate") and the tokenizer
("tokenizer.json").
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gpt2.export import safetensors_file
from gpt2.export.bundle import (
    Parcel,
    empty_model,
    expected,
    read_papers,
    require_intact,
    require_shapes,
    settings_of,
)
from gpt2.export.seal import note, require_sealed, seal
from gpt2.export.tokenizer import describe, restore_fitting
from gpt2.generation.generate import Trained

WHOLE = True
SUFFIX = ".safetensors"


def write(place: Path, parcel: Parcel) -> None:
    """Write the file. Raises ExportError."""
    metadata = {
        "kablate": json.dumps(parcel.papers),
        "tokenizer.json": describe(parcel.tokenizer),
    }
    safetensors_file.write(place, tensors(parcel), metadata)
    seal(place, parcel.papers["sha256"])


def tensors(parcel: Parcel) -> safetensors_file.State:
    """The weights under the names of this code, in their type."""
    state = parcel.model.state_dict()
    return {name: each.to(parcel.dtype).contiguous() for name, each in state.items()}


def read(place: Path) -> Trained:
    """The model and its tokenizer, as they left. Raises ExportError."""
    header = safetensors_file.read_header(place)
    papers = read_papers(place, header.metadata.get("kablate"))
    require_sealed(place, papers)
    return built(place, header, papers, header.metadata.get("tokenizer.json"))


def built(
    place: Path,
    header: safetensors_file.Header,
    papers: Mapping[str, Any],
    tokenizer: str | None,
) -> Trained:
    """The model of a file of tensors under the names of this code, its papers and its
    tokenizer's text. Raises ExportError.
    """
    settings = settings_of(place, papers, len(header.tensors))
    require_shapes(place, header.shapes, expected(settings))
    restored = restore_fitting(place, papers, settings, tokenizer)
    model = empty_model(settings)
    model.load_state_dict(safetensors_file.read_tensors(place, header))
    require_intact(place, papers, model)
    return Trained(model, restored, note=note(papers))
