"""lm-eval on our decoder: the numbers of its own Hugging Face backend."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
import transformers
import yaml

pytest.importorskip("lm_eval", reason="the extra eval: requirements-eval.txt")

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.evaluator import evaluate  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402

from gpt2.data.tokenization import bpe  # noqa: E402
from gpt2.evaluation import scoring  # noqa: E402
from gpt2.evaluation.command import Wanted, evaluate_study  # noqa: E402
from gpt2.evaluation.errors import EvaluationError  # noqa: E402
from gpt2.evaluation.harness import Adapter  # noqa: E402
from gpt2.evaluation.tasks import SHIPPED, answer, find  # noqa: E402
from gpt2.evaluation.text import evaluate_text  # noqa: E402
from gpt2.export import write  # noqa: E402
from gpt2.export.names import DIALECTS, take  # noqa: E402
from gpt2.generation.generate import Trained, load  # noqa: E402
from gpt2.model.gpt import GPT  # noqa: E402
from gpt2.training.cell import execute  # noqa: E402
from records import evaluations  # noqa: E402
from records.layout import CellDir  # noqa: E402
from records.offline import NAMES  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

pytestmark = pytest.mark.slow

VOCABULARY, CONTEXT = 300, 64
CORPUS = "".join(path.read_text() for path in sorted(SHIPPED.glob("*.jsonl")))


@pytest.fixture(scope="module")
def pair(tmp_path_factory, small):
    """(our model, lm-eval's backend on a Hugging Face folder of the same weights)."""
    folder = tmp_path_factory.mktemp("hf")
    content = bpe.train([CORPUS], VOCABULARY)
    (folder / "bpe.json").write_bytes(content)
    torch.manual_seed(3)
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY,
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_inner=64,
        eos_token_id=VOCABULARY - 1,
        bos_token_id=VOCABULARY - 1,
    )
    theirs = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    theirs.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "bpe.json"), eos_token=bpe.EOT
    ).save_pretrained(folder)
    settings = small(GPT2_VOCAB_SIZE=str(VOCABULARY), GPT2_BLOCK_SIZE=str(CONTEXT))
    ours = GPT(settings.model).eval()
    state = {n: t for n, t in theirs.state_dict().items() if n != "lm_head.weight"}
    take(ours, state, DIALECTS["hf", "gpt2"], VOCABULARY)
    trained = Trained(ours, bpe.trained(content))
    backend = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=4)
    return trained, backend


def asked(kind, *arguments):
    return [
        Instance(kind, {}, each, i, ("made up", i, 1))
        for i, each in enumerate(arguments)
    ]


PAIRS = [
    ("", "The"),
    ("", " harbour was empty when we arrived"),
    ("The sun rises in the", " east"),
    ("The sun rises in the ", "east"),
    ("two blanks  ", " and a third"),
    ("line one\n", "line two\n"),
    ("naïve café — ", "Zürich 東京 😀"),
    ("long " * 100, "context"),
    ("x", " y" * 32),
    ("The sun rises in the", " east"),
    ("def add(a, b):\n    return", " a + b"),
]


def test_log_likelihoods_equal_those_of_the_hugging_face_backend(pair):
    trained, theirs = pair
    ours = Adapter(trained, 4)
    found = ours.loglikelihood(asked("loglikelihood", *PAIRS))
    wanted = theirs.loglikelihood(asked("loglikelihood", *PAIRS), disable_tqdm=True)
    for pair_, (mine, greedy), (other, best) in zip(PAIRS, found, wanted):
        assert mine == pytest.approx(other, abs=2e-4, rel=1e-5), pair_
        assert greedy == best
    assert ours.truncated == 1
    assert found[2] == found[9]


@pytest.mark.parametrize("context", ["The sun ri", "  ", "The sun rises in the ea"])
def test_a_token_over_the_join_is_scored_by_hand(pair, context):
    """lm-eval's backend stops there; the score is that of the continuation's tokens."""
    trained, _ = pair
    continuation = "ses in the east" if context != "  " else "The sun"
    before, after = scoring.pair(trained.tokenizer, context, continuation)
    with torch.no_grad():
        logits_TV = trained.model(torch.tensor([before + after]))[0, :-1, :VOCABULARY]
    log_TV = logits_TV.double().log_softmax(-1)
    n = len(after)
    wanted = log_TV[-n:].gather(1, torch.tensor(after)[:, None]).sum().item()
    [(found, _)] = Adapter(trained, 4).loglikelihood(
        asked("loglikelihood", (context, continuation))
    )
    assert found == pytest.approx(wanted, abs=1e-4)


def test_the_request_that_cannot_be_scored_is_named(pair):
    request = asked("loglikelihood", ("x", " fine"), ("x", " y" * 90))
    why = r"made up, document 1: the continuation ' y y.* tokens, 64 can be scored"
    with pytest.raises(EvaluationError, match=why):
        Adapter(pair[0], 4).loglikelihood(request)


def test_what_is_greedy_is_said_so(pair):
    trained, theirs = pair
    ours = Adapter(trained, 4)
    options = {"until": [], "max_gen_toks": 3}
    context = "The sun rises in the"
    [text] = ours.generate_until(asked("generate_until", (context, options)))
    request = asked("loglikelihood", (context, text), (context, text + "?"))
    found = ours.loglikelihood(request)
    assert [greedy for _, greedy in found] == [
        greedy for _, greedy in theirs.loglikelihood(request, disable_tqdm=True)
    ]


def test_neither_order_nor_batch_changes_a_score(pair):
    trained, _ = pair
    request = asked("loglikelihood", *PAIRS)
    forth = Adapter(trained, 4).loglikelihood(request)
    back = Adapter(trained, 4).loglikelihood(request[::-1])[::-1]
    alone = [Adapter(trained, 1).loglikelihood([each])[0] for each in request]
    assert forth == back
    for (mine, greedy), (other, best) in zip(forth, alone):
        assert mine == pytest.approx(other, abs=1e-4) and greedy == best


TEXTS = ["", "a", "short", CORPUS[:400], CORPUS[:3000], "é" * 200]


def test_rolling_log_likelihoods_equal_those_of_the_hugging_face_backend(pair):
    trained, theirs = pair
    request = asked("loglikelihood_rolling", *((text,) for text in TEXTS))
    found = Adapter(trained, 4).loglikelihood_rolling(request)
    wanted = theirs.loglikelihood_rolling(request, disable_tqdm=True)
    assert found == pytest.approx(wanted, abs=2e-4, rel=1e-5)
    assert found[0] == 0.0 and found[4] < found[3] < found[1] < 0


def test_a_rolling_log_likelihood_is_the_text_with_a_stride_of_the_context(
    pair, tmp_path
):
    trained, _ = pair
    (tmp_path / "text.txt").write_text(CORPUS[:3000])
    whole = evaluate_text(trained, tmp_path / "text.txt", stride=CONTEXT)
    request = asked("loglikelihood_rolling", (CORPUS[:3000],))
    [rolled] = Adapter(trained, 8).loglikelihood_rolling(request)
    assert rolled == pytest.approx(whole.log_probability, rel=1e-6)


@pytest.mark.parametrize("until", [["\n"], ["e", "the"], [".\n", " "], []])
def test_greedy_texts_equal_those_of_the_hugging_face_backend(pair, until):
    trained, theirs = pair
    contexts = ["The", "def add(a, b):\n", "A river does not choose " * 20, "naïve"]
    options = {"until": until, "max_gen_toks": 20, "do_sample": False}
    request = asked("generate_until", *((text, options) for text in contexts))
    found = Adapter(trained, 4).generate_until(request)
    wanted = []
    for each in request:  # alone: left padding would shift learned positions
        wanted += theirs.generate_until([each], disable_tqdm=True)
    assert found == wanted and any(found)


def test_draws_depend_on_the_seed_and_the_prompt_alone(pair):
    trained, _ = pair
    options = {"until": [], "max_gen_toks": 12, "do_sample": True, "temperature": 1.0}
    request = asked("generate_until", *((c, options) for c in ("a", "b", "b")))

    def texts(seed, requests):
        return Adapter(trained, 4, seed).generate_until(requests)

    first = texts(1, request)
    assert texts(1, request[1:] + request[:1]) == first[1:] + first[:1]
    assert texts(2, request) != first
    assert first[1] != first[2]  # the same prompt a second time


@pytest.mark.parametrize(
    "kind, arguments, why",
    [
        ("loglikelihood", ("x", " y" * 90), "can be scored"),
        ("loglikelihood", ("x", ""), "is empty"),
        ("loglikelihood", ("x", "\ud800"), "lone surrogate"),
        ("generate_until", ("x", {"until": [], "max_gen_toks": 64}), "no room"),
        ("generate_until", ("x", {"until": []}), "up to 256 tokens"),
        (
            "generate_until",
            ("x", {"until": [], "max_gen_toks": 3, "num_beams": 4}),
            "num_beams cannot be honoured",
        ),
    ],
)
def test_requests_that_cannot_be_served(pair, kind, arguments, why):
    with pytest.raises(EvaluationError, match=why):
        getattr(Adapter(pair[0], 4), kind)(asked(kind, arguments))


def test_the_shipped_tasks_give_the_numbers_of_the_hugging_face_backend(pair):
    trained, theirs = pair
    tasks = find(["kablate_completion", "kablate_text"])
    found = {each.name: each for each in answer(Adapter(trained, 8), tasks, None, None)}
    wanted = evaluate(
        lm=theirs,
        task_dict={"tasks": {each.name: each.task for each in tasks}, "groups": {}},
        bootstrap_iters=0,
        log_samples=False,
    )["results"]
    assert found["kablate_completion"].metrics.keys() == {"acc", "acc_norm"}
    for name, answers in found.items():
        for metric, value in answers.metrics.items():
            assert value == pytest.approx(wanted[name][f"{metric},none"], rel=1e-5)
    assert found["kablate_text"].better["bits_per_byte"] == "lower"
    assert found["kablate_completion"].better["acc"] == "higher"
    assert found["kablate_text"].requests == 16
    assert 0.05 < found["kablate_completion"].metrics["acc"] < 0.6
    assert found["kablate_text"].metrics["bits_per_byte"] < 40


def test_a_task_of_the_user(pair, tmp_path, monkeypatch):
    """Its data lies beside the YAML, wherever the command is called."""
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = [{"q": f"question {i}", "right": "yes"} for i in range(6)]
    (folder / "data.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    task = {
        "task": "mine",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "data.jsonl"}},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "{{q}}",
        "doc_to_choice": ["yes", "no"],
        "doc_to_target": "{{right}}",
        "metric_list": [{"metric": "acc"}],
    }
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(task))
    monkeypatch.chdir(tmp_path)
    [first] = answer(Adapter(pair[0], 4), find([str(path)]), None, None)
    [again] = answer(Adapter(pair[0], 4), find(["mine/mine.yaml"]), None, None)
    assert first == again and first.requests == 12
    [limited] = answer(Adapter(pair[0], 4), find([str(path)]), 2, None)
    assert limited.requests == 4 and limited.sha256 != first.sha256
    assert limited.source == first.source
    [shots] = answer(Adapter(pair[0], 4), find([str(path)]), None, 0)
    assert shots.sha256 == first.sha256
    (folder / "data.jsonl").write_text(json.dumps(lines[0]) + "\n")
    assert find([str(path)])[0].source != first.source


def test_the_code_of_a_task_is_named_before_it_runs(tmp_path):
    (tmp_path / "ran.py").write_text("import os; os.mkdir(__file__ + '.d'); f = str\n")
    path, said = tmp_path / "mine.yaml", []
    path.write_text("task: x\noutput_type: nonsense\nf: !function ran.f\n")

    def say(line):
        said.append((line, (tmp_path / "ran.py.d").exists()))

    with pytest.raises(EvaluationError, match="no task that lm-eval"):
        find([str(path)], say)
    line = f"TASKS={path} runs code as you: !function ran.f ({path})"
    assert said == [(line, False)] and (tmp_path / "ran.py.d").exists()
    said.clear()
    find(["kablate_text"], say)
    assert said == [], "a shipped task runs none"


@pytest.mark.parametrize(
    "name, why",
    [
        ("kablate_complete", "like kablate_completion"),
        ("nowhere.yaml", "nowhere.yaml: No such file"),
        ("broken.yaml", "broken.yaml: no task that lm-eval"),
        ("torn.yaml", "torn.yaml: no YAML that lm-eval"),
        ("absent.yaml", "absent.yaml: no task that lm-eval .*no function"),
        ("group.yaml", "group.yaml: task is"),
        ("data.yaml", "gone.jsonl: No such file"),
    ],
)
def test_names_that_are_no_task(tmp_path, monkeypatch, name, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.yaml").write_text("task: x\noutput_type: nonsense\n")
    (tmp_path / "torn.yaml").write_text("task: [\n")
    (tmp_path / "absent.yaml").write_text("task: x\nf: !function there.gone\n")
    (tmp_path / "there.py").touch()
    (tmp_path / "group.yaml").write_text("group: x\ntask: [a, b]\n")
    (tmp_path / "data.yaml").write_text(
        "task: x\ndataset_path: json\ndataset_kwargs: {data_files: gone.jsonl}\n"
    )
    with pytest.raises(EvaluationError, match=why):
        find([name])


@pytest.mark.parametrize("name", NAMES)
def test_the_hub_is_not_asked_where_a_variable_says_so(tmp_path, name):
    """At once, whatever library the variable is meant for; in a process that has not
    imported them, before a hub that does not answer.
    """
    program = "from gpt2.evaluation.command import EXPECTED, Evaluator, Wanted\n"
    program += "try: Evaluator(Wanted(tasks=('arc_easy',)), print)\n"
    program += "except EXPECTED as error: print(error)"
    given = {k: v for k, v in os.environ.items() if k not in NAMES}
    given |= {name: "1", "HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=given,
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = f"TASKS: the data of arc_easy cannot be loaded: {name}=1, and it is in no"
    assert said in done.stdout, done.stdout + done.stderr


def test_a_task_twice_is_refused():
    with pytest.raises(EvaluationError, match="kablate_text twice"):
        find(["kablate_text", "kablate_text"])


def test_perplexity_is_the_exponential_of_the_bits(pair):
    [answers] = answer(Adapter(pair[0], 8), find(["kablate_text"]), None, None)
    bits = answers.metrics["bits_per_byte"]
    assert answers.metrics["byte_perplexity"] == pytest.approx(math.exp2(bits))


def test_a_study_is_asked_once(tmp_path, make_cell, corpus):
    place = tmp_path / "00-base" / "seed-1"
    place.mkdir(parents=True)
    cell = make_cell(place / "00000001", GPT2_MAX_ITERS="3", GPT2_BLOCK_SIZE="64")
    assert execute(cell, corpus) == 0
    lines = []

    def ask(**options):
        wanted = Wanted(tasks=("kablate_text", "kablate_completion"), **options)
        assert evaluate_study(wanted, tmp_path, lines.append) == 0
        return evaluations.read(CellDir(cell))

    rows = ask(limit=2)
    assert rows["kablate_text"]["counts"] == {"requests": 2, "truncated": 0}
    assert rows["kablate_completion"]["counts"]["requests"] == 8
    assert rows["kablate_text"]["versions"]["lm_eval"]
    assert rows["kablate_text"]["better"]["bits_per_byte"] == "lower"
    assert ask(limit=2) == rows and "1 are evaluated already" in lines[-1]
    again = ask()
    assert again["kablate_text"]["counts"]["requests"] == 16
    assert again["kablate_text"]["settings"]["limit"] is None


GREEDY = {"until": [], "max_gen_toks": 16, "do_sample": False}
STEPS = {
    "baseline": {},
    "ra": {"RA": "y", "RA_BAND": "6"},
    "mla": {"MLA": "y"},
    "softpick": {"SOFTPICK": "y"},
    "linear": {"MIXER_LINEAR": "y"},
}


@pytest.mark.parametrize("step", STEPS)
def test_an_exported_folder_gives_the_same_numbers(tmp_path, make_cell, corpus, step):
    """What make export leaves, as lm-eval itself reads it."""
    cell = make_cell(tmp_path / "cell", GPT2_BLOCK_SIZE="64", **STEPS[step])
    assert execute(cell, corpus) == 0
    write.deliver(cell, "hf", "fp32", tmp_path / "hf")
    options = {"device": "cpu", "dtype": "float32", "batch_size": 4}
    options["trust_remote_code"] = step != "baseline"
    theirs = HFLM(pretrained=str(tmp_path / "hf"), **options)
    ours = Adapter(load(cell, "cpu"), 4)
    pairs = asked("loglikelihood", *(pair for pair in PAIRS if len(pair[1]) < 50))
    for (mine, _), (other, _) in zip(
        ours.loglikelihood(pairs), theirs.loglikelihood(pairs, disable_tqdm=True)
    ):
        assert mine == pytest.approx(other, abs=2e-4, rel=1e-5)
    tasks = find(["kablate_completion", "kablate_text"])
    wanted = evaluate(
        lm=theirs,
        task_dict={"tasks": {each.name: each.task for each in tasks}, "groups": {}},
        bootstrap_iters=0,
        log_samples=False,
    )["results"]
    for found in answer(ours, tasks, None, None):
        for metric, value in found.metrics.items():
            other = wanted[found.name][f"{metric},none"]
            print(step, found.name, metric, value, other)
            assert value == pytest.approx(other, rel=1e-5)
    request = asked("generate_until", ("line 7", GREEDY), ("a longer prompt", GREEDY))
    assert ours.generate_until(request) == theirs.generate_until(request)
