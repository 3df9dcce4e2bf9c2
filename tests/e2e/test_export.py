"""A LLaMA with a vocabulary of its own, from its corpus to other programs."""

import contextlib

import numpy as np
import pytest
import torch

from gpt2.export.read import load

PROMPT = "import os\n\n\ndef "
TOKENS = 40


@pytest.mark.slow
def test_a_trained_llama_says_the_same_elsewhere(checkout):
    """Logits and greedy text in transformers, argmax in llama.cpp."""
    transformers = pytest.importorskip("transformers", reason="requirements-export.txt")
    llama_cpp = pytest.importorskip("llama_cpp", reason="requirements-slow.txt")
    symbols = {
        "TOKENIZER_BPE": "y",
        "BPE_VOCAB_SIZE": "1024",
        "GPT2_VOCAB_SIZE": "1024",
    }
    symbols |= {"BPE_TRAIN_MB": "2", "GPT2_MAX_ITERS": "300"}
    chosen = {f"CONFIG_{name}": value for name, value in symbols.items()}
    chosen |= {"STEPS": "0", "SEEDS": "1"}
    for target in ("defconfig-llama-85m-ablation+tiny", "data", "all"):
        done = checkout.make(target, **chosen)
        assert done.status == 0, done.output
    (cell,) = checkout.cells().values()
    assert cell.evals[-1]["loss"] < cell.evals[0]["loss"] - 2
    run = cell.dir.path
    for kind in ("hf", "gguf"):
        done = checkout.make("export", RUN=str(run), FORMAT=kind)
        assert done.status == 0, done.output
        print(done.output)
    ours, hf = load(run, "cpu"), run / "export" / "hf-fp32"
    vocabulary = ours.tokenizer.vocab_size
    source = b"".join(path.read_bytes() for path in checkout.root.glob("gpt2/*.py"))
    text_T = ours.tokenizer.encode(source)[: 16 * ours.context].astype(np.int64)
    windows_BT = torch.from_numpy(text_T).view(16, ours.context)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(hf).eval()
    with torch.no_grad():
        wanted_BTV = ours.model(windows_BT)[..., :vocabulary]
        apart = (theirs(windows_BT).logits - wanted_BTV).abs().max().item()
    assert apart <= 1e-5

    words = {"RUN": str(run), "PROMPT": PROMPT, "TOKENS": str(TOKENS)}
    said = checkout.make("-s", "generate", TEMPERATURE="0", **words).output
    tokenizer = transformers.AutoTokenizer.from_pretrained(hf)
    given = tokenizer(PROMPT, return_tensors="pt")
    made = theirs.generate(**given, max_new_tokens=TOKENS, do_sample=False)
    assert tokenizer.decode(made[0], skip_special_tokens=True) + "\n" in said

    file = str(run / "export" / "gguf-fp32.gguf")
    options = {"n_ctx": ours.context, "logits_all": True, "n_threads": 1}
    model = llama_cpp.Llama(file, verbose=False, **options)
    with contextlib.closing(model):
        assert (
            model.tokenize(source, add_bos=True)
            == ours.tokenizer.encode(source).tolist()
        )
        same = []
        for row_T, wanted_TV in zip(windows_BT.tolist(), wanted_BTV.numpy()):
            model.reset()
            model.eval(row_T)
            found_TV = np.array(model.scores[: len(row_T)])
            same += (found_TV.argmax(-1) == wanted_TV.argmax(-1)).tolist()
    print(f"transformers: {apart:.1e}; llama.cpp: {np.mean(same):.2%} of {len(same)}")
    assert len(same) == 1024 and np.mean(same) >= 0.99
