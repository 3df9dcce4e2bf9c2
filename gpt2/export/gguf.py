"""FORMAT=gguf: one file for llama.cpp, as its architecture gpt2 or llama.

Matrices have the type asked for; norms, biases and learned positions are fp32,
which llama.cpp requires, their values rounded all the same (but not to q8_0). The papers
("kablate.papers") and tokenizer.json are in the metadata, by which kablate reads
the file again.
"""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

from gpt2.data.tokenization.tokenizers import Tokenizer
from gpt2.export import gguf_file, q8_0
from gpt2.export.architectures import architecture
from gpt2.export.bundle import (
    ExportError,
    NEEDS,
    Parcel,
    empty_model,
    in_blocks,
    read_papers,
    require_intact,
    require_shapes,
    settings_of,
)
from gpt2.export.names import DIALECTS, give, take
from gpt2.export.seal import note, require_sealed, seal
from gpt2.export.tokenizer import describe, restore_fitting, vocabulary
from gpt2.generation.generate import Trained
from gpt2.model.costs import meta_model
from gpt2.model.norm import EPS

WHOLE = False
SUFFIX = ".gguf"
PAPERS, TOKENIZER = "kablate.papers", "tokenizer.huggingface.json"
KINDS = {
    "fp32": ("F32", "ALL_F32"),
    "bf16": ("BF16", "MOSTLY_BF16"),
    "f16": ("F16", "MOSTLY_F16"),
    "q8_0": ("Q8_0", "MOSTLY_Q8_0"),
}
"""The names that gguf has for a matrix and for a file of them."""


def write(place: Path, parcel: Parcel) -> None:
    """Write the file. Raises ExportError for a model that neither architecture
    can carry, and without gguf.
    """
    gguf = _library()
    settings = parcel.model.settings
    family = architecture(settings, "gguf")
    writer = gguf.GGUFWriter(place, family)
    writer.add_string(PAPERS, json.dumps(parcel.papers))
    writer.add_context_length(settings.block_size)
    writer.add_embedding_length(settings.embed)
    writer.add_block_count(settings.depth)
    writer.add_feed_forward_length(settings.mlp_dim)
    writer.add_head_count(settings.heads)
    writer.add_vocab_size(parcel.tokenizer.vocab_size)
    if family == "llama":
        writer.add_head_count_kv(settings.kv_heads)
        writer.add_layer_norm_rms_eps(EPS)
        writer.add_rope_dimension_count(settings.head_width)
        writer.add_rope_freq_base(settings.rope_base)
    else:
        writer.add_layer_norm_eps(EPS)
    _add_tokenizer(gguf, writer, parcel.tokenizer)
    kind, of_file = KINDS[parcel.papers["dtype"]]
    writer.add_file_type(gguf.LlamaFileType[of_file])
    tensors = give(parcel.model, DIALECTS["gguf", family], parcel.tokenizer.vocab_size)
    for name, tensor in tensors.items():
        used = gguf.GGMLQuantizationType[kind if in_blocks(name, tensor) else "F32"]
        if used == gguf.GGMLQuantizationType.Q8_0:
            values = q8_0.stored(tensor)
        else:
            values = gguf.quantize(tensor.numpy(), used)
        writer.add_tensor(name, values, raw_dtype=used)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    seal(place, parcel.papers["sha256"])


def _add_tokenizer(gguf: ModuleType, writer: Any, tokenizer: Tokenizer) -> None:
    """Tokens, kinds and merges; GPT-2's pattern cuts a text into words."""
    text = describe(tokenizer)
    tokens, merges = vocabulary(text)
    types = [gguf.TokenType.NORMAL] * len(tokens)
    types[tokenizer.eot] = gguf.TokenType.CONTROL
    if not merges:  # llama.cpp wants one: of a token that no text has
        merges = [(tokens[tokenizer.eot], tokens[tokenizer.eot])]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(tokenizer.eot)
    writer.add_eos_token_id(tokenizer.eot)
    writer.add_add_bos_token(False)
    writer.add_string(TOKENIZER, text)


def read(place: Path) -> Trained:
    """The model as ours, and its tokenizer. Raises ExportError."""
    header = gguf_file.read_header(place)
    papers = read_papers(place, header.texts.get(PAPERS), blocks=True)
    require_sealed(place, papers)
    settings = settings_of(place, papers, len(header.tensors))
    dialect = DIALECTS["gguf", architecture(settings, "gguf")]
    tokenizer = restore_fitting(place, papers, settings, header.texts.get(TOKENIZER))
    wanted = give(meta_model(settings), dialect, tokenizer.vocab_size)
    shapes = {name: entry.shape for name, entry in header.tensors.items()}
    require_shapes(place, shapes, wanted)
    tensors = {name: gguf_file.read_tensor(place, header, name) for name in shapes}
    model = empty_model(settings)
    try:
        take(model, tensors, dialect, tokenizer.vocab_size)
    except ValueError as error:
        raise ExportError(f"{place}: {error}") from error
    require_intact(place, papers, model)
    return Trained(model, tokenizer, note=note(papers))


def _library() -> ModuleType:
    try:
        import gguf
    except ImportError:
        raise ExportError(f"gguf is not installed: {NEEDS}") from None
    return gguf
