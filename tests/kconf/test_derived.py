"""What a 0 stands for: one number everywhere but in the .config that holds the 0."""

import pytest

from gpt2.settings.run import run_settings
from kconf import config_py, derived, dotconfig
from kconf.bind import SettingsError
from kconf.overrides import Overrides, from_environment
from kconf.presets import presets
from kconf.strict import ConfigError, DotConfig
from kconf.study import list_steps, prove
from tests.kconf.conftest import ROOT

CUSTOM = {"GPT2_SIZE_CUSTOM": "y"}
SWIGLU = {"MLP_SWIGLU": "y"}


@pytest.mark.parametrize(
    "symbols, width",
    [
        ({}, 3072),
        ({"GPT2_SIZE_TINY": "y"}, 512),
        ({"GPT2_SIZE_350M": "y"}, 4096),
        ({"GPT2_SIZE_774M": "y"}, 5120),
        ({"GPT2_SIZE_1_5B": "y"}, 6400),
        ({**CUSTOM, "GPT2_WIDTH": "384"}, 1536),
        ({"WIDTH_DIVISOR": "8"}, 3072),
        ({"MLP_RELU2": "y"}, 3072),
        (SWIGLU, 2048),  # 8/3 · 768
        ({**SWIGLU, "GPT2_SIZE_774M": "y"}, 3392),  # 3413.3 = 53.3 · 64
        ({**SWIGLU, "GPT2_SIZE_350M": "y"}, 2752),  # 2730.7 = 42.7 · 64
        ({**SWIGLU, **CUSTOM, "GPT2_WIDTH": "36"}, 128),  # 96, half way, goes up
        ({**SWIGLU, **CUSTOM, "GPT2_WIDTH": "8"}, 64),  # 21.3, and no width of 0
        ({"MLP_DIM": "100"}, 100),
    ],
)
def test_the_width_of_the_mlp(real, symbols, width):
    assert real.resolve([Overrides(symbols)]).values["MLP_DIM"] == width


@pytest.mark.parametrize(
    "symbols, tokens",
    [
        ({"TOKENIZER_BYTE": "y"}, 257),
        ({"TOKENIZER_GPT2": "y"}, 50257),
        ({"TOKENIZER_BPE": "y", "BPE_VOCAB_SIZE": "4096"}, 4096),
        ({"TOKENIZER_BYTE": "y", "GPT2_VOCAB_SIZE": "300"}, 300),
    ],
)
def test_the_vocabulary(real, symbols, tokens):
    values = real.resolve([Overrides(symbols)]).values
    assert values["GPT2_VOCAB_SIZE"] == tokens


def test_every_tokenizer_has_its_vocabulary(real):
    names = real.members("TOKENIZER_")
    assert set(names) == {*derived.VOCABULARIES, "bpe"}
    for symbol in names.values():
        assert real.resolve([Overrides({symbol: "y"})]).values["GPT2_VOCAB_SIZE"] > 256


def test_the_config_keeps_what_was_written(real, tmp_path):
    """.config the 0, config.py the number; a written number stays through both."""
    plain, path = real.resolve([]), tmp_path / ".config"
    same = real.resolve([Overrides({"MLP_DIM": "3072"})])
    for resolved, line in ((plain, "CONFIG_MLP_DIM=0"), (same, "CONFIG_MLP_DIM=3072")):
        dotconfig.write(path, real, resolved)
        assert line in path.read_text().splitlines()
        assert real.resolve([DotConfig(path)]).written == resolved.written
        dotconfig.write_python(tmp_path / "config.py", real, resolved)
        assert config_py.read(tmp_path / "config.py").values["MLP_DIM"] == 3072
    assert not [x for x in dotconfig.minimal(real, plain) if x.symbol == "MLP_DIM"]
    kept = [x for x in dotconfig.minimal(real, same) if x.symbol == "MLP_DIM"]
    assert [str(line) for line in kept] == ["CONFIG_MLP_DIM=3072"]


@pytest.mark.parametrize("symbol", derived.RULES)
def test_settings_refuse_a_0_that_was_not_replaced(real, symbol):
    with pytest.raises(SettingsError, match=f"{symbol}=0: the merge puts the number"):
        run_settings({**real.resolve([]).values, symbol: 0})


def test_written_or_not_it_is_one_cell(real):
    plain, same = (
        real.resolve([Overrides({"SEED": "3", **more})]).values
        for more in ({}, {"MLP_DIM": "3072", "GPT2_VOCAB_SIZE": "257"})
    )
    operational = real.operational
    assert config_py.identity(plain, operational) == config_py.identity(
        same, operational
    )


class TestAStep:
    """A base with a width of 0, and what a step makes of it."""

    @pytest.fixture
    def proven(self, real, tmp_path):
        def prove_one(text: str, **base: str):
            folder = tmp_path / "defconfigs" / "s.d"
            folder.mkdir(parents=True)
            (folder / "01-x.config").write_text(f"# Help: x\n{text}")
            [(_, resolved, found)] = prove(
                real, [Overrides(CUSTOM | base)], list_steps(tmp_path, "s")
            )
            return resolved, found

        return prove_one

    def test_a_width_that_follows_is_implied(self, proven):
        resolved, found = proven("CONFIG_GPT2_WIDTH=384\n")
        assert found.lines == [("GPT2_WIDTH", 768, 384)]
        assert found.implied == [("MLP_DIM", 3072, 1536, "0 stands for 4 E")]
        assert resolved.values["MLP_DIM"] == 1536 and resolved.written["MLP_DIM"] == 0

    def test_so_is_that_of_another_activation(self, proven):
        _, found = proven("CONFIG_MLP_SWIGLU=y\n")
        words = "0 stands for 8/3 E to a multiple of 64"
        assert ("MLP_DIM", 3072, 2048, words) in found.implied

    def test_a_written_width_stays(self, proven):
        _, found = proven("CONFIG_GPT2_WIDTH=384\n", MLP_DIM="3072")
        assert found.lines == [("GPT2_WIDTH", 768, 384)] and found.implied == []

    @pytest.mark.parametrize("base", [{}, {"MLP_DIM": "3072"}])
    @pytest.mark.parametrize("number", ["0", "3072"])
    def test_a_line_that_says_what_it_was_does_not_matter(self, proven, base, number):
        with pytest.raises(ConfigError, match="MLP_DIM.*does not matter"):
            proven(f"CONFIG_MLP_ATTN_GATE=y\nCONFIG_MLP_DIM={number}\n", **base)


def test_a_written_number_that_0_would_not_be_is_told(real):
    """A .config of before this rule holds the width of its size."""
    larger = from_environment({"CONFIG_GPT2_SIZE_774M": "y"})
    old, new = Overrides({"MLP_DIM": "3072", "GPT2_VOCAB_SIZE": "257"}), Overrides({})
    assert derived.sizes(real.resolve([old]).written) == []
    told = derived.sizes(real.resolve([old, larger]).written)
    assert told == ["CONFIG_MLP_DIM=3072 is as written: 0 would be 5120 (4 E)"]
    assert derived.sizes(real.resolve([new, larger]).written) == [
        "CONFIG_MLP_DIM=0 is 5120 (4 E)",
        "CONFIG_GPT2_VOCAB_SIZE=0 is 257 (the tokenizer's)",
    ]


def test_no_base_writes_what_0_would_be(real):
    """Such a width would stay behind when the size of the base is overridden. That of
    llama stays on purpose: its steps take SwiGLU away and leave the width.
    """
    for name, path in presets(ROOT)[0].items():
        resolved = real.resolve([path])
        for symbol, rule in derived.RULES.items():
            written = resolved.written[symbol]
            if written and name != "llama-85m-ablation":
                assert written != rule.value(resolved.values), (name, symbol)
