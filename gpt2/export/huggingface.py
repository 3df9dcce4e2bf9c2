"""FORMAT=hf: a folder that transformers loads by AutoModelForCausalLM.

    config.json generation_config.json model.safetensors
    tokenizer.json tokenizer_config.json
    kablate.json      the papers, by which kablate reads the folder again
    modeling_kablate.py, where transformers has no such model: it is run by
                      trust_remote_code=True, its sha256 is in the papers

Rows of the embedding that no token uses stay behind; the head is tied to it and
not stored twice.
"""

from pathlib import Path
from typing import Any

import torch

from gpt2.data.tokenization.bpe import EOT
from gpt2.data.tokenization.tokenizers import Tokenizer
from gpt2.export import remote_code, safetensors_file
from gpt2.export.architectures import CLASSES, REMOTE, architecture
from gpt2.export.bundle import (
    ExportError,
    Parcel,
    empty_model,
    require_intact,
    require_shapes,
    settings_of,
)
from gpt2.export.names import DIALECTS, give, take
from gpt2.export.papers import shortened, strict_json
from gpt2.export.seal import note, read_folder, seal_folder, text_of
from gpt2.export.tokenizer import describe, restore_fitting
from gpt2.generation.generate import Trained
from gpt2.model.costs import meta_model
from gpt2.model.norm import EPS
from gpt2.settings.run import ModelSettings
from records import atomic
from records.kinds import abbreviated

WHOLE = False
SUFFIX = ""
WEIGHTS = "model.safetensors"
ACTIVATIONS = {"gelu": "gelu_new", "relu2": "relu2"}
TORCH_NAMES = {"fp32": "float32", "bf16": "bfloat16", "f16": "float16"}


def write(place: Path, parcel: Parcel) -> None:
    """Write the folder. Raises ExportError, first of all for a model that no
    architecture can carry.
    """
    settings, tokenizer = parcel.model.settings, parcel.tokenizer
    family = architecture(settings, "hf")
    dialect = DIALECTS["hf", family]
    place.mkdir()
    if family == REMOTE:
        (place / remote_code.FILE).write_bytes(remote_code.source())
    tensors = give(parcel.model, dialect, tokenizer.vocab_size)
    cast = {name: tensor.to(parcel.dtype) for name, tensor in tensors.items()}
    safetensors_file.write(place / WEIGHTS, cast, {"format": "pt"})
    ends = {"bos_token_id": tokenizer.eot, "eos_token_id": tokenizer.eot}
    for name, content in {
        "config.json": config(settings, tokenizer, parcel.papers["dtype"]),
        "generation_config.json": ends,
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": settings.block_size,
            "bos_token": EOT,
            "eos_token": EOT,
            "split_special_tokens": True,
            "clean_up_tokenization_spaces": False,
        },
    }.items():
        atomic.write_json(place / name, content)
    atomic.write_text(place / "tokenizer.json", describe(tokenizer))
    seal_folder(place, parcel.papers)


def config(settings: ModelSettings, tokenizer: Tokenizer, dtype: str) -> dict[str, Any]:
    """config.json. Raises ExportError for a model without a home."""
    family = architecture(settings, "hf")
    common = {
        "architectures": [CLASSES[family]],
        "model_type": family,
        "dtype": TORCH_NAMES[dtype],
        "vocab_size": tokenizer.vocab_size,
        "bos_token_id": tokenizer.eot,
        "eos_token_id": tokenizer.eot,
        "tie_word_embeddings": True,
    }
    if family == REMOTE:
        return {**common, **remote_code.slots(settings)}
    if family == "gpt2":
        return {
            **common,
            "n_positions": settings.block_size,
            "n_embd": settings.embed,
            "n_layer": settings.depth,
            "n_head": settings.heads,
            "n_inner": settings.mlp_dim,
            "activation_function": ACTIVATIONS[settings.mlp.kind],
            "layer_norm_epsilon": EPS,
            "embd_pdrop": settings.dropout,
            "attn_pdrop": settings.dropout,
            "resid_pdrop": settings.dropout,
        }
    return {
        **common,
        "max_position_embeddings": settings.block_size,
        "hidden_size": settings.embed,
        "intermediate_size": settings.mlp_dim,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "head_dim": settings.head_width,
        "hidden_act": "silu",
        "rms_norm_eps": EPS,
        "rope_theta": settings.rope_base,
        "rope_parameters": {"rope_type": "default", "rope_theta": settings.rope_base},
        "attention_bias": settings.bias,
        "mlp_bias": settings.bias,
        "attention_dropout": settings.dropout,
    }


def read(place: Path) -> Trained:
    """The model as ours, and its tokenizer. Raises ExportError, also for a folder
    whose config.json was changed: transformers would compute something else.
    """
    papers = read_folder(place)
    header = safetensors_file.read_header(place / WEIGHTS)
    settings = settings_of(place, papers, len(header.tensors))
    tokenizer = restore_fitting(
        place, papers, settings, text_of(place / "tokenizer.json")
    )
    _require_config(place, config(settings, tokenizer, papers["dtype"]))
    dialect = DIALECTS["hf", architecture(settings, "hf")]
    wanted = give(meta_model(settings), dialect, tokenizer.vocab_size)
    require_shapes(place / WEIGHTS, header.shapes, wanted)
    model = empty_model(settings)
    tensors = safetensors_file.read_tensors(place / WEIGHTS, header)
    try:
        take(model, tensors, dialect, tokenizer.vocab_size)
    except ValueError as error:
        raise ExportError(f"{place}/{WEIGHTS}: {error}") from error
    require_intact(place, papers, model)
    return Trained(model, tokenizer, note=note(papers))


def _require_config(place: Path, wanted: dict[str, Any]) -> None:
    """Raise ExportError where config.json says anything else than left."""
    try:
        found = strict_json(text_of(place / "config.json"))
    except ValueError as error:
        raise ExportError(
            f"{place}/config.json is not JSON: {shortened(error)}"
        ) from error
    if type(found) is not dict:
        raise ExportError(f"{place}/config.json is {abbreviated(found)}, not an object")
    for key, value in wanted.items():
        if found.get(key) != value:
            raise ExportError(
                f"{place}/config.json: {key} is {abbreviated(found.get(key))}, {value!r} "
                "left with this model: it was changed after the export"
            )


@torch.no_grad()
def logits_of_transformers(place: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    """logits_BTV of transformers in fp32, from the folder alone.

    Raises ImportError where it is not installed.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    return model.eval()(tokens_BT).logits
