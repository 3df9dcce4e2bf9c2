"""safetensors files: a JSON header and little-endian tensors, never pickled."""

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import torch

from gpt2.export.bundle import ExportError, NEEDS

State = dict[str, torch.Tensor]


def write(path: Path, tensors: State, metadata: dict[str, str]) -> None:
    """Write tensors and metadata. Raises ExportError without safetensors."""
    _library()
    from safetensors.torch import save_file

    save_file(tensors, path, metadata)


def read(path: Path) -> tuple[State, Mapping[str, str]]:
    """The tensors in fp32, and the metadata.

    Raises ExportError for a file that is missing or damaged, and without
    safetensors.
    """
    library = _library()
    try:
        with library.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}
            return tensors, file.metadata() or {}
    except (OSError, library.SafetensorError) as error:
        raise ExportError(f"{path} cannot be read as safetensors: {error}") from error


def _library() -> ModuleType:
    try:
        import safetensors
    except ImportError:
        raise ExportError(f"safetensors is not installed: {NEEDS}") from None
    return safetensors
