"""What config.json says of a model that modeling_kablate.py computes, and that file.

The file is copied beside config.json and never imported here: transformers runs it, where
a user allows that (trust_remote_code). Tensors have the names and layouts of this code.
"""

import hashlib
from pathlib import Path
from typing import Any

from gpt2.model.norm import EPS
from gpt2.settings.run import ModelSettings

FILE = "modeling_kablate.py"
SOURCE = Path(__file__).with_name(FILE)
CONFIG, MODEL = "KablateConfig", "KablateForCausalLM"
MAP = {"AutoConfig": CONFIG, "AutoModelForCausalLM": MODEL}


def source() -> bytes:
    """The file, as it is copied."""
    return SOURCE.read_bytes()


def sha256(content: bytes) -> str:
    """Of that content, as `sha256sum` prints it."""
    return hashlib.sha256(content).hexdigest()


def slots(settings: ModelSettings) -> dict[str, Any]:
    """The fields of KablateConfig; None, where a mechanism is not there."""
    return {
        "auto_map": {name: f"{SOURCE.stem}.{given}" for name, given in MAP.items()},
        "max_position_embeddings": settings.block_size,
        "hidden_size": settings.embed,
        "intermediate_size": settings.mlp_dim,
        "num_hidden_layers": settings.depth,
        "num_attention_heads": settings.heads,
        "num_key_value_heads": settings.kv_heads,
        "mixers": [layer.name for layer in settings.layers],
        "position": settings.position,
        "rope_base": settings.rope_base,
        "norm": settings.norm,
        "norm_eps": EPS,
        "bias": settings.bias,
        "output_gate": settings.output_gate,
        **_attention(settings),
        **_mlp(settings),
    }


def _attention(settings: ModelSettings) -> dict[str, Any]:
    """Of the layers that are attention; nothing to say where none is."""
    attention = settings.attention
    if attention is None:
        return {}
    unsafe = "_unsafe" if attention.softpick_unsafe else ""
    return {
        "mla_latent": settings.latent,
        "mla_shared_latent": attention.mla_shared_latent,
        "mla_shared_up": attention.mla_shared_up,
        "ra_alpha": attention.ra_alpha,
        "ra_band": attention.ra_band,
        "ra_learned": attention.ra_learned,
        "normaliser": attention.normaliser + unsafe,
        "window": attention.window,
        "ra_ct_statistic": attention.ra_ct_statistic,
        "ra_ct_k": attention.ra_ct_k,
        "ra_ct_apply": attention.ra_ct_apply,
        "ra_ct_alpha": attention.ra_ct_alpha,
        "ra_ct_head_average": attention.ra_ct_head_average,
    }


def _mlp(settings: ModelSettings) -> dict[str, Any]:
    mlp = settings.mlp
    return {
        "mlp": mlp.kind,
        "attn_gate_rank": settings.gate_rank,
        "attn_gate_alpha": mlp.attn_gate_alpha,
        "attn_gate_mean": mlp.attn_gate_mean,
        "cross_token_rank": settings.cross_rank,
        "cross_token_alpha": mlp.cross_token_alpha,
        "cross_token_mode": mlp.cross_token_mode,
        "cross_token_k": mlp.cross_token_k,
        "cross_token_tau": mlp.cross_token_tau,
    }


def warning(place: Path) -> list[str]:
    """What a user of the folder is to know, where it brings the file."""
    path = place / FILE
    if not path.exists():
        return []
    found = sha256(path.read_bytes())
    return [
        f"trust_remote_code=True, which this model needs, runs its {FILE}, sha256 {found}"
    ]
