"""Mirrors of a cell: what they send, where they go on, and that no run notices."""

import json
import math
import os
import queue
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from kconf.strict import Tree
from matrix.trackers.content import describe, flatten, flatten_gpu, run_name
from matrix.trackers.mirror import Mirror
from matrix.trackers.mirror_process import MirrorProcess
from matrix.trackers.row_order import NumberedRows
from matrix.trackers.session import CURRENT, FAILED, OPEN, Session, note, state
from matrix.trackers.sink import scrub
from matrix.trackers.sync import sync, verdict_tags
from matrix.trackers.target import Target, TrackerError, require_extra
from records import jsonl
from records.layout import CellDir, RecordError
from tests.matrix.synthetic import START, Cell

ROOT = Path(__file__).resolve().parents[3]
TARGET = Target("wandb", "kablate", "", "offline")


class FakeSink:
    """A tracker that remembers, like a server; `held` outlives a mirror."""

    def __init__(self, held: dict):
        self.held, self.closed, self.url = held, None, None

    def open(self, about, tags, directory, live):
        self.rows = self.held.setdefault(about.id, {})
        self.tags = tuple(tags)
        return len(self.rows)

    def put(self, rows):
        for number, row in rows:
            assert number == len(self.rows), f"row {number} after {len(self.rows)}"
            self.rows[number] = row

    def close(self, done):
        self.closed = done


class BrokenSink(FakeSink):
    """A tracker whose server is down."""

    def open(self, about, tags, directory, live):
        raise TrackerError("no route to hunter2-hunter2")


@pytest.fixture
def held() -> dict:
    """{run id: {number: row}} of the fake tracker."""
    return {}


@pytest.fixture
def begin(held):
    """begin(path): a session with the fake tracker."""

    def make(path, target=TARGET, **options):
        return Session(path, target, make=lambda _: FakeSink(held), **options)

    return make


def study_defaults() -> dict:
    """The values of all symbols of a tree without a configuration."""
    return Tree(ROOT).resolve([]).values


def train_rows(*steps: int, attempt: int = 1) -> list[dict]:
    return [
        {"kind": "train", "attempt": attempt, "step": step, "loss": 3.0 + step / 10}
        for step in steps
    ]


def gpu_rows(*steps: int) -> list[dict]:
    return [
        {"attempt": 1, "time": 100.0 + step, "step": step, "gpu/power_avg_w": 300.5}
        for step in steps
    ]


def add(cell: CellDir, rows: list[dict], name: str = "metrics.jsonl") -> None:
    with jsonl.open_append(cell.path / name) as file:
        for row in rows:
            file.append(row)


def begun(tmp_path: Path, step: str = "00-control") -> CellDir:
    """A cell whose model was built."""
    cell = Cell(step, 1, (4.0, 3.0)).start(tmp_path)
    add(cell, [{"kind": "facts", "attempt": 1, "step": 0, "micro_batch": 8}])
    return cell


class TestContent:
    def test_numbers_are_named_after_their_row(self):
        row = {"kind": "train", "attempt": 2, "step": 7, "loss": 3.5, "mfu": None}
        assert flatten(row) == {"attempt": 2, "step": 7, "train/loss": 3.5}

    def test_facts_are_no_metric(self):
        assert flatten({"kind": "facts", "attempt": 1, "step": 0, "ranks": 1}) == {}

    def test_nested_lists_become_mean_extremes_and_layers(self):
        row = {"kind": "attention", "attempt": 1, "step": 4, "windows": 8}
        row |= {"entropy": [[1.0, 2.0], [3.0, None]], "kurtosis": [0.5, -0.5]}
        found = flatten(row | {"ra_alpha": [None, None]})
        assert found == {
            "step": 4,
            "attempt": 1,
            "attention/windows": 8,
            "attention/entropy_mean": 2.0,
            "attention/entropy_min": 1.0,
            "attention/entropy_max": 3.0,
            "attention/entropy/layer_00": 1.5,
            "attention/entropy/layer_01": 3.0,
            "attention/kurtosis_mean": 0.0,
            "attention/kurtosis_min": -0.5,
            "attention/kurtosis_max": 0.5,
            "attention/kurtosis/layer_00": 0.5,
            "attention/kurtosis/layer_01": -0.5,
        }

    def test_gpu_rows_keep_their_names(self):
        row = {"attempt": 1, "time": 99.5, "step": 3, "host": "x"}
        numbers = {"gpu/0/power_w": 410.0, "gpu/power_avg_w": 410.0}
        assert flatten_gpu({**row, **numbers, "gpu/clock_avg_mhz": None}) == {
            **{"step": 3, "attempt": 1, "gpu/time": 99.5},
            **numbers,
        }

    def test_the_configuration_has_the_names_people_query(self, tmp_path):
        values = {"LEARNING_RATE": "6e-4", "GPT2_MAX_TIME": 60, "GPT2_COMPILE": True}
        facts = {"micro_batch": 8, "accumulation": 4}
        path = Cell("07-x", 3, (4.0, 3.0), values=values, facts=facts).finish(tmp_path)
        about = describe(path)
        found = {
            key: about.config[key]
            for key in (
                *("run_name", "batch_size", "gradient_accumulation", "learning_rate"),
                *("max_time", "compile_model", "git_commit", "CONFIG_GPT2_LAYERS"),
            )
        }
        assert found == {
            "run_name": about.name,
            "batch_size": 8,
            "gradient_accumulation": 4,
            "learning_rate": 6e-4,
            "max_time": 60,
            "compile_model": True,
            "git_commit": "feed" * 10,
            "CONFIG_GPT2_LAYERS": 12,
        }
        assert about.name.startswith("07-x-s3-") and about.group == "demo"
        assert about.job_type == "07-x"

    def test_the_id_stays_and_differs_between_studies(self, tmp_path):
        cell = Cell("00-a", 1, (4.0, 3.0))
        first = describe(cell.finish(tmp_path, "one"))
        assert describe(cell.path(tmp_path, "one")).id == first.id
        assert describe(cell.finish(tmp_path, "two")).id != first.id

    def test_a_cell_that_is_run_anew_is_another_run(self, tmp_path):
        first = describe(Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path))
        (tmp_path / "demo").rename(tmp_path / "before")
        cell = Cell("00-a", 1, (4.0, 3.0), finished=START + 999.0)
        again = describe(cell.finish(tmp_path))
        assert again.name == first.name and again.id != first.id

    @pytest.mark.parametrize("here", [True, False])
    def test_only_a_process_of_this_host_is_watched(self, tmp_path, here):
        cell = begun(tmp_path)
        host = socket.gethostname() if here else "elsewhere"
        start = {"event": "start", "attempt": 2, "time": 1.0, "pid": 77, "host": host}
        add(cell, [start], "attempts.jsonl")
        assert describe(cell.path).pid == (77 if here else None)

    def test_nothing_to_describe_before_the_model(self, tmp_path):
        assert describe(Cell("00-a", 1, (4.0,)).start(tmp_path).path) is None


class TestNumberedRows:
    def test_the_order_is_kept_by_a_second_mirror(self, tmp_path):
        cell = begun(tmp_path)
        add(cell, train_rows(0, 1))
        first = NumberedRows(cell, "wandb")
        seen = first.poll()
        add(cell, gpu_rows(0), "gpu.jsonl")
        seen += first.poll()
        add(cell, train_rows(2))
        seen += first.poll()
        add(cell, gpu_rows(2), "gpu.jsonl")
        add(cell, train_rows(3))
        again = NumberedRows(cell, "wandb").poll()
        assert again[:4] == seen and [n for n, _ in again] == list(range(6))
        assert [("train/loss" in row) for _, row in seen] == [True, True, False, True]

    def test_trackers_have_orders_of_their_own(self, tmp_path):
        cell = begun(tmp_path)
        add(cell, train_rows(0))
        assert (
            NumberedRows(cell, "wandb").poll() == NumberedRows(cell, "trackio").poll()
        )

    def test_a_line_counts_once_it_is_complete(self, tmp_path):
        cell, row = begun(tmp_path), json.dumps(train_rows(0)[0]) + "\n"
        again = json.dumps(train_rows(0, attempt=2)[0]) + "\n"
        feed = NumberedRows(cell, "wandb")
        for part, rows in ((row[:20], 0), (row[20:], 1), ('{"torn\n', 0), (again, 1)):
            with open(cell.metrics, "a", encoding="utf-8") as file:
                file.write(part)
            assert len(feed.poll()) == rows

    def test_the_summary_is_the_last_row(self, tmp_path):
        path = Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)
        feed = NumberedRows(CellDir(path), "wandb")
        assert [row for _, row in feed.poll()][-1]["eval/loss"] == 3.0
        [(number, last)] = feed.poll(ended=True)
        assert number == 2 and last["final/loss"] == 3.0
        assert last["final/stopped_by"] == "tokens" and last["step"] == 100
        assert feed.poll(ended=True) == []

    def test_rows_that_are_gone_are_an_error(self, tmp_path):
        cell = begun(tmp_path)
        add(cell, train_rows(0, 1))
        NumberedRows(cell, "wandb").poll()
        cell.metrics.write_text("")
        with pytest.raises(RecordError, match="names 2 rows, the files hold 0"):
            NumberedRows(cell, "wandb").poll(ended=True)


class TestSession:
    def test_it_waits_for_the_model(self, tmp_path, begin, held):
        cell = Cell("00-a", 1, (4.0,)).start(tmp_path)
        session = begin(cell.path)
        session.poll()
        assert held == {}
        add(cell, [{"kind": "facts", "attempt": 1, "step": 0}, *train_rows(0)])
        session.poll()
        [rows] = held.values()
        assert rows == {0: {"step": 0, "attempt": 1, "train/loss": 3.0}}

    def test_a_killed_mirror_leaves_no_row_twice(self, tmp_path, begin, held):
        cell = begun(tmp_path)
        for steps in ((0, 1), (2,), (3, 4, 5)):
            add(cell, train_rows(*steps))
            session = begin(cell.path)
            session.poll()
            session._unlock()  # as the kernel does for a process that was killed
        [rows] = held.values()
        assert [row["step"] for row in rows.values()] == [0, 1, 2, 3, 4, 5]

    def test_rows_that_a_tracker_lost_are_sent_again(self, tmp_path, begin, held):
        cell = begun(tmp_path)
        add(cell, train_rows(0, 1, 2))
        first = begin(cell.path)
        first.poll()
        first._unlock()
        [rows] = held.values()
        del rows[2], rows[1]
        begin(cell.path).poll()
        assert [row["step"] for row in rows.values()] == [0, 1, 2]

    def test_a_resumed_run_goes_on_under_its_id(self, tmp_path, begin, held):
        cell = begun(tmp_path)
        add(cell, train_rows(0, 1, 2))
        session = begin(cell.path)
        session.poll()
        add(cell, train_rows(1, 2, attempt=2))
        session.poll()
        [rows] = held.values()
        seen = [(row["attempt"], row["step"]) for row in rows.values()]
        assert seen == [(1, 0), (1, 1), (1, 2), (2, 1), (2, 2)]

    def test_the_end_is_noted(self, tmp_path, begin, held):
        path = Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)
        begin(path, tags=("NEUTRAL",)).end()
        noted = state(path, "wandb")
        assert noted["state"] == CURRENT and noted["rows"] == 3
        assert noted["tags"] == ["NEUTRAL"] and noted["id"] in held

    def test_an_unfinished_cell_stays_open(self, tmp_path, begin):
        cell = begun(tmp_path)
        add(cell, train_rows(0))
        begin(cell.path).end()
        assert state(cell.path, "wandb")["state"] == OPEN

    def test_two_mirrors_of_one_cell(self, tmp_path, begin, held):
        cell = begun(tmp_path)
        add(cell, train_rows(0))
        first, second = begin(cell.path), begin(cell.path)
        first.poll()
        second.poll()
        assert [len(rows) for rows in held.values()] == [1]
        with pytest.raises(TrackerError, match="another process mirrors"):
            second.end()
        first.end()
        begin(cell.path).end()

    def test_a_failure_is_noted_without_credentials(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SOME_API_KEY", "hunter2-hunter2")
        cell = begun(tmp_path)
        session = Session(cell.path, TARGET, make=lambda _: BrokenSink({}))
        with pytest.raises(TrackerError, match=r"no route to \[credential\]"):
            session.poll()
        noted = state(cell.path, "wandb")
        assert noted["state"] == FAILED and noted["error"] == "no route to [credential]"


def test_a_password_of_netrc_is_a_credential(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    secret = "correct-horse-battery"
    (tmp_path / ".netrc").write_text(f"machine x login user password {secret}\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert scrub(f"said {secret}") == "said [credential]"


def test_an_absent_extra_is_named():
    with pytest.raises(TrackerError, match="pip install -r requirements-nosuch.txt"):
        require_extra("nosuch")


class TestMirror:
    def test_a_cell_that_fails_leaves_the_others(self, tmp_path, held):
        good, bad = begun(tmp_path, "00-a"), begun(tmp_path, "01-b")
        add(good, train_rows(0))
        told = []

        def make(path, target):
            sink = FakeSink if path == good.path else BrokenSink
            return Session(path, target, make=lambda _: sink(held))

        mirror = Mirror(TARGET, lambda path, error: told.append(path), make)
        for cell in (bad, good):
            mirror.obey({"start": str(cell.path)})
        mirror.poll()
        mirror.poll()
        add(good, train_rows(1))
        commands = queue.Queue()
        commands.put(None)
        mirror.run(commands)
        assert told == [bad.path] and [len(rows) for rows in held.values()] == [2]

    def test_a_cell_that_is_started_again_keeps_its_session(self, tmp_path, begin):
        cell = begun(tmp_path)
        mirror = Mirror(TARGET, lambda *_: pytest.fail("no failure"), begin)
        mirror.obey({"start": str(cell.path)})
        add(cell, train_rows(0))
        mirror.poll()
        [session] = mirror.sessions.values()
        mirror.obey({"start": str(cell.path)})
        assert list(mirror.sessions.values()) == [session]
        mirror.obey({"end": str(cell.path)})
        assert state(cell.path, "wandb")["rows"] == 1

    def test_the_end_of_a_cell_closes_it(self, tmp_path, begin, held):
        path = Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)
        mirror = Mirror(TARGET, lambda *_: pytest.fail("no failure"), begin)
        mirror.obey({"start": str(path)})
        mirror.obey({"end": str(path)})
        assert state(path, "wandb")["state"] == CURRENT and mirror.sessions == {}


class TestMirrorProcess:
    """The process, with programs that misbehave."""

    def process(self, program: str) -> MirrorProcess:
        return MirrorProcess(TARGET, (sys.executable, "-c", program))

    def test_a_failure_is_said_once_and_counted_at_the_end(self, tmp_path):
        program = "import json, sys\n"
        program += "for line in sys.stdin: print(json.dumps({'failed': "
        program += "json.loads(line)['start'], 'error': 'no server'}), flush=True)"
        beside = self.process(program)
        for name in "abc":
            beside.start(tmp_path / name)
        beside.close()
        said = beside.settle(math.inf)
        assert len(said) == 2
        assert said[0].startswith(
            f"wandb: no server ({tmp_path / 'a'}); the runs go on"
        )
        assert said[1].startswith("wandb: 3 cells not mirrored")

    @pytest.mark.parametrize(
        "url, where",
        [
            ("https://x/team/kablate/runs/0a1b", "https://x/team/kablate"),
            ("/home/a/trackio", "/home/a/trackio"),
            (None, "offline: `make sync` uploads"),
        ],
    )
    def test_the_end_says_where_the_runs_are(self, tmp_path, url, where):
        beside = self.process("import sys; sys.stdin.read()")
        for name in "ab":
            (tmp_path / name).mkdir()
            note(tmp_path / name, TARGET, state=CURRENT, url=url)
            beside.start(tmp_path / name)
        beside.close()
        assert beside.settle(math.inf) == [f"wandb: 2 cells mirrored ({where})"]

    def test_a_mirror_that_dies_is_said_and_recorded(self, tmp_path):
        cell = begun(tmp_path)
        beside = self.process("import sys; sys.stdin.readline(); sys.exit(3)")
        beside.start(cell.path)
        beside.process.wait()
        [line] = beside.news()
        assert "ended with status 3" in line and beside.news() == []
        assert state(cell.path, "wandb")["state"] == FAILED
        beside.close()
        assert beside.settle(math.inf) == []

    def test_a_mirror_that_hangs_is_ended(self, tmp_path):
        cell = begun(tmp_path)
        beside = self.process("import time; time.sleep(3600)")
        for _ in range(3000):  # more than a pipe holds
            beside.start(cell.path)
        beside.close()
        [line] = beside.settle(0.0)
        assert "did not end in CONFIG_TRACKER_WAIT" in line
        assert beside.process.returncode == -9

    def test_a_done_cell_that_was_left_open_is_finished(self, tmp_path):
        """By the next make; one that is current, or was never mirrored, is left alone."""
        program = "import sys; open(sys.argv[1], 'w').write(sys.stdin.read())"
        heard = tmp_path / "heard"
        command = (sys.executable, "-c", program, str(heard))
        beside = MirrorProcess(TARGET, command)
        for name, word in (("a", OPEN), ("b", CURRENT), ("c", FAILED)):
            (tmp_path / name).mkdir()
            note(tmp_path / name, TARGET, state=word, url=None)
        (tmp_path / "d" / "mirror").mkdir(parents=True)
        (tmp_path / "d" / "mirror" / "wandb.json").write_text("{")
        for name in "abcde":
            beside.finish(tmp_path / name)
        beside.close()
        (line,) = beside.settle(math.inf)[:1]
        assert "wandb.json: is not JSON" in line and "the runs go on" in line
        path = str(tmp_path / "a")
        asked = [json.loads(text) for text in heard.read_text().splitlines()]
        assert asked == [{"start": path}, {"end": path}]

    def test_a_cell_that_was_sent_stays_sent(self, tmp_path, begin):
        path = Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)
        begin(path).end()
        beside = self.process("import sys; sys.stdin.readline(); sys.exit(3)")
        beside.start(path)
        beside.process.wait()
        beside.news()
        beside.close()
        assert state(path, "wandb")["state"] == CURRENT


class TestSync:
    def test_it_sends_what_is_missing_and_nothing_again(self, tmp_path, held, begin):
        path = Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)
        said = []
        for tags in ({}, {}, {f"00-a/seed-1/{path.name}": ["control"]}):
            begun_with = []

            def make(path, target, tags=(), live=True):
                begun_with.append(live)
                return begin(path, target, tags=tags, live=live)

            assert sync(tmp_path / "demo", [TARGET], tags, said.append, make) == 0
            assert set(begun_with) == {False}
        assert [line.split("  ")[-1] for line in said] == [
            "3 rows",
            "is there already",
            "3 rows",
        ]
        assert state(path, "wandb")["tags"] == ["control"]

    def test_failures_are_counted(self, tmp_path):
        Cell("00-a", 1, (4.0, 3.0)).finish(tmp_path)

        def make(path, target, tags, live):
            return Session(path, target, tags, live, lambda _: BrokenSink({}))

        said = []
        assert sync(tmp_path / "demo", [TARGET], {}, said.append, make) == 1
        assert "failed: no route" in said[0]


class TestVerdictTags:
    def study(self, tmp_path, seeds, **values):
        defaults = study_defaults()
        for seed in range(1, 1 + seeds):
            noise = seed / 1e4
            for step, loss in (("00-control", 3.0), ("01-better", 2.5)):
                Cell(
                    step,
                    seed,
                    (4.0, loss + noise * (1 + (step == "01-better") * seed)),
                    values=values,
                    control=step == "00-control",
                    operational=tuple(values),
                ).finish(tmp_path)
        return verdict_tags(tmp_path / "demo", defaults)

    def words(self, tags):
        return {name.split("/")[0]: words for name, words in tags.items()}

    def test_every_run_of_a_judged_step(self, tmp_path):
        tags = self.study(tmp_path, 6)
        assert len(tags) == 12
        assert self.words(tags) == {
            "00-control": ["control"],
            "01-better": ["SUPPORTED"],
        }

    def test_by_the_terms_that_the_study_recorded(self, tmp_path):
        tags = self.study(tmp_path, 6, METRIC="tokens_per_s", SMALLEST_EFFECT="none")
        assert self.words(tags)["01-better"] != ["SUPPORTED"]

    def test_nothing_finished_is_nothing_judged(self, tmp_path):
        begun(tmp_path)
        assert verdict_tags(tmp_path / "demo", study_defaults()) == {}


def test_sync_without_a_tracker_says_how(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "sync_trackers.py", "toy"],
        env={**os.environ, "KCONFIG_CONFIG": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == "error: no tracker is configured: TRACKER=wandb make sync"


def test_run_names_say_step_and_seed():
    cell = {"step": "06-ra-golden", "seed": 12, "hash": "0123456789abcdef"}
    assert run_name(cell) == "06-ra-golden-s12-01234567"


class TestSettings:
    @pytest.mark.parametrize(
        "line, cause",
        [
            ('CONFIG_TRACKER="wandb,wandb"', "names a tracker twice"),
            ('CONFIG_TRACKER="none,wandb"', '"none" goes with no tracker'),
            ('CONFIG_TRACKER="aim"', "'aim' is none of none, wandb, trackio"),
            ('CONFIG_WANDB_MODE="disabled"', "is none of online, offline"),
            ('CONFIG_TRACKER_PROJECT=""', "must not be empty"),
        ],
    )
    def test_what_no_tracker_can_serve(self, checkout, line, cause):
        checkout.configure(line)
        status, output = checkout.run("plan")
        assert status == 2 and cause in output

    def test_an_absent_extra_stops_before_the_first_cell(self, checkout, monkeypatch):
        def absent(name):
            raise metadata.PackageNotFoundError(name)

        monkeypatch.setattr(metadata, "distribution", absent)
        status, output = checkout.run(TRACKER="trackio")
        assert status == 2 and "requirements-trackio.txt" in output
        assert checkout.cells == {}
