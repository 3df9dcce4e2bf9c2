"""A process that has transformers and not this project, and loads folders of FORMAT=hf:

    python -I loaded_alone.py TOKENS.json OUT FOLDER...

TOKENS.json: token ids, (B, T). For each folder: its logits in fp32 into OUT/NUMBER.bin,
and a line of JSON: the class, what was missing and unexpected on load, and the largest
difference of logits between one pass and a decode of the first sequence through a cache,
half of it at once, then 3 tokens, then 16 by one, then the rest (cached); and the tokens of
greedy text with a cache and without (texts, at most 16 new tokens).
"""

import json
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

NEW = 16


def texts(model: torch.nn.Module, tokens_BT: torch.Tensor) -> list[list[int]]:
    """Greedy text of the first tokens, through a cache and without one."""
    most = min(NEW, model.config.max_position_embeddings - 1)
    prompt_1P = tokens_BT[:1, : max(1, tokens_BT.shape[1] - most)]
    asked = {"max_new_tokens": most, "do_sample": False, "eos_token_id": None}
    asked |= {"pad_token_id": 0, "attention_mask": torch.ones_like(prompt_1P)}
    made = [model.generate(prompt_1P, use_cache=u, **asked) for u in (True, False)]
    return [text[0, prompt_1P.shape[1] :].tolist() for text in made]


def cached(model: torch.nn.Module, tokens_BT: torch.Tensor) -> torch.Tensor:
    """Logits of all tokens, decoded a few at a time."""
    found, cache, left_Bn = [], None, tokens_BT
    for count in (tokens_BT.shape[1] // 2, 3, *[1] * NEW, left_Bn.shape[1]):
        new_Bn, left_Bn = left_Bn[:, :count], left_Bn[:, count:]
        if new_Bn.shape[1]:
            given = model(new_Bn, past_key_values=cache, use_cache=True)
            found.append(given.logits)
            cache = given.past_key_values
    return torch.cat(found, dim=1)


@torch.no_grad()
def main(tokens: str, out: str, *folders: str) -> None:
    """One line for each folder."""
    logging.disable_progress_bar()
    tokens_BT = torch.tensor(json.loads(Path(tokens).read_text(encoding="utf-8")))
    for number, folder in enumerate(folders):
        model, seen = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=True,
            output_loading_info=True,
        )
        logits_BTV = model.eval()(tokens_BT).logits
        logits_BTV.numpy().tofile(Path(out) / f"{number}.bin")
        apart = (cached(model, tokens_BT[:1]) - logits_BTV[:1]).abs().max().item()
        line = {"class": type(model).__name__, "cached": apart}
        line |= {key: sorted(seen[f"{key}_keys"]) for key in ("missing", "unexpected")}
        line["texts"] = texts(model, tokens_BT)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
