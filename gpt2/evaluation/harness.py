"""A trained model as lm-evaluation-harness sees one (lm_eval.api.model.LM).

Requests become windows of tokens (gpt2/evaluation/scoring.py) or texts that the
cached decoder goes on with (gpt2/generation/generate.py), by the conventions of lm-eval's own
Hugging Face backend, so that both give the same numbers: an empty context is the
separator, blanks at the end of a context belong to the continuation, a context
that is too long loses its beginning, and a text longer than the model's context is
scored in windows of stride T. They differ where a token of both texts together
reaches over the join: there that backend scores too little, or nothing and stops.
"""

import hashlib

import numpy as np
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs

from gpt2.data.tokenization.tokenizers import TokenizerError
from gpt2.evaluation.errors import EvaluationError
from gpt2.evaluation.scoring import Scored, Window, pair, score
from gpt2.evaluation.text import windows
from gpt2.generation.generate import Reader, Request, Trained, sample
from gpt2.generation.sampling import Sampling
from gpt2.generation.text_stream import TextStream
from records.progress_line import Counted

GENERATED = 256
"""Tokens to generate where a task does not say, as in lm-eval."""
SAMPLED = ("temperature", "top_k", "top_p", "min_p")


def _named(request: Instance) -> str:
    """A request in words: its task and document."""
    return f"{request.task_name}, document {request.doc_id}"


class Adapter(LM):
    """Scores and texts of a trained model, whatever the order of the requests.

    truncated: requests whose context lost its beginning, so far.
    """

    def __init__(
        self,
        trained: Trained,
        batch: int,
        seed: int = 1,
        progress: Counted | None = None,
    ):
        super().__init__()
        self.trained, self.batch, self.seed = trained, batch, seed
        self.progress = progress or Counted("tasks", 0, scale=1, unit="requests")
        self.truncated = 0

    @property
    def eot_token_id(self) -> int:
        """The separator, which also stands for an empty context."""
        return self.trained.tokenizer.eot

    @property
    def max_length(self) -> int:
        """Tokens that the model can read."""
        return self.trained.context

    def _tokens(self, request: Instance, text: str) -> list[int]:
        """Tokens of a text. Raises EvaluationError that names the request."""
        try:
            return self.trained.tokenizer.encode(text).tolist()
        except TokenizerError as error:
            raise EvaluationError(
                f"{_named(request)}: {text!r:.60}: {error}"
            ) from error

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """(log p of the continuation in nats, whether greedy decoding gives it)."""
        made = []
        for request in requests:
            texts = request.args
            try:
                made.append(self._window(texts, *self._encode_pair(*texts)))
            except (EvaluationError, TokenizerError) as error:
                raise EvaluationError(f"{_named(request)}: {error}") from error
        return [(s.log_probability, s.greedy) for s in self._score(made)]

    def _encode_pair(
        self, context: str, continuation: str
    ) -> tuple[list[int], list[int]]:
        return pair(self.trained.tokenizer, context, continuation)

    def _window(
        self, texts: tuple[str, str], context: list[int], continuation: list[int]
    ) -> Window:
        """The continuation after as much of its context as the model can read."""
        n, room = len(continuation), self.max_length
        if not texts[1]:
            raise EvaluationError(f"the continuation of {texts[0]!r:.60} is empty")
        if n > room:
            raise EvaluationError(
                f"the continuation {texts[1]!r:.60} has {n} tokens, {room} can be "
                "scored (CONFIG_GPT2_BLOCK_SIZE)"
            )
        whole = np.array(context + continuation)
        self.truncated += len(whole) > room + 1
        return Window(whole[-(room + 1) : -1], whole[-n:])

    def _score(self, made: list[Window]) -> list[Scored]:
        """The windows' scores. Their batches are made of a sorted list, so that the
        order of the requests changes no bit of them.
        """
        key = [(-len(w.inputs), w.inputs.tolist(), w.targets.tolist()) for w in made]
        order = sorted(range(len(made)), key=key.__getitem__)
        found: list[Scored | None] = [None] * len(made)
        ordered = (made[place] for place in order)
        self.progress.total += len(made)
        for place, scored in zip(order, score(self.trained, ordered, self.batch)):
            found[place] = scored
            self.progress.advance(1)
        return found

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """log p of each whole text in nats, as gpt2/evaluation/text.py cuts it with
        a stride of the whole context.
        """
        made, owners = [], []
        for number, request in enumerate(requests):
            tokens = np.array(
                [self.eot_token_id, *self._tokens(request, request.args[0])]
            )
            cut = list(windows(tokens, self.max_length, self.max_length))
            made += cut
            owners += [number] * len(cut)
        totals = [0.0] * len(requests)
        for owner, scored in zip(owners, self._score(made)):
            totals[owner] += scored.log_probability
        return totals

    def generate_until(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[str]:
        """The continuation of each context, up to the first stop string."""
        seen: dict[str, int] = {}
        texts = []
        self.progress.total += len(requests)
        for request in requests:
            context, arguments = request.args
            key = f"{self.seed}:{context}:{seen.get(context, 0)}"
            seen[context] = seen.get(context, 0) + 1
            texts.append(self._continue(request, context, arguments, key))
            self.progress.advance(1)
        return texts

    def _continue(
        self, request: Instance, context: str, arguments: dict, key: str
    ) -> str:
        task = request.task_name
        options = normalize_gen_kwargs(arguments, GENERATED)
        stops = handle_stop_sequences(options.pop("until"), eos=None)
        count, sampled = options.pop("max_gen_toks"), options.pop("do_sample")
        room = self.max_length - count
        if room < 1:
            raise EvaluationError(
                f"{task} generates up to {count} tokens: that leaves no room for a "
                f"prompt in a context of {self.max_length}; set max_gen_toks in the "
                "task's generation_kwargs"
            )
        given = {name: options.pop(name) for name in SAMPLED if name in options}
        if options:
            raise EvaluationError(
                f"{task}: generation_kwargs {', '.join(options)} cannot be honoured; "
                f"known: until, max_gen_toks, do_sample, {', '.join(SAMPLED)}"
            )
        tokens = self._tokens(request, context) or [self.eot_token_id]
        self.truncated += len(tokens) > room
        sampling = Sampling(**given) if sampled else Sampling(temperature=0.0)
        seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
        wanted = Request(context, count, sampling, seed)
        return self._text(tokens[-room:], wanted, tuple(filter(None, stops)))

    def _text(self, prompt: list[int], request: Request, stops: tuple[str, ...]) -> str:
        stream, text = TextStream(stops), ""
        for token in sample(Reader(self.trained), prompt, request):
            if token == self.eot_token_id:
                break
            text += stream.feed(self.trained.tokenizer.decode(np.array([token])))
            if stream.met is not None:
                break
        return text + stream.close()
