"""Constrained greedy decoding on llama.cpp's low-level API.

`LanguageModel` holds one model and one context, and the tokens that the context's KV cache holds, so that a prompt that
begins like the last one is evaluated only from where it differs. `generate` picks the likeliest token that a grammar
(llguidance, https://github.com/guidance-ai/llguidance) allows: what the grammar forces goes into the cache in one batch
without being asked for, the model's own first choice is checked before a mask over the vocabulary is computed. (Trying
what the request or earlier plans suggest in the same batch was measured: it saves one batch in seven and costs as much.)
"""

import ctypes
import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmos.errors import ModelError, TimedOut

# Threads that sleep when they wait for one another take twice as long for a token, those that spin for long come to a
# crawl on a busy machine: they spin for some microseconds, then sleep. OpenMP reads this when llama.cpp loads it.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import llama_cpp
from llguidance import LLMatcher, LLParserLimits

from llmos.nlui.vocabulary import Pieces, tokenizer

Messages = Sequence[tuple[str, str]]
"""A conversation: (role, content), the role being system, user or assistant."""

BATCH = 256
"""Tokens evaluated at a time; between two batches a generation can be given up."""

CERTAIN = 0.9
"""Probability from which no runner-up is looked for."""

_LIMITS = LLParserLimits(initial_lexer_fuel=10_000_000, step_lexer_fuel=2_000_000)
"""Ten times llguidance's own: one mask of a long request with a long command in it takes more than those."""

_DIGEST = hashlib.sha256().digest_size


def _reason(matcher: LLMatcher) -> str:
    """What ended a matcher, without the state and the grammar that follow."""
    return str(matcher.get_error()).partition("\n")[0]


def usable_cores() -> int:
    """The cores this process may run on."""
    return len(os.sched_getaffinity(0))


def idle_cores() -> int:
    """Those of the usable cores that nothing else runs on at this moment, at least one."""
    running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    return max(1, usable_cores() - (running - 1))


@dataclass(frozen=True, slots=True)
class Decision:
    """A token that the model was free to choose: where in the text, and how likely it and the next best were.

    The probabilities are among the tokens that the grammar allows. `runner_up` is None where the choice was so likely
    that nobody looked for another.
    """

    position: int
    probability: float
    runner_up: int | None = None
    runner_up_probability: float = 0.0


@dataclass(slots=True)
class Generation:
    """What came of one prompt: the text and its tokens, how many tokens of each sort, and what the model decided.

    Attributes:
        reused: tokens of the prompt that were in the KV cache.
        free, forced: tokens that the model chose and that the grammar left no choice about.
    """

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    prompt: int = 0
    reused: int = 0
    free: int = 0
    forced: int = 0
    decisions: list[Decision] = field(default_factory=list)


class LanguageModel:
    """A GGUF model in memory with one context of `context` tokens.

    Args:
        threads: threads to compute with; when absent the cores that are idle at each evaluation.
        adapter: a GGUF LoRA that was trained on this model.
        learned: another, put on besides where `generate` is told so.
        cache: a file that keeps the vocabulary between loads; written when absent or of another model.

    Raises:
        ModelError: when the file cannot be loaded as a model, or the adapter not put on it.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        context: int = 4096,
        adapter: Path | None = None,
        learned: Path | None = None,
        cache: Path | None = None,
    ) -> None:
        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), llama_cpp.llama_model_default_params())
        if not self._model:
            raise ModelError(f"{path} cannot be loaded as a GGUF model; fetch it again, or choose another")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max = context, BATCH, BATCH, 1
        self._threads = threads
        params.n_threads = params.n_threads_batch = threads or usable_cores()
        params.no_perf = True
        created = llama_cpp.llama_init_from_model(self._model, params)
        if not created:
            raise ModelError(f"no context of {context} tokens could be made for {path}; is there memory left?")
        self._context = created
        self._adapters = [self._loaded(adapter)] if adapter else []
        self._learned = self._loaded(learned) if learned else None
        self._wears_learned = False
        self._put_on(self._adapters)
        self.context_size = context
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        assert vocabulary is not None
        self._vocabulary = vocabulary
        self._width = llama_cpp.llama_vocab_n_tokens(vocabulary)
        pieces = _pieces(vocabulary, path, cache)
        self._ends = frozenset(pieces.ends)
        self._tokenizer = tokenizer(vocabulary, pieces)
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        self._cached: list[int] = []

    @property
    def trained_context(self) -> int:
        """Tokens of context that the model was trained for."""
        return int(llama_cpp.llama_model_n_ctx_train(self._model))

    def _loaded(self, adapter: Path) -> Any:
        loaded = llama_cpp.llama_adapter_lora_init(self._model, os.fsencode(adapter))
        if not loaded:
            raise ModelError(f"{adapter} cannot be loaded as an adapter of this model")
        return loaded

    def _put_on(self, adapters: Sequence[Any]) -> None:
        count = len(adapters)
        pointers = (llama_cpp.llama_adapter_lora_p_ctypes * count)(*adapters)
        if llama_cpp.llama_set_adapters_lora(self._context, pointers, count, (ctypes.c_float * count)(*[1.0] * count)):
            raise ModelError("llama.cpp did not put the adapters on the model")

    def _wear(self, learned: bool) -> None:
        """Have the learned adapter on or off; what the KV cache holds was computed the other way."""
        if learned != self._wears_learned and self._learned is not None:
            self._truncate(0)
            self._put_on([*self._adapters, self._learned] if learned else self._adapters)
            self._wears_learned = learned

    def chat(self, messages: Messages, *, answer: bool) -> str:
        """The conversation in the model's own chat format (chatml when it names none); with `answer`, the model's
        turn is opened at the end."""
        template = llama_cpp.llama_model_chat_template(self._model, None) or b"chatml"
        rows = (llama_cpp.llama_chat_message * len(messages))()
        for row, (role, content) in zip(rows, messages, strict=True):
            row.role, row.content = role.encode(), content.encode()
        buffer = ctypes.create_string_buffer(2 * sum(len(row.role) + len(row.content) + 64 for row in rows))
        length = llama_cpp.llama_chat_apply_template(template, rows, len(rows), answer, buffer, len(buffer))
        if not 0 <= length <= len(buffer):
            raise ModelError("the model's chat format is not known to llama.cpp; choose another model")
        return buffer.raw[:length].decode()

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text; with `special`, the names of control tokens in it mean those tokens."""
        raw = text.encode()
        buffer = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), buffer, len(buffer), False, special)
        return list(buffer[:count])

    def text(self, tokens: list[int]) -> str:
        """What tokens say; a part of a character at the end is replaced."""
        return self._tokenizer.decode_bytes(tokens).decode(errors="replace")

    def prefill(self, tokens: Sequence[int], *, given_up: Callable[[], bool] = lambda: False) -> int:
        """Make the KV cache hold exactly `tokens`; returns how many of them it held already."""
        self.check_room(len(tokens))
        kept = 0
        for ours, theirs in zip(self._cached, tokens, strict=False):
            if ours != theirs:
                break
            kept += 1
        # The last token is always evaluated, for its logits.
        kept = max(0, min(kept, len(tokens) - 1))
        self._truncate(kept)
        self._evaluate(tokens[kept:], given_up)
        return kept

    def generate(
        self,
        prompt: Sequence[int],
        grammar: str | None,
        *,
        begun: Sequence[int] = (),
        learned: bool = False,
        max_tokens: int = 256,
        given_up: Callable[[], bool] = lambda: False,
    ) -> Generation:
        """Continue the prompt until the grammar or the model ends it, at most `max_tokens`.

        Args:
            grammar: what may come, in llguidance's Lark dialect.
            begun: tokens that the text begins with.
            learned: with the learned adapter, where there is one.

        Raises:
            ModelError: the grammar is not valid, or nothing in it fits; the prompt is longer than the context.
            TimedOut: `given_up` said so.
        """
        self._wear(learned)
        matcher = self.matcher(grammar) if grammar else None
        limit = min(max_tokens, self.context_size - len(prompt))
        self.check_room(len(prompt) + 1)
        if matcher and begun and not matcher.consume_tokens(list(begun)):
            raise ModelError(f"the grammar broke off: {_reason(matcher)}")
        produced = [*begun, *self._forced(matcher)]
        result = Generation(tokens=produced, prompt=len(prompt), forced=len(produced))
        result.reused = self.prefill([*prompt, *produced], given_up=given_up)
        while len(produced) < limit and not (matcher and matcher.is_stopped()):
            token, decision = self._choose(matcher, len(produced))
            result.decisions.append(decision)
            if token in self._ends:
                break
            if matcher and not matcher.consume_token(token):
                raise ModelError(f"the grammar broke off: {_reason(matcher)}")
            forced = self._forced(matcher)[: limit - len(produced) - 1]
            result.free, result.forced = result.free + 1, result.forced + len(forced)
            produced += [token, *forced]
            if matcher and matcher.is_stopped():
                break
            self._evaluate([token, *forced], given_up)
        result.text = self.text(produced)
        return result

    def matcher(self, grammar: str) -> LLMatcher:
        """What follows a grammar in llguidance's Lark dialect, over this model's vocabulary.

        Raises:
            ModelError: the grammar is not valid.
        """
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0, limits=_LIMITS)
        if matcher.is_error():
            raise ModelError(f"the grammar is not valid: {_reason(matcher)}")
        return matcher

    def save(self, path: Path) -> None:
        """Write the KV cache and its tokens to a file, all or nothing, with a checksum: llama.cpp's own reader ends
        the process on a damaged file."""
        size = llama_cpp.llama_state_seq_get_size(self._context, 0)
        cache = (ctypes.c_uint8 * size)()
        written = llama_cpp.llama_state_seq_get_data(self._context, cache, size, 0)
        body = _pack(self._cached) + bytes(cache[:written])
        partial = path.with_suffix(f".{os.getpid()}.part")
        partial.write_bytes(hashlib.sha256(body).digest() + body)
        partial.replace(path)

    def restore(self, path: Path, tokens: Sequence[int]) -> bool:
        """Take the KV cache from a file that `save` wrote, if it is whole and of exactly these tokens."""
        data = memoryview(path.read_bytes())
        digest, body, head = data[:_DIGEST], data[_DIGEST:], _pack(tokens)
        if hashlib.sha256(body).digest() != digest or body[: len(head)] != head:
            return False
        cache = (ctypes.c_uint8 * (len(body) - len(head))).from_buffer_copy(body[len(head) :])
        self._truncate(0)
        if not llama_cpp.llama_state_seq_set_data(self._context, cache, len(cache), 0):
            self._truncate(0)
            return False
        self._cached = list(tokens)
        return True

    @staticmethod
    def _forced(matcher: LLMatcher | None) -> list[int]:
        """What the grammar leaves no choice about, taken."""
        tokens = matcher.compute_ff_tokens() if matcher else []
        if matcher and tokens and not matcher.consume_tokens(tokens):
            raise ModelError(f"the grammar broke off: {_reason(matcher)}")
        return tokens

    def _choose(self, matcher: LLMatcher | None, position: int) -> tuple[int, Decision]:
        """The likeliest allowed token after what was evaluated last."""
        pointer = llama_cpp.llama_get_logits_ith(self._context, -1)
        logits: NDArray[np.float32] = np.ctypeslib.as_array(pointer, shape=(self._width,))
        best = int(logits.argmax())
        odds = np.exp(logits - logits[best])
        probability = 1.0 / float(odds.sum())
        fits = matcher is None or matcher.validate_tokens([best]) == 1
        if fits and probability >= CERTAIN:
            return best, Decision(position, probability)
        if matcher is not None:
            mask = np.unpackbits(np.frombuffer(matcher.compute_bitmask(), np.uint8), bitorder="little")[: self._width]
            if matcher.is_error() or not mask.any():
                raise ModelError(f"nothing in the grammar fits: {_reason(matcher)}")
            allowed = np.where(mask, logits, -np.inf)
            best = int(allowed.argmax())
            odds = np.exp(allowed - allowed[best])
        total = float(odds.sum())
        odds[best] = 0.0
        second = int(odds.argmax())
        return best, Decision(position, 1.0 / total, second if odds[second] else None, float(odds[second]) / total)

    def _truncate(self, length: int) -> None:
        llama_cpp.llama_memory_seq_rm(llama_cpp.llama_get_memory(self._context), 0, length, -1)
        del self._cached[length:]

    def _evaluate(self, tokens: Sequence[int], given_up: Callable[[], bool]) -> None:
        """Append tokens to the KV cache; the logits of the last are then at hand."""
        threads = self._threads or idle_cores()
        llama_cpp.llama_set_n_threads(self._context, threads, threads)
        for start in range(0, len(tokens), BATCH):
            if given_up():
                raise TimedOut("the request was given up")
            chunk = tokens[start : start + BATCH]
            batch = self._batch
            batch.n_tokens = len(chunk)
            for index, token in enumerate(chunk):
                batch.token[index] = token
                batch.pos[index] = len(self._cached) + index
                batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
                batch.logits[index] = index == len(chunk) - 1
            if status := llama_cpp.llama_decode(self._context, batch):
                raise ModelError(f"the model could not evaluate {len(chunk)} tokens (llama_decode: {status})")
            self._cached += chunk

    def check_room(self, tokens: int) -> None:
        """Raise when a prompt of so many tokens does not fit the context."""
        if tokens > self.context_size:
            raise ModelError(
                f"the request makes a prompt of {tokens} tokens, more than the {self.context_size} that fit; shorten it"
            )


def _pieces(vocabulary: llama_cpp.llama_vocab_p, path: Path, cache: Path | None) -> Pieces:
    facts = path.stat()
    key = f"{path.resolve()} {facts.st_size} {facts.st_mtime_ns} {llama_cpp.__version__}"
    if cache and (kept := Pieces.read(cache, key)):
        return kept
    pieces = Pieces.cut(vocabulary)
    if cache:
        pieces.write(cache, key)
    return pieces


def _pack(tokens: Sequence[int]) -> bytes:
    """Tokens as bytes, their count before them."""
    return np.array([len(tokens), *tokens], dtype=np.int32).tobytes()
