"""A trained model behind the interface of lm-evaluation-harness."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs

from flows.evaluation.answers import Answers
from llama_core.corpus.tokenizer import BOS, EOS, UNKNOWN, Tokenizer
from llama_core.inference.generate import generate_rows
from llama_core.inference.score import Score, score_continuations
from llama_core.model import Llama

# Length of an answer if the task sets none; the harness's default.
_ANSWER_TOKENS = 256
_SETTINGS = {"do_sample", "until", "max_gen_toks", "temperature"}


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """One of our models for the harness: texts in, likelihoods and texts out.

    Attributes:
        requests: number of requests so far.
        cut: requests whose prompt lost its beginning, as prompt and answer exceed `seq_len`.
        unknown: requests with characters that the tokenizer has no piece for, or replaced by a
            question mark.
        shortened: limit on an answer's tokens, if it is below the task's.
    """

    def __init__(
        self,
        net: Llama,
        tokenizer: Tokenizer,
        answers: Answers,
        *,
        seq_len: int,
        batch_tokens: int,
        half: bool = False,
        advance: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Args:
        answers: the cache; read first, written after every answer.
        seq_len: the length the model was trained on.
        batch_tokens: tokens that go through the model at once.
        half: multiply in bf16.
        advance: called with the number of requests answered and their total.
        """
        super().__init__()
        self._net, self._tokenizer, self._answers = net, tokenizer, answers
        self._seq_len, self._batch_tokens, self._half = seq_len, batch_tokens, half
        self._advance = advance
        self._done = 0
        self.requests = self.cut = self.unknown = 0
        self.shortened: int | None = None
        self._device = net.lm_head.weight.device

    @property
    def eot_token_id(self) -> int:
        """The token that ends a document."""
        return EOS

    @property
    def prefix_token_id(self) -> int:
        """The token before a text without context."""
        return BOS

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: object
    ) -> list[int]:
        """Ids of a text, after a BOS unless `add_special_tokens` is False."""
        ids = self._tokenizer.encode(string)
        return ids if add_special_tokens is False else [BOS, *ids]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Any]:
        """Log-probability of each continuation of its context, and whether it is the greedy one."""
        return list(super().loglikelihood(requests, disable_tqdm=disable_tqdm))

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[tuple[str, str], list[int], list[int]]], **kwargs: object
    ) -> list[tuple[float, bool]]:
        keys = self._keys("loglikelihood", [texts for texts, _, _ in requests])
        pieces: list[tuple[list[int], list[int]]] = []
        owners: list[int] = []
        for place, (texts, context, continuation) in enumerate(requests):
            self._count(texts, [*context, *continuation], cut=self._seq_len + 1)
            if keys[place] not in self._answers:
                for piece in self._pieces(context, continuation):
                    pieces.append(piece)
                    owners.append(place)
        logs: dict[int, list[Score]] = {}
        left = Counter(owners)
        with self._precision():
            scores = score_continuations(self._net, pieces, batch_tokens=self._batch_tokens)
            for at, score in scores:
                place = owners[at]
                logs.setdefault(place, []).append(score)
                if len(logs[place]) == left[place]:
                    total = sum(score.log_probability for score in logs[place])
                    self._answer(keys[place], (total, all(score.greedy for score in logs[place])))
        return [(self._answers[key][0], self._answers[key][1]) for key in keys]

    def _pieces(
        self, context: list[int], continuation: list[int]
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Pairs of visible context and continuation; a continuation over `seq_len` in parts."""
        size = len(continuation) if len(continuation) <= self._seq_len else self._seq_len // 2
        whole = [*context, *continuation]
        for start in range(len(context), len(whole), size):
            part = whole[start : start + size]
            yield whole[max(0, start + len(part) - self._seq_len - 1) : start], part

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:
        """Not needed by our benchmarks: training evaluates the loss on held-out text."""
        raise NotImplementedError("perplexity of whole texts")

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """Continue each prompt until a stop text, the end of the document, or the limit."""
        keys = self._keys("generate_until", [request.args for request in requests])
        by_settings: dict[str, list[int]] = {}
        for place, request in enumerate(requests):
            by_settings.setdefault(json.dumps(request.args[1], sort_keys=True), []).append(place)
        for places in by_settings.values():
            settings = normalize_gen_kwargs(requests[places[0]].args[1], _ANSWER_TOKENS)
            if unsupported := sorted(set(settings) - _SETTINGS):
                raise ValueError(
                    f"the task sets {', '.join(unsupported)}; generation supports only "
                    f"{', '.join(sorted(_SETTINGS))}."
                )
            # At least half of the sequence is left to the prompt.
            limit = min(settings["max_gen_toks"], self._seq_len // 2)
            if limit < settings["max_gen_toks"]:
                self.shortened = min(limit, self.shortened or limit)
            room = self._seq_len - limit
            missing = []
            for place in places:
                prompt = self.tok_encode(requests[place].args[0])
                self._count(requests[place].args[:1], prompt, cut=room)
                if keys[place] not in self._answers:
                    missing.append((prompt[-room:], keys[place]))
            self._generate(missing, settings["until"], limit)
        return [self._answers[key] for key in keys]

    def _generate(
        self, missing: list[tuple[list[int], str]], until: Sequence[str], limit: int
    ) -> None:
        """Answer prompts in batches of similar length, longest first."""
        missing.sort(key=lambda pair: len(pair[0]), reverse=True)
        while missing:
            rows = max(1, self._batch_tokens // (len(missing[0][0]) + limit))
            batch, missing = missing[:rows], missing[rows:]
            texts = self._continued([prompt for prompt, _ in batch], until, limit)
            for (_, key), text in zip(batch, texts, strict=True):
                self._answer(key, text)

    def _continued(
        self, prompts: Sequence[Sequence[int]], until: Sequence[str], limit: int
    ) -> list[str]:
        stops = [stop for stop in until if stop]
        ids: list[list[int]] = [[] for _ in prompts]
        texts: list[str | None] = [None] * len(prompts)
        with self._precision():
            for chosen in generate_rows(self._net, prompts, max_new_tokens=limit):
                for row, token in enumerate(chosen):
                    if texts[row] is None:
                        texts[row] = self._ended(ids[row], token, stops)
                if all(text is not None for text in texts):
                    break
        return [
            text if text is not None else self._tokenizer.decode(row)
            for text, row in zip(texts, ids, strict=True)
        ]

    def _ended(self, ids: list[int], token: int, stops: Sequence[str]) -> str | None:
        """Add a token; the answer if that ends it, else None."""
        if token == EOS:
            return self._tokenizer.decode(ids)
        ids.append(token)
        text = self._tokenizer.decode(ids)
        ends = [at for stop in stops if (at := text.find(stop)) >= 0]
        return text[: min(ends)] if ends else None

    def _keys(self, kind: str, requests: Sequence[Any]) -> list[str]:
        keys = self._answers.keys(kind, requests)
        self.requests += len(keys)
        self._done += sum(key in self._answers for key in keys)
        self._advance(self._done, self.requests)
        return keys

    def _answer(self, key: str, answer: object) -> None:
        self._answers.add(key, answer)
        self._done += 1
        self._advance(self._done, self.requests)

    def _count(self, texts: Sequence[str], ids: Sequence[int], *, cut: int) -> None:
        self.cut += len(ids) > cut
        lost = any(self.as_read(text).count("?") > text.count("?") for text in texts)
        self.unknown += lost or UNKNOWN in ids

    def as_read(self, text: str) -> str:
        """A text as the tokenizer encodes it, characters it lacks replaced."""
        return self._tokenizer.as_read(text)

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self._device.type, torch.bfloat16) if self._half else nullcontext()
