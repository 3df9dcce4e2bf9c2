"""RUN=, STUDY=, A= and B=: one run, step or study by what a person types."""

from pathlib import Path

import pytest

from kconf.syntax import ConfigError
from matrix.plan import loaded
from matrix.results import names
from matrix.results.names import Results
from records import pointer
from records.layout import CellDir
from tests.conftest import ROOT
from tests.matrix.synthetic import START, Cell

LOSSES = (5.5, 3.3)


def old_and_new(output: Path) -> dict[str, Path]:
    """Two studies; 06-ra seed 1 of the first ran twice, and once without an end."""
    cells = {
        "old": Cell("06-ra", 1, LOSSES, finished=START, salt="old"),
        "new": Cell("06-ra", 1, LOSSES, finished=START + 60, salt="new"),
        "two": Cell("06-ra", 2, LOSSES, finished=START + 30),
        "ten": Cell("06-ra", 10, LOSSES, finished=START + 20),
        "out": Cell("06-ra-golden", 1, LOSSES, finished=START + 10),
    }
    found = {name: cell.finish(output, "one") for name, cell in cells.items()}
    last = Cell("06-ra", 1, LOSSES, finished=START + 90, salt="lost")
    found["lost"] = last.fail(output, "boom", "one")
    other = Cell("06-ra", 1, LOSSES, finished=START + 80, salt="other")
    found["other"] = other.finish(output, "two")
    return found


@pytest.fixture
def made(tmp_path, monkeypatch) -> dict[str, Path]:
    monkeypatch.chdir(tmp_path)
    return old_and_new(Path("results"))


def run(text: str, study: str | None = "one") -> Path | str:
    """The run, or why there is none."""
    results = Results(Path("results"), study)
    try:
        return names.given_run(text) or names.run(results, text)
    except ConfigError as error:
        return str(error)


def refusal(text: str, study: str | None = "one") -> str:
    found = run(text, study)
    assert isinstance(found, str), f"{text} is {found}"
    return found


def test_a_cell_of_the_loaded_study(made):
    """By number, by name, by how it begins; the newest finished hash of it."""
    for text in ("06-ra/seed-1", "one/06-ra/seed-1", "one/06-ra/seed-1/"):
        assert run(text) == made["new"], text
    assert run("6/seed-2") == made["two"]
    assert run("06-ra-g/seed-1") == run("one/06-ra-g/seed-1") == made["out"]
    assert run("two/6/seed-1") == run("06-ra/seed-1", "two") == made["other"]
    old = made["old"].name
    assert (
        run(f"06-ra/seed-1/{old[:4]}") == run(f"one/06-ra/seed-1/{old}") == made["old"]
    )


def test_what_means_several_things(made):
    text = refusal("6/seed-1")
    assert text.startswith("RUN=6/seed-1: names 4 runs:\n")
    assert f"\n  one/06-ra-golden/seed-1/{made['out'].name}" in text
    assert "two/" not in text
    assert "names 4 runs:" in refusal("06-ra/seed-1", None)
    assert "names 5 runs:" in refusal("06-ra")
    assert "names 5 runs:" in refusal("results/one/06-ra")


def test_what_means_nothing(made):
    for text in ("07/seed-1", "06-ra/seed-100", "zzzz", "06-ra/seed-1/zz", "a/b/c/d/e"):
        assert "no such run; there are" in refusal(text)
    assert "one/06-ra/seed-10/" in refusal("zzzz") and "two/" not in refusal("zzzz")
    assert "two/06-ra/seed-1/" in refusal("zzzz", None)
    for path in made.values():
        (path / "summary.json").unlink(missing_ok=True)
    assert "none of these is finished\n  one/06-ra/seed-1/" in refusal("06-ra/seed-1")
    assert "none of these is finished" in refusal("newest")
    assert (
        run("06-ra/seed-2") == made["two"]
    )  # the only one there: what it lacks is said


def test_a_path_and_how_one_begins(made, tmp_path):
    new = made["new"]
    assert run(str(new)) == new and run(str(new.resolve())) == new.resolve()
    assert run(str(new)[:-4]) == run(str(new.resolve())[:-4]) == new
    assert (
        run(str(new.parent)) == new and run("results/one/06-ra/seed-10/") == made["ten"]
    )
    assert run(str(made["lost"])) == made["lost"]
    assert run(new.name[:4]) == new and run(new.name) == new
    assert "no such run" in refusal(new.name[:3])
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "native").touch()
    for text in ("export", "export/native"):
        assert run(text) == loaded.run(ROOT, {}, text) == Path(text)


def test_the_newest(made):
    """Of the whole results directory, whatever is loaded; a failed one is none."""
    assert run("newest") == run("newest", None) == made["other"]
    (made["other"] / "run.json").write_text("{")
    assert run("newest") == made["new"]
    (made["new"] / "attempts.jsonl").write_text("{")
    assert run("newest") == made["two"]


def test_a_study(made, tmp_path):
    results = Results(Path("results"), "one")
    (tmp_path / "two").mkdir()  # not the one meant
    for text in ("two", "results/two", str(tmp_path / "results/two")):
        assert names.study_dir(results, text).resolve() == tmp_path / "results/two"
    with pytest.raises(ConfigError) as caught:
        names.study_dir(results, "oen")
    text = "STUDY=oen: no such study; did you mean one? results holds one, two"
    assert str(caught.value) == text


def test_a_side_of_a_comparison(made):
    def side(text: str, study: str | None = "one") -> str:
        found = names.side(Results(Path("results"), study), text, "A")
        return found.relative_to("results").as_posix()

    assert side("one") == side("results/one") == "one"
    assert (
        side("one/06-ra") == side("06-ra") == side("results/one/06-ra") == "one/06-ra"
    )
    assert side("two/6") == side("6", "two") == "two/06-ra"
    assert side("one/06-ra-g") == "one/06-ra-golden"
    assert side("06-ra/seed-2") == str(made["two"].relative_to("results"))
    assert side("newest") == str(made["other"].relative_to("results"))
    with pytest.raises(ConfigError, match="A=6: names 2 steps:\n  one/06-ra\n"):
        side("6")
    with pytest.raises(ConfigError, match="A=absent: no such run; there are\n  one/"):
        side("absent")


class TestLoaded:
    """With the results that .config and one-shots configure."""

    def test_without_a_configuration(self, made, tmp_path):
        environment = {"KCONFIG_CONFIG": str(tmp_path / "absent"), "OUTPUT": "results"}
        found = loaded.results(
            ROOT, {**environment, "OUTPUT": str(tmp_path / "results")}
        )
        assert found == Results(tmp_path / "results", None)
        assert loaded.results(ROOT, environment).output == ROOT / "results"

    def test_a_path_needs_no_configuration_that_holds(self, made, tmp_path):
        (tmp_path / "bad").write_text("CONFIG_NONSENSE=y\n")
        environment = {"KCONFIG_CONFIG": str(tmp_path / "bad")}
        try:
            found = loaded.run(ROOT, environment, str(made["old"]))
        except ConfigError as error:
            found = error
        assert found == made["old"]
        with pytest.raises(ConfigError, match="CONFIG_NONSENSE"):
            loaded.run(ROOT, environment, "06-ra/seed-1")

    def test_a_reused_run_is_found_where_it_lies(self, made, tmp_path):
        own = Path("results/three/06-ra/seed-1") / made["new"].name
        pointer.write(CellDir(own), CellDir(made["new"]), [])
        assert loaded.run(ROOT, {}, str(own)).resolve() == made["new"].resolve()
