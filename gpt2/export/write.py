"""`make export`: write a run for elsewhere, read it back, compare, and only then
give it its name.

Legend: B sequences, T tokens, V tokens of the tokenizer, R rows of the embedding.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from gpt2.export import gguf, huggingface, native, onnx, remote_code, transformers_alone
from gpt2.export.architectures import CARRIES, architecture
from gpt2.export.bundle import ExportError, NEEDS, Parcel, of_run, pack
from gpt2.export.formats import BLOCKS, FORMATS, obstacle
from gpt2.export.onnx_graph import require_traceable
from gpt2.export.perplexity import perplexity_change
from gpt2.export.seal import require_covered
from gpt2.generation.generate import Trained
from records.atomic import sync_directory

TARGETS = dict(zip(FORMATS, (huggingface, gguf, native, onnx)))
SEQUENCES, LONGEST = 2, 256
TOLERANCE = 1e-5
"""Of logits that others compute in fp32, relative to the largest, or to 1."""


def deliver(run: Path, target: str, dtype: str, out: Path | None) -> list[str]:
    """Export the finished run; lines that say what was written and compared.

    out: the folder (hf, onnx) or file to write, by default RUN/export/TARGET-DTYPE.
    Raises ExportError, with nothing written, when it exists, when the model or the
    type has no home there, or when what is read back computes something else; and what
    gpt2.generation.generate.load raises.
    """
    kind, refusal = TARGETS[target], obstacle(target, dtype)
    if refusal:
        raise ExportError(refusal)
    out = out or run / "export" / f"{target}-{dtype}{kind.SUFFIX}"
    require_free(out)
    trained, origin = of_run(run)
    if target in CARRIES:
        architecture(trained.model.settings, target)
    if target == "onnx":
        require_traceable(trained.model.settings)
    parcel = pack(trained, origin, dtype, kind.WHOLE)
    with staged(out) as place:
        kind.write(place, parcel)
        require_covered(place)
        compared = compare(place, target, parcel)
        files = [path for path in (place, *place.glob("*")) if path.is_file()]
        size = sum(path.stat().st_size for path in files)
    count = sum(p.numel() for p in parcel.model.parameters())
    head = f"{out}: {count:,} parameters in {dtype}, {size / 1e6:,.1f} MB"
    lines = [head, *compared, *differences(trained, parcel, kind.WHOLE)]
    return lines + [perplexity_change(run, trained, parcel)] * (dtype in BLOCKS)


def require_free(out: Path) -> None:
    """Raise ExportError when there is something already."""
    if os.path.lexists(out):
        raise ExportError(f"{out} exists: move it away, or name another place (OUT=)")


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A place beside `out`, of the same name, that becomes `out` when the block
    ends without an error. Raises ExportError rather than replace anything.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    stage = out.parent / f".{out.name}.{secrets.token_hex(4)}.tmp"
    stage.mkdir()
    try:
        place = stage / out.name
        yield place
        for path in (place, *place.glob("*")):
            if path.is_file():  # safetensors makes files that only their owner reads
                path.chmod(stage.stat().st_mode & 0o666)
            _sync(path)
        require_free(out)
        os.rename(place, out)
        sync_directory(out.parent)
    finally:
        shutil.rmtree(stage)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def probe(trained: Trained) -> torch.Tensor:
    """tokens_BT, random and always the same, of every kind but the separator."""
    stream = torch.Generator().manual_seed(0)
    shape = (SEQUENCES, min(trained.context, LONGEST))
    return torch.randint(0, trained.tokenizer.eot, shape, generator=stream)


@torch.no_grad()
def logits(trained: Trained | Parcel, tokens_BT: torch.Tensor) -> torch.Tensor:
    """logits_BTV of the tokenizer's tokens."""
    return trained.model(tokens_BT)[..., : trained.tokenizer.vocab_size]


def compare(place: Path, target: str, parcel: Parcel) -> list[str]:
    """Read back what was written. Raises ExportError when it computes something
    else than what was packed.
    """
    again = TARGETS[target].read(place)
    tokens_BT = probe(again)
    wanted_BTV = logits(parcel, tokens_BT)
    if not torch.equal(logits(again, tokens_BT), wanted_BTV):
        raise ExportError(f"{place}: read back by kablate, the logits are not the same")
    lines = [f"read back by kablate: the same logits at {tokens_BT.numel()} positions"]
    if target == "hf":
        lines.append(_compare_transformers(place, tokens_BT, wanted_BTV))
        lines += remote_code.warning(place)
    if target == "onnx":
        lines.append(_compare_onnxruntime(place, tokens_BT, wanted_BTV))
    return [*lines, again.note]


def _compare_onnxruntime(
    place: Path, tokens_BT: torch.Tensor, wanted_BTV: torch.Tensor
) -> str:
    """forward.onnx at once and of the first token alone, decode.onnx token by token
    and after half of the tokens at once.
    """
    T = tokens_BT.shape[1]
    half = [T // 2, *[1] * (T - T // 2)]
    found = {
        "forward": onnx.logits_of_onnxruntime(place, tokens_BT),
        "forward of one token": onnx.logits_of_onnxruntime(place, tokens_BT[:1, :1]),
        "decode": onnx.decoded_by_onnxruntime(place, tokens_BT, [1] * T),
        "decode after half": onnx.decoded_by_onnxruntime(place, tokens_BT, half),
    }
    most, each = wanted_BTV.abs().max().item(), []
    for name, logits_BtV in found.items():
        B, t = logits_BtV.shape[:2]
        apart = _apart(logits_BtV, wanted_BTV[:B, :t])
        if not apart <= TOLERANCE * max(1.0, most):
            raise ExportError(
                f"{place}: {name} in onnxruntime: the logits differ by {apart:.3g}"
            )
        each.append(f"{name} {apart:.1e}")
    return (
        f"read back by onnxruntime {version('onnxruntime')}: logits (up to {most:.3g}) "
        f"differ by: {', '.join(each)}"
    )


def _compare_transformers(
    place: Path, tokens_BT: torch.Tensor, wanted_BTV: torch.Tensor
) -> str:
    """What the two compute. Raises ExportError where it is not the same, and where a
    model that modeling_kablate.py computes cannot be compared.
    """
    remote = (place / remote_code.FILE).exists()
    try:
        name = f"transformers {version('transformers')}"
    except PackageNotFoundError:
        if remote:
            raise ExportError(
                f"FORMAT=hf brings {remote_code.FILE} for this model, which is compared "
                f"with it first: transformers is not installed: {NEEDS}"
            ) from None
        return f"not read back by transformers, which is not installed: {NEEDS}"
    most = wanted_BTV.abs().max().item()
    tolerance = TOLERANCE * max(1.0, most)
    if remote:
        (loaded,) = transformers_alone.load([place], tokens_BT)
        loaded.require_whole(place, tolerance)
        found_BTV, name = loaded.logits_BTV, f"{name} without this project"
    else:
        found_BTV = huggingface.logits_of_transformers(place, tokens_BT)
    apart = _apart(found_BTV, wanted_BTV)
    if not apart <= tolerance:
        raise ExportError(f"{place}: in {name} the logits differ by {apart:.3g}")
    return f"read back by {name}: logits (up to {most:.3g}) differ by {apart:.1e}"


def differences(trained: Trained, parcel: Parcel, whole: bool) -> list[str]:
    """What this export changed: the rounding, and the rows that stayed behind."""
    tokens_BT, lines = probe(trained), []
    if parcel.papers["dtype"] != "fp32":
        apart = _apart(logits(parcel, tokens_BT), logits(trained, tokens_BT))
        lines.append(
            f"rounding to {parcel.papers['dtype']} moves logits by {apart:.1e}"
        )
    used, rows = trained.tokenizer.vocab_size, len(trained.model.wte.weight)
    if not whole and used < rows:
        with torch.no_grad():
            probability_BTR = trained.model(tokens_BT).softmax(-1)
        held = probability_BTR[..., used:].sum(-1).max().item()
        lines.append(
            f"left behind: {rows - used} rows of the embedding that no token uses, of "
            f"probability {held:.1e} at most"
        )
    return lines


def _apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return (a - b).abs().max().item()
