"""make aot: what it compiles, and that it refuses what does not fit."""

import sys
from concurrent.futures import Future
from itertools import product

import pytest
import torch

pytest.importorskip("triton")

from kernels import aot  # noqa: E402
from kernels.aot_cases import others  # noqa: E402
from kernels.attention import configs  # noqa: E402
from kernels.attention.aot import COMPILED, routes, shipped  # noqa: E402
from kernels.attention.rows import BLOCK  # noqa: E402
from kernels.targets import TARGETS  # noqa: E402
from kernels.topk_routing import launch as routing  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

F32, BF16 = torch.float32, torch.bfloat16
W7900 = "hip:gfx1100"


def test_every_tile_that_a_launch_can_take_is_compiled():
    told = [case for case in shipped() if case.telling]
    compiled = {(c.target, c.kernel, c.dtype, c.tile) for c in told}
    for target, dtype in product(TARGETS, COMPILED):
        tables = [configs.table(target, dtype)]
        if dtype == BF16:
            tables += [configs.GATHERING[target], configs.REPAIRING[target]]
        for table in tables:
            for kernel, rows in table.items():
                for row in rows:
                    assert (target, kernel, dtype, row.tile) in compiled


def test_rows_are_stored_in_whole_blocks():
    assert all(BLOCK % case.tile.m == 0 for case in shipped())


@pytest.mark.parametrize("target", TARGETS)
def test_tiles_of_one_call_fit_together(target):
    """A repair reads flags that the first launch wrote per block of queries; the
    column kernel reads whole blocks of what the kernel before it wrote in whole ones.
    """
    shapes = product((BF16, F32), configs.WIDTHS, *[(False, True)] * 5, (None, "mass"))
    for dtype, width, band, pick, short, tail, ragged, statistic in shapes:
        if not configs.served(target, dtype, width, band, pick):
            continue

        def side(kernel, repair=False):
            kind = {"short": short, "tail": tail, "ragged": ragged, "repair": repair}
            asked = target, kernel, width, band, pick, dtype, statistic
            return configs.tile(*asked, **kind).m

        repairs = (False, True) if pick and dtype == BF16 else (False,)
        first = side("band" if band else "row")
        for repair in repairs:
            assert side("forward", repair) == side("forward")
            assert first % side("column", repair) == 0


def test_every_tile_of_the_routing_is_compiled():
    compiled = {(c.target, c.dtype, c.tile) for c in routes() if c.telling}
    for dtype, tiles in ((BF16, routing.HALF), (F32, routing.SINGLE)):
        assert set(tiles) == set(TARGETS)
        for target, rows in tiles.items():
            assert all((target, dtype, row.tile) in compiled for row in rows)


def test_no_cap_on_registers_where_the_compiler_knows_none():
    """HIP's has no maxnreg: a launch would refuse it, compiling ahead does not."""
    tiles = [case for case in (*shipped(), *routes()) if case.tile.registers]
    assert tiles and all(case.target.startswith("cuda") for case in tiles)


def test_every_kernel_of_the_repository_is_compiled():
    """All that is jitted and launched: each belongs to a case."""
    found = {case.kernel.partition(":")[0] for case in others()}
    found |= {"kernels.attention.kernel_forward", "kernels.attention.kernel_backward"}
    launched = set()
    for path in (ROOT / "kernels").rglob("*.py"):
        if "[(" in (text := path.read_text()) and "@triton.jit" in text:
            module = path.relative_to(ROOT).with_suffix("")
            launched.add(".".join(module.parts))
    assert launched and launched <= found


def test_names_tell_cases_apart():
    cases = [*shipped(), *routes(), *others()]
    assert len({case.name for case in cases}) == len(cases)


@pytest.mark.parametrize(
    "width, band, pick, dtype, there",
    [
        (64, True, True, BF16, True),
        (64, True, False, F32, True),
        (64, False, True, F32, True),
        (64, True, True, F32, False),
        (128, False, False, F32, False),
        (128, False, False, BF16, False),
        (32, True, True, F32, True),
    ],
)
def test_what_does_not_fit_is_not_served(width, band, pick, dtype, there):
    assert configs.served(W7900, dtype, width, band, pick) == there
    if there:
        return
    with pytest.raises(NotImplementedError, match="registers.*REFERENCE"):
        for kernel in configs.KERNELS:
            configs.tile(W7900, kernel, width, band, pick, dtype)


def test_routing_that_does_not_fit_is_not_served():
    assert routing.tile(W7900, 64, True, BF16) and routing.tile(W7900, 64, False, F32)
    with pytest.raises(NotImplementedError, match="routing of heads of width 64"):
        routing.tile(W7900, 64, True, F32)


def test_auto_asks_for_the_variant(monkeypatch):
    monkeypatch.setattr(configs, "target_of", lambda device: W7900)

    def there(*variant):
        return configs.serves(torch.device("cuda"), *variant)

    assert there(64, BF16, True, True) and not there(128, BF16, True, True)
    assert there(64, F32, True, False) and not there(64, F32, True, True)
    monkeypatch.setattr(configs, "target_of", lambda device: "cuda:120")
    assert not there(16, BF16, False, False)


def test_a_spill_or_too_much_shared_memory_does_not_fit():
    assert aot.Cost(255, 0, 99 * 1024).fits("cuda:80")
    assert not aot.Cost(255, 4, 0).fits("cuda:80")
    assert not aot.Cost(32, 0, 100 * 1024).fits("cuda:80")


@pytest.mark.parametrize("target", TARGETS)
def test_one_kernel_per_target_is_compiled(target):
    case = next(c for c in others((target,)) if "gelu" in c.kernel)
    found = aot.cost(case)
    assert found.fits(target) and found.registers > 8


def test_the_command_fails_where_something_does_not_fit(monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    path = list(sys.path)
    script = __import__("aot")
    monkeypatch.setattr(sys, "path", path)

    class Alone:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def submit(self, function, case):
            done = Future()
            try:
                done.set_result(function(case))
            except KeyError as error:
                done.set_exception(error)
            return done

    cases = [c for c in shipped((W7900,)) if c.kernel == "band"][:2]
    costs = dict(zip(cases, (aot.Cost(99, 0, 0), aot.Cost(99, 8, 0))))
    monkeypatch.setattr(script.entry, "pool", Alone)
    monkeypatch.setattr(script, "binaries", lambda targets, full: cases)
    monkeypatch.setattr(aot, "cost", costs.__getitem__)
    words = [f"--targets={W7900}"]
    assert script.main(words) == 1
    out = capsys.readouterr().out
    assert "\n1 of 2 binaries fit" in out and out.count("does not fit") == 2
    costs[cases[1]] = aot.Cost(99, 0, 0)
    assert script.main(words) == 0
    assert "\n2 of 2 binaries fit" in capsys.readouterr().out
    del costs[cases[1]]
    with pytest.raises(KeyError) as failed:
        script.main(words)
    assert cases[1].name in failed.value.__notes__[0]
