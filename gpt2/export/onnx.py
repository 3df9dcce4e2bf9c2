"""FORMAT=onnx: a folder for runtimes of ONNX.

    forward.onnx       tokens (batch, time) -> logits (batch, time, tokens of the tokenizer)
    decode.onnx        tokens (batch, new) and past.* -> logits (batch, new, …) and
                       present.*, which are the next step's past.*
    model.safetensors  the weights of both, under the names of this code
    tokenizer.json     for the `tokenizers` library
    kablate.json       the papers, which name the SHA-256 of every other file

A cache has no tokens at first: past.* with 0 in the place of the dimension `past`, zeros
where it has none. The graphs compute in fp32 whatever the type of the stored weights.
They refer to bytes of model.safetensors, which therefore is never written again.

Legend: B batch, T tokens, V tokens of the tokenizer.
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from torch import nn

from gpt2.export import native, safetensors_file
from gpt2.export.bundle import ExportError, Parcel
from gpt2.export.onnx_graph import Decode, Forward, require_traceable, traceable
from gpt2.export.seal import AGAIN, PAPERS, read_folder, text_of, seal_folder
from gpt2.export.tokenizer import describe
from gpt2.generation.generate import Trained
from records import atomic
from records.extras import installing

WHOLE = True
SUFFIX = ""
WEIGHTS = "model.safetensors"
FORWARD, DECODE = "forward.onnx", "decode.onnx"
TOKENIZER = "tokenizer.json"
FILES = {FORWARD, DECODE, WEIGHTS, TOKENIZER}
NEEDS = installing("onnx")
NOISE = "torch.onnx._internal.exporter._registration"
"""Names torchvision's operators, which nothing here uses, as absent."""


def write(place: Path, parcel: Parcel) -> None:
    """Write the folder. Raises ExportError for a model that cannot be traced, and
    without what requirements-onnx.txt installs.
    """
    _libraries()
    require_traceable(parcel.model.settings)
    place.mkdir()
    safetensors_file.write(place / WEIGHTS, native.tensors(parcel), {"format": "pt"})
    atomic.write_text(place / TOKENIZER, describe(parcel.tokenizer))
    model, vocabulary = traceable(parcel.model), parcel.tokenizer.vocab_size
    with torch.no_grad():
        _write_graph(place / FORWARD, Forward(model, vocabulary), parcel)
        _write_graph(place / DECODE, Decode(model, vocabulary), parcel)
    seal_folder(place, parcel.papers)


def read(place: Path) -> Trained:
    """The model as ours, and its tokenizer. Raises ExportError, also for a folder whose
    papers cover other files.
    """
    papers = read_folder(place)
    if FILES != papers.get("files", {}).keys():
        raise ExportError(
            f"{place}: {PAPERS} names other files than {', '.join(sorted(FILES))}: {AGAIN}"
        )
    header = safetensors_file.read_header(place / WEIGHTS)
    return native.built(place / WEIGHTS, header, papers, text_of(place / TOKENIZER))


def _write_graph(place: Path, graph: Forward | Decode, parcel: Parcel) -> None:
    """Trace the graph, let it refer to the file of weights, and write it."""
    import onnx_ir

    model = _traced(graph, parcel.model.settings.block_size)
    model.metadata_props.clear()
    for node in model.graph.all_nodes():  # paths and lines of this machine
        node.metadata_props.clear()
    _refer(model, graph, place.parent / WEIGHTS, parcel)
    onnx_ir.save(model, place)


def _traced(graph: Forward | Decode, context: int):
    """The graph as onnx_ir's model, its lengths and the batch left open."""
    tokens_BT = torch.zeros(2, 3, dtype=torch.long)
    if isinstance(graph, Forward):
        arguments, shapes = (tokens_BT,), ({0: "batch", 1: "time"},)
        names = (["tokens"], ["logits"])
    else:
        past, sizes = [], []
        for name, empty in graph.caches.items():
            grows = graph.grows(name)
            size = (2, 5, *empty.shape[2:]) if grows else (2, *empty.shape[1:])
            past.append(torch.zeros(size, dtype=empty.dtype))
            sizes.append({0: "batch", 1: "past"} if grows else {0: "batch"})
        arguments = (tokens_BT, tuple(past))
        shapes = ({0: "batch", 1: "new"}, tuple(sizes))
        names = tuple(
            [first, *(f"{when}.{name}" for name in graph.names)]
            for first, when in (("tokens", "past"), ("logits", "present"))
        )
    noise = logging.getLogger(NOISE)
    level = noise.level
    noise.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                arguments,
                dynamo=True,
                dynamic_shapes=shapes,
                input_names=names[0],
                output_names=names[1],
                optimize=False,  # as it would copy weights, transposed; runtimes do so
                verbose=False,
            )
    finally:
        noise.setLevel(level)
    return program.model


def _refer(model, graph: nn.Module, weights: Path, parcel: Parcel) -> None:
    """Let every weight be bytes of the file of weights, cast to fp32 where it is
    stored in another type.
    """
    import onnx_ir

    kinds = {
        "fp32": onnx_ir.DataType.FLOAT,
        "bf16": onnx_ir.DataType.BFLOAT16,
        "f16": onnx_ir.DataType.FLOAT16,
    }
    kind, ours = kinds[parcel.papers["dtype"]], _names(graph, parcel)
    held_there = safetensors_file.read_header(weights).tensors
    for name, value in list(model.graph.initializers.items()):
        if name not in ours:
            continue  # a constant of the formula
        entry = held_there[ours[name]]
        stored = onnx_ir.ExternalTensor(
            weights.name,
            entry.begin,
            entry.size,
            kind,
            shape=value.shape,
            name=name,
            base_dir=weights.parent,
        )
        if kind == onnx_ir.DataType.FLOAT:
            value.const_value = stored
            continue
        held = onnx_ir.Value(
            name=f"{name}.stored",
            shape=value.shape,
            type=onnx_ir.TensorType(kind),
            const_value=stored,
        )
        to = {"to": onnx_ir.DataType.FLOAT}
        cast = onnx_ir.node("Cast", [held], to)
        value.replace_all_uses_with(cast.outputs[0])
        del model.graph.initializers[name]
        cast.outputs[0].name = name
        model.graph.initializers.add(held)
        model.graph.insert_before(model.graph[0], cast)


def _names(graph: nn.Module, parcel: Parcel) -> dict[str, str]:
    """A parameter's name in the graph -> that in our state dict: the parts that stand
    in for ours lie one level deeper.
    """
    known, found = parcel.model.state_dict(), {}
    for name, _ in graph.named_parameters():
        parts = name.removeprefix("model.").split(".")
        kept = [part for part in parts if part not in ("mixer", "gate", "part")]
        found[name] = next(
            each for each in (".".join(parts), ".".join(kept)) if each in known
        )
    return found


class Session:
    """A graph in onnxruntime on a CPU."""

    def __init__(self, file: Path):
        _, runtime = _libraries()
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = torch.get_num_threads()
        providers = ["CPUExecutionProvider"]
        self.session = runtime.InferenceSession(file, options, providers)
        self.inputs = self.session.get_inputs()

    def empty(self, batch: int) -> list[np.ndarray]:
        """past.* of no tokens."""
        sizes = {"batch": batch, "past": 0}
        kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64}
        return [
            np.zeros([sizes.get(size, size) for size in each.shape], kinds[each.type])
            for each in self.inputs[1:]
        ]

    def run(self, tokens_BT: torch.Tensor, past: Sequence[np.ndarray] = ()):
        """logits_BTV, and present.* as a list."""
        given = [tokens_BT.numpy(), *past]
        names = [each.name for each in self.inputs]
        logits_BTV, *present = self.session.run(None, dict(zip(names, given)))
        return torch.from_numpy(logits_BTV), present


def logits_of_onnxruntime(place: Path, tokens_BT: torch.Tensor) -> torch.Tensor:
    """logits_BTV by forward.onnx, from the folder alone. Raises ExportError."""
    return Session(place / FORWARD).run(tokens_BT)[0]


def decoded_by_onnxruntime(
    place: Path, tokens_BT: torch.Tensor, steps: Sequence[int]
) -> torch.Tensor:
    """logits_BTV by decode.onnx in steps of so many tokens. Raises ExportError."""
    session = Session(place / DECODE)
    past, found = session.empty(len(tokens_BT)), []
    for new_Bn in tokens_BT.split(list(steps), dim=1):
        logits_BnV, past = session.run(new_Bn, past)
        found.append(logits_BnV)
    return torch.cat(found, dim=1)


def _libraries() -> tuple[ModuleType, ModuleType]:
    """onnx and onnxruntime. Raises ExportError without the extra."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, torch's exporter needs it
    except ImportError as error:
        raise ExportError(f"{error.name} is not installed: {NEEDS}") from None
    return onnx, onnxruntime
