"""A trained model, from a run or from what was exported."""

import os
from pathlib import Path

from gpt2.export import gguf, huggingface, native, onnx
from gpt2.export.gguf_file import MAGIC
from gpt2.export.seal import PAPERS
from gpt2.generation import generate
from gpt2.generation.generate import Trained
from records.files import open_record, reading


def load(path: Path, kind: str, decoder: str = "reference") -> Trained:
    """The model of a run directory, a folder of FORMAT=hf or onnx, or a file
    of FORMAT=native or gguf, its fp32 weights on the device `kind`, to be decoded by
    `decoder` (gpt2/model/mixers/attention/decoder.py).

    Raises ExportError for an export, RecordError for a file that cannot be opened, what
    gpt2.generation.generate.load raises for a run, and GenerateError for a decoder that
    cannot serve.
    """
    if path.is_file():
        with open_record(path) as file:
            magic = reading(path, file, len(MAGIC))
        target = gguf if magic == MAGIC else native
        found = target.read(path)
    elif os.path.lexists(path / onnx.FORWARD):
        found = onnx.read(path)
    elif os.path.lexists(path / PAPERS) or (path / "config.json").exists():
        found = huggingface.read(path)
    else:
        return generate.load(path, kind, decoder)
    model = generate.empty_model(found.model.settings, kind, decoder)
    model.load_state_dict(found.model.state_dict())
    said = generate.says(model, decoder)
    return Trained(model.to(kind).eval(), found.tokenizer, kind, said, found.note)
