"""Held-out text: every token once, its context, units, errors, records, make eval."""

import hashlib
import io
import json
import math
import shutil

import numpy as np
import pytest
import torch

from gpt2.data.tokenization import bpe
from gpt2.data.tokenization.tokenizers import ByteTokenizer
from gpt2.evaluation.command import Wanted, evaluate_run, evaluate_study
from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.scoring import Window, pair, score
from gpt2.evaluation.text import evaluate_text, windows
from gpt2.generation.generate import Trained
from records import evaluations, pointer
from records.layout import CellDir, RecordError
from records.progress_line import Counted
from scripts import eval as script
from tests.gpt2.model.test_decode import ALL, randomised

TEXT = "Zwölf Boxkämpfer jagten Viktor quer über den großen Sylter Deich.\n" * 3
EOT = ByteTokenizer.eot


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "held-out.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def model(settings, seed=0) -> Trained:
    """A model in float64, whose mechanisms all have a say."""
    torch.manual_seed(seed)
    return Trained(randomised(settings), ByteTokenizer())


def one_by_one(trained, tokens, stride):
    """log p of every token, each by a forward pass of its own: token i (from 1) lies
    in the window that ends at the first of T, T+stride, T+2 stride … not below i.
    """
    context, total = trained.context, []
    for i in range(1, len(tokens)):
        end = context
        while end < i:
            end += stride
        end = min(end, len(tokens) - 1)
        read = tokens[max(end - context, 0) : i]
        with torch.no_grad():
            logits_V = trained.model(torch.tensor([read]))[0, -1, :257]
        total.append(float(logits_V.log_softmax(0)[tokens[i]]))
    return math.fsum(total)


@pytest.fixture(scope="module")
def joining():
    """A BPE with long words, so that many a token reaches over a join."""
    return bpe.trained(bpe.train([TEXT, "validation " * 50 + "of a validator"], 320))


TOGETHER = TEXT + "validation  of\n\na validator \u3000 ends  "


@pytest.mark.parametrize("at", range(len(TOGETHER)))
def test_every_byte_of_a_continuation_is_scored_once(joining, at):
    """Wherever a text is cut in two; blanks at the end of the context count too."""
    context, continuation = TOGETHER[:at], TOGETHER[at:]
    before, after = pair(joining, context, continuation)
    blanks = context[len(context.rstrip()) :]
    assert joining.decode(np.array(after)).decode() == blanks + continuation
    assert joining.decode(np.array(before)).decode() == context.rstrip()
    if context.strip():
        assert before == joining.encode(context.rstrip()).tolist()
    else:
        assert before == [joining.eot]


def test_a_token_over_the_join_and_none(joining):
    """Encoded together where the context's tokens stay, apart where they do not."""
    [_, whole] = joining.encode("a validation").tolist()
    before, alone = (joining.encode(text).tolist() for text in ("a valid", "ation"))
    assert pair(joining, "a valid", "ation") == (before, alone)
    assert whole not in before + alone
    first, *rest = joining.encode("a validator").tolist()
    assert pair(joining, "a", " validator") == ([first], rest)
    assert pair(joining, "a ", "validator") == ([first], rest)
    assert pair(joining, "", "a validator") == ([joining.eot], [first, *rest])
    assert pair(joining, " \n", "a")[0] == [joining.eot]


@pytest.mark.parametrize("stride", [1, 5, 8, 16])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 40])
def test_the_score_is_that_of_one_token_at_a_time(small, text, stride, length):
    text.write_bytes(TEXT.encode()[:length])
    trained = model(small())
    found = evaluate_text(trained, text, stride, batch=3)
    wanted = one_by_one(trained, [EOT, *TEXT.encode()[:length]], stride)
    assert found.log_probability == pytest.approx(wanted, rel=1e-12)
    assert (found.tokens, found.bytes, found.least) == (length, length, 17 - stride)


@pytest.mark.parametrize("stride", [1, 3, 7, 8])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 10, 23, 24, 25])
def test_every_token_is_scored_once_after_enough(stride, length):
    tokens, context, scored = np.arange(length + 1), 8, []
    for window in windows(tokens, context, stride):
        n = len(window.targets)
        assert 1 <= n <= len(window.inputs) <= context
        assert window.targets[-1] == window.inputs[-1] + 1
        assert (np.diff(window.inputs) == 1).all()
        for target in window.targets.tolist():
            seen = target - window.inputs[0]
            assert seen >= min(target, context - stride + 1)
            scored.append(target)
    assert scored == list(range(1, length + 1))


def test_the_units(small, text):
    found = evaluate_text(model(small()), text)
    size, tokens = len(TEXT.encode()), len(TEXT.encode())
    nats = -found.log_probability
    assert found.metrics == {
        "loss": pytest.approx(nats / tokens),
        "perplexity": pytest.approx(math.exp(nats / tokens)),
        "bits_per_byte": pytest.approx(nats / math.log(2) / size),
    }
    assert found.stride == 8 and found.context == 16
    assert found.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()


def test_bits_per_byte_do_not_depend_on_tokens_per_byte(small, text):
    """With a vocabulary trained on the text a token is several bytes."""
    tokenizer = bpe.trained(bpe.train([TEXT], 280))
    settings = small(GPT2_VOCAB_SIZE="280")
    found = evaluate_text(Trained(randomised(settings), tokenizer), text)
    assert found.tokens < found.bytes == len(TEXT.encode())
    bits = found.loss * found.tokens / math.log(2) / found.bytes
    assert found.metrics["bits_per_byte"] == pytest.approx(bits)


def test_padded_rows_have_no_share(small, text):
    trained = model(small())
    before = evaluate_text(trained, text).log_probability
    with torch.no_grad():
        trained.model.wte.weight[257:] = 50.0
    assert evaluate_text(trained, text).log_probability == before


@pytest.mark.parametrize("case", ["attention plain", "three layers of all"])
def test_shorter_windows_are_padded_without_a_trace(small, case):
    trained = model(small(**ALL[case]))
    tokens = np.arange(40, 60)
    made = [Window(tokens[:n], tokens[n - k + 1 : n + 1]) for n, k in ((9, 2), (3, 3))]
    made.append(Window(tokens[:16], tokens[1:17]))
    together = [s.log_probability for s in score(trained, made, 3)]
    alone = [next(score(trained, [w], 1)).log_probability for w in made]
    assert together == pytest.approx(alone, rel=1e-12)


def test_greedy_says_whether_all_targets_are_the_most_probable(small):
    trained = model(small())
    start = np.array([97, 98, 99])
    logits_TV = trained.model(torch.from_numpy(start)[None])[0, :, :257]
    best = logits_TV.argmax(-1).numpy()
    [right] = score(trained, [Window(start, best[-1:])], 1)
    [wrong] = score(trained, [Window(start, (best[-1:] + 1) % 257)], 1)
    assert right.greedy and not wrong.greedy


@pytest.mark.parametrize("stride", [0, -1, 17])
def test_a_stride_out_of_range_is_refused(small, text, stride):
    with pytest.raises(EvaluationError, match=f"STRIDE={stride}: .* 1 to 16"):
        evaluate_text(model(small()), text, stride)


def test_texts_that_cannot_be_read(small, tmp_path):
    trained = model(small())
    with pytest.raises(EvaluationError, match="nowhere.txt: No such file"):
        evaluate_text(trained, tmp_path / "nowhere.txt")
    (tmp_path / "empty.txt").touch()
    with pytest.raises(EvaluationError, match="empty.txt: the file is empty"):
        evaluate_text(trained, tmp_path / "empty.txt")
    tokenizer = bpe.trained(bpe.train([TEXT], 280))
    reader = Trained(randomised(small(GPT2_VOCAB_SIZE="280")), tokenizer)
    (tmp_path / "latin.txt").write_bytes("Bär".encode("latin-1"))
    with pytest.raises(
        EvaluationError, match=r"latin.txt: byte 1 \(0xe4\) is no UTF-8"
    ):
        evaluate_text(reader, tmp_path / "latin.txt")
    assert evaluate_text(trained, tmp_path / "latin.txt").tokens == 3


def test_a_mark_is_no_part_of_a_text(small, text, tmp_path):
    """As in a corpus; the mark of another encoding is refused."""
    plain = evaluate_text(model(small()), text)
    text.write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    assert evaluate_text(model(small()), text) == plain
    text.write_bytes(TEXT.encode("utf-16"))
    with pytest.raises(EvaluationError, match="held-out.txt: .* mark of UTF-16"):
        evaluate_text(model(small()), text)


def test_the_countdown():
    stream = io.StringIO()
    progress = Counted("held.txt", 0, stream, scale=1, unit="tokens")
    progress.total += 400
    progress.advance(100)
    assert stream.getvalue() == ""  # too soon
    progress._last -= 60
    progress.began -= 60
    progress.advance(100)
    assert stream.getvalue() == (
        "held.txt: 50% of 400 tokens, 3.3 tokens/s, 1m 00s left\n"
    )


@pytest.fixture(scope="module")
def study(tmp_path_factory, make_cell, corpus):
    """A study of two finished runs and one that never ran."""
    from gpt2.training.cell import execute

    root = tmp_path_factory.mktemp("study")
    for step, seed in (("00-base", 1), ("00-base", 2), ("01-never", 1)):
        place = root / step / f"seed-{seed}"
        place.mkdir(parents=True)
        cell = make_cell(place / f"0000000{seed}", GPT2_MAX_ITERS="3", SEED=str(seed))
        if step == "00-base":
            assert execute(cell, corpus) == 0
    return root


@pytest.fixture
def copied(study, tmp_path):
    return shutil.copytree(study, tmp_path / "study")


def run_of(study, seed=1):
    return study / "00-base" / f"seed-{seed}" / f"0000000{seed}"


def test_the_row_of_a_run(copied, text, capsys):
    directory = run_of(copied)
    arguments = ["--run", str(directory), "--text", str(text), "--device", "cpu"]
    assert script.main(arguments) == 0
    [line, where] = capsys.readouterr().out.splitlines()
    assert line.startswith("held-out.txt: loss ") and "stride 8" in line
    assert where == f"{directory}/evaluations.jsonl"
    row = evaluations.read(CellDir(directory))["held-out.txt"]
    summary = json.loads((directory / "summary.json").read_text())
    assert row["model_sha256"] == summary["model_sha256"]
    assert row["settings"] == {"context": 16, "stride": 8}
    assert row["sha256"] == hashlib.sha256(TEXT.encode()).hexdigest()
    assert row["better"] == dict.fromkeys(row["metrics"], "lower")
    assert row["versions"]["torch"] and row["device"] == "cpu"
    assert row["counts"] == {"tokens": len(TEXT.encode()), "bytes": len(TEXT.encode())}


def test_of_two_rows_the_last_counts(copied, text):
    cell = CellDir(run_of(copied))
    for stride in (8, 16):
        evaluate_run(Wanted(text, stride=stride), cell.path, lambda line: None)
    assert len(cell.evaluations.read_text().splitlines()) == 2
    assert evaluations.read(cell)["held-out.txt"]["settings"]["stride"] == 16


def test_a_torn_row_is_left_behind(copied, text):
    cell = CellDir(run_of(copied))
    evaluate_run(Wanted(text), cell.path, lambda line: None)
    whole = cell.evaluations.read_bytes()
    cell.evaluations.write_bytes(whole + whole[:50])
    assert len(evaluations.read(cell)) == 1
    evaluate_run(Wanted(text, stride=4), cell.path, lambda line: None)
    assert evaluations.read(cell)["held-out.txt"]["settings"]["stride"] == 4


@pytest.mark.parametrize(
    "change, why",
    [
        ({"schema": 2}, "schema is 2"),
        ({"metrics": 3}, "metrics is 3"),
        ({"name": None}, "name"),
    ],
)
def test_a_row_that_cannot_be_understood(copied, text, change, why):
    cell = CellDir(run_of(copied))
    evaluate_run(Wanted(text), cell.path, lambda line: None)
    row = json.loads(cell.evaluations.read_text())
    cell.evaluations.write_text(json.dumps({**row, **change}) + "\n")
    with pytest.raises(RecordError, match=why):
        evaluations.read(cell)


def test_a_study_is_evaluated_once(copied, text):
    def evaluate(**options):
        lines = []
        status = evaluate_study(Wanted(text, **options), copied, lines.append)
        return status, lines

    status, lines = evaluate()
    assert status == 0 and "2 runs to evaluate, 0 are" in lines[0]
    assert "1 not finished" in lines[0] and lines[-1].startswith("2 of 2 runs, 0.0s")
    assert [line.split(":")[0] for line in lines[1:-1:2]] == [
        f"00-base/seed-{k}/0000000{k}" for k in (1, 2)
    ]
    status, lines = evaluate()
    assert status == 0 and "0 runs to evaluate, 2 are evaluated already" in lines[0]
    assert "2 runs to evaluate" in evaluate(stride=4)[1][0]
    text.write_text("another text")
    assert "2 runs to evaluate" in evaluate(stride=4)[1][0]
    rows = CellDir(run_of(copied)).evaluations.read_text().splitlines()
    assert len(rows) == 3


def test_a_study_goes_on_after_a_run_that_cannot_serve(copied, text):
    (run_of(copied) / "checkpoint" / "model.pt").unlink()
    lines = []
    assert evaluate_study(Wanted(text), copied, lines.append) == 1
    assert any("seed-1" in line and "holds no weights" in line for line in lines)
    assert "held-out.txt" in evaluations.read(CellDir(run_of(copied, 2)))


def test_a_control_of_another_study_is_evaluated_where_it_lies(copied, text, tmp_path):
    """As `BASELINE=` leaves it: the cell's directory holds a pointer alone."""
    study = tmp_path / "other"
    for seed in (1, 2):
        own = CellDir(study / "00-base" / f"seed-{seed}" / f"0000000{seed}")
        pointer.write(own, CellDir(run_of(copied, seed)), [])
    shutil.copytree(run_of(copied), study / "01-wide" / "seed-1" / "00000003")
    lines = []
    assert evaluate_study(Wanted(text), study, lines.append) == 0
    assert "3 runs to evaluate" in lines[0]
    assert f"reused from {run_of(copied)}" in lines[1]
    there = CellDir(run_of(copied))
    assert "held-out.txt" in evaluations.read(there)
    assert [path.name for path in (study / "00-base/seed-1").glob("*/*")] == [
        pointer.NAME
    ]
    assert evaluate_study(Wanted(text), copied, lines.append) == 0
    assert "0 runs to evaluate, 2 are evaluated already" in lines[-1]
    own = study / "00-base" / "seed-1" / "00000001"
    assert evaluate_run(Wanted(text, stride=4), own, lines.append) == 0
    assert evaluations.read(there)["held-out.txt"]["settings"]["stride"] == 4
    shutil.rmtree(run_of(copied))
    assert evaluate_study(Wanted(text), study, lines.append) == 1
    assert any("no finished run is any more" in line for line in lines), "not named"


def test_a_study_without_a_finished_run(copied, text, capsys):
    shutil.rmtree(copied / "00-base")
    arguments = ["--study", str(copied), "--text", str(text), "--device", "cpu"]
    assert script.main(arguments) == 1
    assert "none of 1 run is finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, why",
    [
        (["--text", "a"], "one of RUN"),
        (["--run", "a", "--study", "b", "--text", "c"], "one of RUN"),
        (["--run", "a"], "nothing to evaluate on"),
        (["--run", "a", "--tasks", "b", "--stride", "2"], "STRIDE belongs to TEXT"),
        (["--run", "a", "--text", "b", "--limit", "2"], "LIMIT and SHOTS belong"),
        (
            ["--run", "a", "--tasks", "b", "--limit", "0"],
            "--limit=0: must be a whole number, at least 1",
        ),
    ],
)
def test_arguments_that_make_no_sense(arguments, why, capsys):
    with pytest.raises(SystemExit):
        script.main(arguments)
    assert why in capsys.readouterr().err


def test_without_the_extra_the_error_names_it(copied, monkeypatch, capsys):
    import sys

    monkeypatch.delitem(sys.modules, "gpt2.evaluation.tasks", raising=False)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    arguments = ["--run", str(run_of(copied)), "--tasks", "kablate_text"]
    assert script.main([*arguments, "--device", "cpu"]) == 1
    assert "pip install -r requirements-eval.txt" in capsys.readouterr().err
