"""FORMAT=native: one safetensors file that holds everything, for any model.

The tensors have the names and shapes of this code's state dict, rows that no
token uses included. The metadata holds the papers ("kablate") and the tokenizer
("tokenizer.json").
"""

import json
from pathlib import Path

from gpt2.export import safetensors_file
from gpt2.export.bundle import (
    ExportError,
    Parcel,
    empty_model,
    read_papers,
    require_intact,
)
from gpt2.export.tokenizer import describe, restore
from gpt2.generation.generate import Trained

WHOLE = True
SUFFIX = ".safetensors"


def write(place: Path, parcel: Parcel) -> None:
    """Write the file. Raises ExportError."""
    state = parcel.model.state_dict()
    tensors = {
        name: tensor.to(parcel.dtype).contiguous() for name, tensor in state.items()
    }
    metadata = {
        "kablate": json.dumps(parcel.papers),
        "tokenizer.json": describe(parcel.tokenizer),
    }
    safetensors_file.write(place, tensors, metadata)


def read(place: Path) -> Trained:
    """The model and its tokenizer, as they left. Raises ExportError."""
    tensors, metadata = safetensors_file.read(place)
    papers = read_papers(place, metadata.get("kablate"))
    model = empty_model(place, papers)
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ExportError(f"{place} holds another model: {error}") from error
    require_intact(place, papers, model)
    return Trained(model, restore(papers["tokenizer"], metadata["tokenizer.json"]))
