"""A record is of its kind, field by field, or an error that names file and field."""

import copy
import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kconf.bind import SettingsError
from records import read
from records.cell import read_cell, read_status, status_of
from records.fields import PROGRESS
from records.files import LONGEST, RecordError, open_record, read_bytes, shown
from records.heartbeat import newest
from records.jsonl import Growing, open_append, read_rows, rows
from records.layout import CellDir, read_json
from records.lease import is_held

DIGEST, STEP = "ab" * 32, {"attempt": 1, "step": 3}
RUN = {
    "schema": 1,
    "cell": {
        "study": "demo",
        "step": "00-base",
        "seed": 1,
        "hash": DIGEST,
        "identity": {
            "config": DIGEST,
            "code": DIGEST,
            "dataset": DIGEST,
            "threads": None,
            "code_rule": 2,
        },
        "control": True,
        "stage": "one",
        "changes": ["RA"],
        "arm": {"point": {"LR": "1e-3"}, "dense": None},
    },
    "code_files": {"gpt2/training/cell.py": DIGEST},
    "data_dir": "/data",
    "provenance": {"time": 1.7e9, "cpu": "a", "git": {"commit": "f", "dirty": False}},
}
SUMMARY = {
    "schema": 1,
    "status": "done",
    "hash": DIGEST,
    "step": 3,
    "attempts": 1,
    "tokens": 9,
    "final_eval": {"step": 3, "loss": 3.5, "perplexity": math.inf, "time": 1.0},
    "stopped_by": "tokens",
    "tokens_per_s": None,
    "peak_memory_bytes": 3,
    "model_sha256": DIGEST,
    "sparsity": {"covered": 0.5, "all": 0.25},
    "facts": {"parameters": 9, "flops_per_token": 9, "dtype": "fp32"},
    "device": {"kind": "cpu", "name": "cpu", "driver": None},
    "threads": 2,
}
TRAIN = {"kind": "train", **STEP, "loss": math.nan, "tokens_per_s": None, "lr": 0.1}
EVAL = {"kind": "eval", **STEP, "loss": 3.5, "tokens": 9, "time": 1.0}
HEADS = {"kind": "attention", **STEP, "windows": 2, "entropy": [[0.5, None], None]}
START = {"event": "start", "attempt": 1, "time": 1.7e9, "pid": 7, "host": "a"}
START |= {"device": {"kind": "cpu"}, "threads": None, "torch": "2"}
END = {"event": "end", "attempt": 1, "time": 1.7e9, "status": "done", "step": 3}
END |= {"error": None, "seconds": 2.0}
FAILURE = {"attempt": 1, "error": "no", "status": "failed", "exit_code": -9}
EVALUATION = {"schema": 1, "attempt": 1, "name": "held.txt", "kind": "text"}
EVALUATION |= {"sha256": DIGEST, "settings": {"stride": 8}, "metrics": {"acc": 0.5}}
EVALUATION |= {"model_sha256": DIGEST, "better": {"acc": "higher"}, "counts": {"n": 1}}
SAMPLE = {"attempt": 1, "time": 1.7e9, "step": 0, "gpu/0/power_w": 300.0}
REUSED = {"schema": 1, "run": "../x", "changes": ["RA"], "time": 1.7e9}
JOB = {"schema": 1, "job": "17", "time": 1.7e9, "submitted_on": "a"}
BEAT = {"attempt": 1, "pid": 7, "time": 1.7e9, "step": 3, "phase": "training"}
HELD = {"pid": 7, "host": "a", "time": 1.7e9, "step": 3}

# What holds it, how it is read, and one value of each of its fields.
RECORDS = {
    "run": (RUN, read.run),
    "summary": (SUMMARY, read.summary),
    "train": (TRAIN, lambda path: list(read.metrics(path))),
    "eval": (EVAL, lambda path: list(read.metrics(path))),
    "heads": (HEADS, lambda path: list(read.metrics(path))),
    "start": (START, read.attempts),
    "end": (END, read.attempts),
    "failure": (FAILURE, read.failure),
    "sample": (SAMPLE, lambda path: list(read.samples(path))),
    "job": (JOB, read.job),
    "beat": (BEAT, newest),
}
ODD = ({"x": 1}, "\ud800", -5, 10**30, 1e300, [[[]]])


def fields(value: Any, at: tuple = ()) -> list[tuple]:
    """Every field of an object at any depth."""
    found = []
    if isinstance(value, dict):
        for key, item in value.items():
            found += [(*at, key), *fields(item, (*at, key))]
    return found


CASES = [(name, at) for name in RECORDS for at in fields(RECORDS[name][0])]


def put(record: dict, at: tuple, value: Any) -> dict:
    """A copy with another value in a field."""
    record = copy.deepcopy(record)
    place = record
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = value
    return record


@pytest.mark.parametrize("name", RECORDS)
def test_what_is_written_is_read(tmp_path: Path, name: str):
    record, reader = RECORDS[name]
    path = tmp_path / "record"
    path.write_text(json.dumps(record) + "\n")
    assert json.dumps(record) in json.dumps(reader(path))


@pytest.mark.parametrize("name, at", CASES, ids=lambda x: ".".join([*x]) if x else "")
def test_every_field_refuses_another_kind(tmp_path: Path, name: str, at: tuple):
    """Of values that no field takes each is refused, and the field is named."""
    record, reader = RECORDS[name]
    path = tmp_path / "record"
    for odd in ODD:
        if odd == -5 and at[-1] in ("exit_code", "lr", "entropy", "loss"):
            continue
        if odd == -5 and at[-1].startswith("gpu/"):
            continue
        if odd == 10**30 and at[-1] in ("loss", "lr", "perplexity", "entropy"):
            continue
        if odd == 1e300 and at[-1] in ("lr", "perplexity"):
            continue
        if odd == [[[]]] and at[-1] in ("stride", "placement"):
            continue
        if type(odd) is dict and at[-1] in FREE:
            continue
        path.write_text(json.dumps(put(record, at, odd)) + "\n")
        with pytest.raises(RecordError) as refused:
            reader(path)
        assert str(path) in str(refused.value) and at[-1] in str(refused.value), odd


FREE = ("facts", "sparsity", "point", "code_files", "arm", "git", "device")
"""Objects that need not hold anything: what they hold is looked at all the same."""


@pytest.mark.parametrize(
    "name, field",
    [
        ("run", "cell"),
        ("run", "data_dir"),
        ("run", "provenance"),
        ("summary", "hash"),
        ("summary", "step"),
        ("train", "step"),
        ("train", "attempt"),
        ("train", "loss"),
        ("train", "kind"),
        ("eval", "tokens"),
        ("start", "event"),
        ("start", "attempt"),
        ("start", "time"),
        ("end", "status"),
        ("end", "step"),
        ("failure", "error"),
        ("failure", "attempt"),
        ("sample", "time"),
        ("job", "job"),
        ("beat", "phase"),
    ],
)
def test_what_readers_need_must_be_there(tmp_path: Path, name: str, field: str):
    record, reader = RECORDS[name]
    path = tmp_path / "record"
    path.write_text(json.dumps({k: v for k, v in record.items() if k != field}) + "\n")
    with pytest.raises(RecordError, match=f"record: .*{field} is"):
        reader(path)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"status": "banana"}, "status is 'banana', expected one of done"),
        ({"step": -5}, "step is -5, expected a whole number from 0"),
        ({"step": True}, "step is true"),
        ({"step": 3.0}, "step is 3.0"),
        ({"final_eval": {"step": 3, "loss": "low"}}, "final_eval.loss is 'low'"),
        ({"final_eval": {"loss": 3.0}}, "final_eval.step is absent"),
        ({"train_time": math.nan}, "train_time is nan"),
        ({"facts": {"parameters": "many"}}, "facts.parameters is 'many'"),
        ({"facts": {"x": {"y": "\ud800"}}}, "facts.x.y is .*valid Unicode"),
        ({"torch": "2\x1b[31m"}, "torch is '2.x1b.31m', expected a name"),
    ],
)
def test_the_message_names_the_field(tmp_path: Path, change, why):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({**SUMMARY, **change}))
    with pytest.raises(RecordError, match=f"summary.json: {why}"):
        read.summary(path)


def test_nesting_without_end(tmp_path: Path):
    path = tmp_path / "summary.json"
    for depth, why in ((100_000, "nested too deeply"), (60, "more than 32 levels")):
        deep = "[" * depth + "]" * depth
        path.write_text(f'{{"schema": 1, "x": {deep}, {json.dumps(SUMMARY)[1:]}')
        with pytest.raises(RecordError, match=f"summary.json: .*{why}"):
            read.summary(path)


@pytest.mark.parametrize("name", ["plot", "x/../../y", "Entropy", ""])
def test_a_statistic_has_a_name_that_a_file_can_have(tmp_path: Path, name: str):
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"kind": "attention", **STEP, name: [[0.5]]}) + "\n")
    if name == "plot":
        assert len(list(read.metrics(path))) == 1
        return
    with pytest.raises(RecordError, match="the name of a statistic"):
        list(read.metrics(path))


def no_file(path: Path, how: str) -> None:
    if how == "directory":
        path.mkdir()
    elif how == "pipe":
        os.mkfifo(path)
    elif how == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(path))
    elif how == "dangling":
        path.symlink_to("nowhere")
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "device":
        path.symlink_to("/dev/zero")
    elif how == "long":
        path.touch()
        os.truncate(path, 1 << 40)


@pytest.mark.parametrize(
    "how, why",
    [
        ("directory", "is a directory"),
        ("pipe", "is a pipe"),
        ("socket", "is a socket|cannot be read"),
        ("dangling", "is a link to nowhere, which is not there"),
        ("loop", "cannot be read: Too many levels"),
        ("device", "is a device"),
        ("long", "longer than 16 MiB"),
    ],
)
@pytest.mark.parametrize(
    "reader",
    [read_json, read_bytes, read_rows, newest, lambda p: list(Growing(p).lines())],
    ids=["json", "bytes", "rows", "newest", "growing"],
)
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, reader, how, why):
    if how == "long" and reader is newest:
        pytest.skip("reads the end alone")
    path = tmp_path / "s"
    no_file(path, how)
    with pytest.raises(RecordError, match=f"s: .*({why})"):
        reader(path)


UNREADABLE = """
import os, sys
from records.files import RecordError, open_record
os.setuid(65534)
try:
    open_record(sys.argv[1])
except RecordError as error:
    print(error)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    path = Path("/tmp") / f"kablate-unreadable-{os.getpid()}"
    path.touch(0o000)
    try:
        command = [sys.executable, "-c", UNREADABLE, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout == f"{path}: cannot be read: Permission denied\n"
    finally:
        path.unlink()


def test_a_row_longer_than_any_is_refused(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b"x" * (LONGEST + 1) + b"\n")
    with pytest.raises(RecordError, match="line 1 is longer"):
        list(rows(path))


def test_names_in_messages_are_of_one_line():
    name = os.fsdecode(b"a\xff\n\x1b[31m\xe2\x80\xae\xc3\xa4")
    assert shown(name) == "a\\udcff\\n\\x1b[31m\\u202eä"
    assert str(RecordError(name, "x\ny")) == f"{shown(name)}: x\\ny"


@pytest.mark.parametrize(
    "name, record, why",
    [
        ("lease", {**HELD, "pid": None}, "lease: pid is null"),
        ("lease", {**HELD, "host": 5}, "lease: host is 5"),
        ("lease", [1], "lease: is not a JSON object"),
        ("heartbeat", {**HELD, "time": "soon"}, "heartbeat: time is 'soon'"),
        ("heartbeat", {**HELD, "time": math.nan}, "heartbeat: time is nan"),
        ("heartbeat", {"pid": 1}, "heartbeat: host is absent"),
    ],
)
def test_a_lease_that_nobody_writes_is_named(tmp_path: Path, name, record, why):
    cell = CellDir(tmp_path)
    cell.lease.write_text(json.dumps(HELD))
    (tmp_path / name).write_text(json.dumps(record))
    for reader in (is_held, lambda path: read_status(CellDir(path.parent))):
        with pytest.raises(RecordError, match=why):
            reader(cell.lease)
    status = status_of(cell)
    assert status.state == "damaged" and f"move {tmp_path} away" in status.reason


@pytest.mark.parametrize("content", [b"", b"\0" * 70])
def test_a_lease_that_is_being_written_is_none(tmp_path: Path, content: bytes):
    (tmp_path / "lease").write_bytes(content)
    assert is_held(tmp_path / "lease") is None
    (tmp_path / "heartbeat").write_bytes(content)
    assert is_held(tmp_path / "lease") is None


def test_the_newest_beat_is_checked(tmp_path: Path):
    path = tmp_path / "heartbeat_rank0.jsonl"
    path.write_text(json.dumps({**BEAT, "step": "far"}) + "\n")
    with pytest.raises(RecordError, match="rank0.jsonl: in its last row step is 'far'"):
        newest(path, PROGRESS)


def test_a_damaged_row_is_named_wherever_it_stands(tmp_path: Path):
    """The last one too: a kill tears a line, it does not change its types."""
    cell = CellDir(tmp_path)
    good = json.dumps(EVAL)
    for lines in ([good, "DAMAGE"], ["DAMAGE", good], [good, "DAMAGE", good]):
        number = 1 + lines.index("DAMAGE")
        text = "\n".join(lines).replace("DAMAGE", json.dumps({**EVAL, "step": "1"}))
        cell.metrics.write_text(text + "\n")
        with pytest.raises(RecordError, match=f"metrics.jsonl: line {number}: step is"):
            read_cell(tmp_path)


def test_opened_is_what_is_read(tmp_path: Path):
    path = tmp_path / "record"
    path.write_bytes(b"12")
    with open_record(path) as file:
        assert file.read() == b"12"
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_bytes(link) == b"12"
    with pytest.raises(FileNotFoundError):
        open_record(tmp_path / "nowhere")


def test_the_largest_rate_that_settings_take_is_read(tmp_path: Path, small):
    """A larger one would be taken for damage."""
    rate = small(LEARNING_RATE="3.5e38", MIN_LEARNING_RATE="0").optim.lr
    with open_append(tmp_path / "rows") as rows:
        rows.append({**TRAIN, "lr": rate})
    (row,) = read.metrics(tmp_path / "rows")
    assert row["lr"] == 3.5e38
    with pytest.raises(SettingsError, match="LEARNING_RATE.*out of range"):
        small(LEARNING_RATE="3.6e38")
