"""What a task's YAML would run is found without running it, and said."""

import pytest

from gpt2.evaluation import command
from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.taskcode import functions

SPELLINGS = {
    "plain": "process_results: !function score.run\n",
    "quoted": 'process_results: !function "score.run"\n',
    "verbatim": "process_results: !<!function> score.run\n",
    "handle": "%TAG !e! !func\n---\nprocess_results: !e!tion score.run\n",
    "in a list": "metric_list: [{metric: acc, aggregation: !function score.run}]\n",
    "a key": "? !function score.run\n: 1\n",
    "an anchor": "a: &x [!function score.run]\nb: *x\n",
    "merged": "a: &x {f: !function score.run}\nb:\n  <<: *x\n",
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_found_and_nothing_runs(tmp_path, spelling):
    path = tmp_path / "mine.yaml"
    path.write_text(SPELLINGS[spelling])
    (tmp_path / "score.py").write_text("raise SystemExit('it ran')\n")
    assert functions(path) == [f"score.run ({path})"]


def test_what_is_no_function_is_not_taken_for_one(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("# !function a.b\ntask: '!function a.b'\ndoc: score.run\n")
    assert functions(path) == []


@pytest.mark.parametrize("include", ["part/two.yaml", "[part/two.yaml]", "/"])
def test_included_files_count(tmp_path, include):
    """Relative and absolute, through a chain, and round in a circle."""
    first, last = tmp_path / "one.yaml", tmp_path / "last.yaml"
    second = tmp_path / "part" / "two.yaml"
    second.parent.mkdir()
    name = str(second) if include == "/" else include
    first.write_text(f"include: {name}\nf: !function a.b\n")
    second.write_text("include: ../last.yaml\n")
    last.write_text("include: one.yaml\nf: [!function c.d, !function c.d]\n")
    assert functions(first) == [f"a.b ({first})", f"c.d ({last})"]


def test_a_file_that_is_no_yaml(tmp_path):
    path = tmp_path / "mine.yaml"
    for text in ("a: [", "a: !unknown b\n", "a: !!python/object/apply:os.system [x]\n"):
        path.write_text(text)
        with pytest.raises(EvaluationError, match="mine.yaml: no YAML") as refused:
            functions(path)
        assert "\n" not in str(refused.value)
    with pytest.raises(OSError, match="gone.yaml"):
        functions(tmp_path / "gone.yaml")


def test_the_terminal_is_what_tasks_speak_to(monkeypatch):
    """What is said while tasks are found reaches who asked for the evaluation."""

    class Harness:
        @staticmethod
        def find(names, say, offline):
            say(f"{names}: !function")
            return []

    said = []
    monkeypatch.setattr(command, "_harness", lambda: Harness)
    command.Evaluator(command.Wanted(tasks=("mine.yaml",)), said.append)
    assert said == ["('mine.yaml',): !function"]
