"""A value is refused in the form in which it was typed."""

from pathlib import Path

import pytest

from records.arguments import Parser, file, one_of, real, some_of, whole


@pytest.fixture
def refusal(capsys, monkeypatch):
    """text = refusal(["--top-k", "x"], TOP_K="x"): the error of a command line."""

    def ask(words: list[str], **environment: str) -> str:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        parser = Parser("about", {"--old-name": "STEP"})
        parser.add_argument("run", nargs="?", type=file)
        parser.add_argument("--top-k", type=whole(1, 9))
        parser.add_argument("--heat", type=real("at least 0", lambda x: x >= 0))
        parser.add_argument("--form", type=one_of(("hf", "gguf")))
        parser.add_argument("--part", type=some_of(("a", "b")))
        parser.add_argument("--old-name", type=whole(0))
        with pytest.raises(SystemExit) as ended:
            parser.parse_args(words)
        assert ended.value.code == 2
        said = capsys.readouterr()
        assert said.out == "" and said.err.startswith("error: ")
        return said.err.removeprefix("error: ").removesuffix("\n")

    return ask


def test_through_make_a_value_is_that_of_a_variable(refusal):
    wanted = "must be a whole number from 1 to 9"
    assert refusal(["--top-k=no"], TOP_K="no") == f"TOP_K=no: {wanted}"
    assert refusal(["--top-k", "10"], TOP_K="10") == f"TOP_K=10: {wanted}"
    assert refusal(["--old-name=x"], STEP="x").startswith("STEP=x: must be")
    assert refusal(["gone"], RUN="gone") == "RUN=gone: must be a file that is there"


def test_without_make_it_is_that_of_a_flag(refusal):
    """Also where the environment has another value: that one was not meant."""
    assert refusal(["--top-k", "0"], TOP_K="7").startswith("--top-k=0: must be")
    assert refusal(["gone"]) == "run=gone: must be a file that is there"


@pytest.mark.parametrize(
    "words, wanted",
    [
        (["--heat=hot"], "--heat=hot: must be a number at least 0"),
        (["--heat=nan"], "--heat=nan: must be a number at least 0"),
        (["--heat=inf"], "--heat=inf: must be a number at least 0"),
        (["--heat=-1"], "--heat=-1: must be a number at least 0"),
        (["--form=pt"], "--form=pt: must be one of hf, gguf"),
        (["--part=a,c"], "--part=a,c: must be some of a,b, separated by commas"),
        (["--top-k"], "--top-k: expected one argument"),
        (["--nothing"], "unrecognized arguments: --nothing"),
    ],
)
def test_what_is_refused(refusal, words, wanted):
    assert refusal(words) == wanted


def test_what_is_taken(tmp_path):
    parser = Parser("about")
    parser.add_argument("run", type=file)
    parser.add_argument("--heat", type=real("at least 0", lambda x: x >= 0))
    parser.add_argument("--part", type=some_of(("a", "b")))
    path = tmp_path / "x"
    path.touch()
    given = parser.parse_args([str(path), "--heat=0.5", "--part=b,a"])
    assert (given.run, given.heat, given.part) == (Path(path), 0.5, ["b", "a"])
