"""A launch finds the binary that Triton would, and gives it the same arguments."""

from itertools import product
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("triton")

import triton  # noqa: E402
import triton.language as tl  # noqa: E402
from triton.tools.tensor_descriptor import TensorDescriptor  # noqa: E402

from kernels import launching  # noqa: E402
from kernels.launching import blocks_of, launch  # noqa: E402

needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@triton.jit
def scaled(x_ptr, y_ptr, n, step, factor, BLOCK: tl.constexpr, NEGATE: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at * step, mask=at < n, other=0.0)
    if NEGATE:
        x = -x
    tl.store(y_ptr + at, (x * factor).to(y_ptr.dtype.element_ty), mask=at < n)


def memory(offset: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """64 numbers, `offset` numbers behind an aligned address."""
    return torch.arange(128.0).to(dtype)[offset : offset + 64]


GIVEN = {"x": memory(), "y": memory(), "n": 64, "step": 2, "factor": 3.0}
CONSTANTS = {"num_warps": 4, "NEGATE": False, "BLOCK": 64}
OTHERS = {
    "dtype": {"x": memory(dtype=torch.bfloat16)},
    "alignment": {"y": memory(offset=1)},
    "nothing": {"x": None},
    "one": {"step": 1},
    "multiple": {"step": 16},
    "no multiple": {"n": 63},
    "wide": {"n": 2**31 + 16},
    "float": {"step": 2.0},
    "constant": {"NEGATE": True},
    "option": {"num_warps": 8},
    "descriptor": {"x": TensorDescriptor(memory().view(8, 8), [8, 8], [8, 1], [4, 8])},
    "block": {"x": TensorDescriptor(memory().view(8, 8), [8, 8], [8, 1], [2, 8])},
    "filling": {
        "x": TensorDescriptor(memory().view(8, 8), [8, 8], [8, 1], [4, 8], "nan")
    },
    "type of a block": {
        "x": TensorDescriptor(
            memory(dtype=torch.bfloat16).view(8, 8), [8, 8], [8, 1], [4, 8]
        )
    },
    "below": {"n": -(2**31) - 16},
}
# Told apart from another descriptor.
DESCRIBED = ("block", "filling", "type of a block")


@pytest.fixture
def stood_in(monkeypatch):
    """What Triton would do, and did: (calls of the compiler, launches of a binary)."""
    did = SimpleNamespace(compiled=[], launched=[], device=0)

    class Binary:
        def __getitem__(self, grid):
            return lambda *arguments: did.launched.append((self, grid, arguments))

    def run(*arguments, grid, warmup, **constants):
        did.compiled.append((Binary(), grid, arguments, constants))
        return did.compiled[-1][0]

    driver = SimpleNamespace(get_current_device=lambda: did.device)
    monkeypatch.setattr(launching, "driver", SimpleNamespace(active=driver))
    monkeypatch.setattr(launching, "_found", {})
    monkeypatch.setattr(scaled, "run", run)
    return did


def ask(grid: tuple[int, ...] = (1,), **changed) -> None:
    given = [changed.get(name, value) for name, value in GIVEN.items()]
    constants = {name: changed.get(name, value) for name, value in CONSTANTS.items()}
    launch(scaled, grid, *given, **constants)


def test_the_first_launch_is_triton_s_own(stood_in):
    ask((7,))
    ((_, grid, arguments, constants),) = stood_in.compiled
    assert grid == (7,) and arguments == tuple(GIVEN.values())
    assert constants == CONSTANTS and stood_in.launched == []


@pytest.mark.parametrize("grid", ((3,), (3, 4), (3, 4, 5)))
def test_alike_launches_share_a_binary(stood_in, grid):
    """Constants come in the kernel's order, options not at all."""
    ask()
    other = {"x": memory(offset=4), "y": memory(), "n": 32, "step": 5, "factor": 0.5}
    ask(grid, **other)
    ((binary, *_),) = stood_in.compiled
    ((used, where, arguments),) = stood_in.launched
    assert used is binary and where == (*grid, 1, 1)[:3]
    assert arguments[-2:] == (64, False)
    assert arguments[:-2] == tuple(
        getattr(x, "data_ptr", lambda: x)() for x in other.values()
    )


@pytest.mark.parametrize("name", OTHERS)
def test_others_do_not(stood_in, name):
    first = OTHERS["descriptor"] if name in DESCRIBED else {}
    for changed in (first, OTHERS[name]) * 2:
        ask(**changed)
    made = [binary for binary, *_ in stood_in.compiled]
    used = [binary for binary, *_ in stood_in.launched]
    assert len(made) == 2 and made == used


def test_another_kernel_has_its_own(stood_in, monkeypatch):
    other = triton.jit(scaled.fn)
    monkeypatch.setattr(other, "run", scaled.run)
    for kernel in (scaled, other) * 2:
        launch(kernel, (1,), *GIVEN.values(), **CONSTANTS)
    assert len(stood_in.compiled) == len(stood_in.launched) == 2


def test_memory_of_the_host_is_triton_s_to_refuse(stood_in, monkeypatch):
    """An address alone would be read as the GPU's."""
    ask()
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    ask()
    assert len(stood_in.compiled) == 2 and stood_in.launched == []


def test_another_device_has_its_own(stood_in):
    for stood_in.device in (0, 1, 0, 1):
        ask()
    assert len(stood_in.compiled) == len(stood_in.launched) == 2


def test_the_size_of_memory_counts_for_amd(stood_in, monkeypatch):
    ask()
    monkeypatch.setattr(torch.version, "hip", "7.0")
    monkeypatch.setattr(launching, "_found", {})
    ask()
    monkeypatch.setattr(launching, "_NEAR", 4)
    ask()
    assert len(stood_in.compiled) == 3 and stood_in.launched == []


@pytest.mark.parametrize("n, size, found", ((0, 4, 0), (1, 4, 1), (8, 4, 2), (9, 4, 3)))
def test_blocks_of(n, size, found):
    assert blocks_of(n, size) == found


class Recording(dict):
    """Remembers what was found last."""

    def get(self, key):
        self.last = super().get(key)
        return self.last


@pytest.mark.gpu
@needs_a_gpu
def test_on_a_gpu(monkeypatch):
    """The binary is the one that Triton chooses, and the numbers are right."""
    monkeypatch.setattr(launching, "_found", Recording())
    kinds = (1, 2, 3, 16), (0, 1, 4), (torch.float32, torch.bfloat16), (16, 37, 64)
    for step, offset, dtype, n in [*product(*kinds)] * 2:
        x = (torch.arange(2048.0, device="cuda") % 100).to(dtype)[offset:]
        y = torch.zeros(64, device="cuda", dtype=dtype)
        wanted = torch.zeros_like(y)
        wanted[:n] = x[: n * step : step] * -2.0
        given, constants = (x, y, n, step, 2.0), {"BLOCK": 64, "NEGATE": True}
        launch(scaled, (1,), *given, **constants, num_warps=2)
        assert torch.equal(y, wanted)
        chosen = scaled[(1,)](*given, **constants, num_warps=2)
        assert launching._found.last is None or launching._found.last[0] is chosen
    assert len({id(binary) for binary, *_ in launching._found.values()}) > 8
