"""The model worker: a process whose only power is to return text.

    python -m llmos.nlui.worker --model PATH [--trained] [--adapter PATH] [--learned PATH --taught PATH] [--sure P] …

It speaks JSON, one object a line. First it says `{"ready": true, …}` or `{"failed": "why"}`; then it answers
`{"id", "request", "names", "max_tokens", "constrained"}` with `{"id", "plan_text", "confidence", "seconds", …}` or
`{"id", "error"}`; a plan less likely than `--sure` comes with the `other` one that its request may mean.
`{"op": "ping"}` is answered by another thread at any time, so that busy and hung can be told apart;
`{"op": "cancel", "id"}` gives a request up. It ends when its input ends or its parent does.
"""

import argparse
import ctypes
import hashlib
import json
import logging
import math
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from llmos.errors import BadInput, LlmosError, TimedOut
from llmos.nlui import frame, prompt
from llmos.nlui.taught import NOTHING, Taught

if TYPE_CHECKING:
    from llmos.nlui.decoding import Decision, Generation, LanguageModel

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
NICENESS = 5
MAX_TOKENS = 256
REQUEST_ROOM = 512
"""Tokens of the context kept free for the request and the plan."""
TRAINED_CONTEXT, EXAMPLES_CONTEXT = 1024, 4096
"""Tokens of context: enough for a long request and its plan; with the examples of an untrained model before them."""
OTHER_TRIES = 3
"""Decisions, the closest first, at which another reading is looked for."""

_MARK = "<<request>>"
_FREELY_WORDED = ("ask ", "refuse ")
Request = dict[str, Any]


class Planner:
    """A model that is ready for requests.

    Args:
        model, adapter: the model's file, and a GGUF LoRA that was trained on it.
        trained: the model itself, or with its adapter, was trained for this: a request stands in its frame and needs no
            examples before it.
        learned, taught: an adapter to put on besides for the requests that `taught` concerns.
        sure: probability of a plan below which the other reading of its request is looked for.
        state: a folder that keeps the vocabulary and the evaluated prompt between runs.
    """

    def __init__(
        self,
        model: Path,
        *,
        adapter: Path | None = None,
        trained: bool = False,
        learned: Path | None = None,
        taught: Taught = NOTHING,
        sure: float = 0.0,
        threads: int | None = None,
        state: Path | None = None,
    ) -> None:
        began = time.perf_counter()
        self._taught, self._sure = taught, sure
        if state:
            state.mkdir(parents=True, exist_ok=True)
        trained = trained or adapter is not None
        # The model is read while the grammar, and with it every syscall, is imported.
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(_load, model, adapter, learned, trained, threads, state)
            from llmos.nlui.grammar import build_grammar

            self._grammar = build_grammar
            self._model = reading.result()
        if trained:
            self._prefix = self._model.tokenize(frame.OPENING, special=True)
            self._opening: list[int] = []
            self._closing = self._model.tokenize(frame.CLOSING, special=True)
        else:
            self._fit_prompt(min(self._model.context_size, self._model.trained_context) - REQUEST_ROOM)
        kept = state / f"{state_key(model)}.kv" if state and not trained else None
        self.restored = bool(kept and kept.is_file() and self._model.restore(kept, self._prefix))
        if not self.restored:
            self._model.prefill(self._prefix)
            if kept:
                _save(self._model, kept)
        self.load_seconds = time.perf_counter() - began

    @property
    def prefix_tokens(self) -> int:
        """Tokens of the prompt before the request."""
        return len(self._prefix)

    def plan(self, request: Request, given_up: Callable[[], bool]) -> Request:
        """Answer one request."""
        began = time.perf_counter()
        text = str(request["request"])
        # The request is tokenized by itself: a control token written in it stays plain text.
        tokens = [*self._prefix, *self._opening, *self._model.tokenize(text, special=False), *self._closing]
        self._model.check_room(len(tokens) + MAX_TOKENS)
        constrained = request.get("constrained", True)
        names = request.get("names") or []
        grammar = self._grammar(text, names, self._taught.offered(text)) if constrained else None
        limit = int(request.get("max_tokens") or MAX_TOKENS)
        generate = partial(
            self._model.generate,
            tokens,
            grammar,
            learned=self._taught.concerns(text),
            max_tokens=limit,
            given_up=given_up,
        )
        result = generate()
        telling = self._telling(result)
        probabilities = [decision.probability for decision in telling]
        answer = {
            "id": request["id"],
            "plan_text": result.text,
            "load_seconds": self.load_seconds,
            "tokens": {
                "prompt": result.prompt,
                "reused": result.reused,
                "generated": result.free,
                "forced": result.forced,
            },
            "confidence": math.prod(probabilities),
            "least_confidence": min(probabilities, default=1.0),
            "other": None,
        }
        if answer["confidence"] < self._sure:
            answer["other"] = self._other(result, telling, generate)
        return {**answer, "seconds": time.perf_counter() - began}

    def _telling(self, result: "Generation") -> list["Decision"]:
        """The decisions that the meaning hangs on: of a question or a refusal its verb alone, for its wording is free."""
        verb = next((verb for verb in _FREELY_WORDED if result.text.startswith(verb)), "")
        if not verb:
            return result.decisions
        return [one for one in result.decisions if len(self._model.text(result.tokens[: one.position])) < len(verb)]

    def _other(
        self, first: "Generation", telling: Sequence["Decision"], generate: "Callable[..., Generation]"
    ) -> str | None:
        """The next best reading: where the choice was closest, the runner-up is taken; None when all mean the same."""
        close = [decision for decision in telling if decision.runner_up is not None]
        close.sort(key=lambda decision: decision.runner_up_probability / decision.probability, reverse=True)
        for decision in close[:OTHER_TRIES]:
            begun = [*first.tokens[: decision.position], decision.runner_up or 0]
            text = generate(begun=begun).text
            if not _same(text, first.text):
                return text
        return None

    def _fit_prompt(self, room: int) -> None:
        """Take as many examples as the context has room for."""
        for count in range(len(prompt.EXAMPLES), -1, -1):
            turns = prompt.conversation(count)
            before = self._model.chat(turns, answer=False)
            opening, _, closing = self._model.chat([*turns, ("user", _MARK)], answer=True)[len(before) :].partition(
                _MARK
            )
            self._prefix = self._model.tokenize(before, special=True)
            self._opening = self._model.tokenize(opening, special=True)
            self._closing = self._model.tokenize(closing, special=True)
            if len(self._prefix) <= room:
                return
        raise LlmosError(f"the prompt has {len(self._prefix)} tokens, more than the model's {room}")


def _load(
    model: Path,
    adapter: Path | None,
    learned: Path | None,
    trained: bool,
    threads: int | None,
    state: Path | None,
) -> "LanguageModel":
    from llmos.nlui.decoding import LanguageModel

    context = TRAINED_CONTEXT if trained else EXAMPLES_CONTEXT
    cache = state / "vocabulary.bin" if state else None
    return LanguageModel(model, threads=threads, context=context, adapter=adapter, learned=learned, cache=cache)


def _same(one: str, other: str) -> bool:
    """Whether two texts are the same plan; one that is no plan is nobody's reading."""
    from llmos.plan.language import parse_plan

    try:
        return parse_plan(one) == parse_plan(other)
    except BadInput:
        return True


def state_key(model: Path) -> str:
    """A name for the evaluated prompt: another model, prompt or llama.cpp gives another."""
    facts = model.stat()
    parts = (str(model.resolve()), facts.st_size, facts.st_mtime_ns, version("llama-cpp-python"), prompt.conversation())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _save(model: "LanguageModel", state: Path) -> None:
    try:
        for old in state.parent.glob(f"*{state.suffix}"):
            old.unlink(missing_ok=True)
        model.save(state)
    except OSError as error:
        log.warning("the evaluated prompt is not kept: %s", error)


def drop_powers() -> None:
    """Die with the parent, gain no privilege, dump no core, and yield to others."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)


class Conversation:
    """The lines in and out; a thread of its own reads them, so pings are answered while the model thinks."""

    def __init__(self, source: IO[str], sink: IO[str]) -> None:
        self._source, self._sink = source, sink
        self._writing = threading.Lock()
        self._requests: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._cancelled: set[object] = set()
        threading.Thread(target=self._read, name="reader", daemon=True).start()

    def say(self, line: Request) -> None:
        """Write one object."""
        with self._writing:
            self._sink.write(json.dumps(line, ensure_ascii=False) + "\n")
            self._sink.flush()

    def serve(self, planner: Planner) -> None:
        """Answer requests until the input ends."""
        while (request := self._requests.get()) is not None:
            key = request.get("id")
            try:
                self.say(planner.plan(request, lambda key=key: key in self._cancelled))  # type: ignore[misc]
            except TimedOut:
                self.say({"id": key, "cancelled": True})
            except LlmosError as error:
                self.say({"id": key, "error": error.message})
            except Exception as error:
                log.exception("request %s failed", key)
                self.say({"id": key, "error": f"the model worker failed: {error!r}"})
            self._cancelled.discard(key)

    def _read(self) -> None:
        for line in self._source:
            message = json.loads(line)
            match message.get("op"):
                case "ping":
                    self.say({"pong": True})
                case "cancel":
                    self._cancelled.add(message.get("id"))
                case _:
                    self._requests.put(message)
        self._requests.put(None)


def main() -> int:
    """Run the worker; the exit status is 3 when the model could not be loaded."""
    parser = argparse.ArgumentParser(
        prog="llmos.nlui.worker", description="Turns requests into plans, over JSON lines."
    )
    parser.add_argument("--model", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--adapter", type=Path, help="a GGUF LoRA that was trained on the model")
    parser.add_argument("--trained", action="store_true", help="the model was trained for this; it needs no examples")
    parser.add_argument("--learned", type=Path, help="a GGUF LoRA to put on besides for what was taught")
    parser.add_argument("--taught", type=Path, help="JSON file of what was taught (llmos.nlui.taught)")
    parser.add_argument("--sure", type=float, default=0.0, help="probability below which another reading is looked for")
    parser.add_argument("--threads", type=int, help="threads to compute with (those idle)")
    parser.add_argument("--state", type=Path, help="folder that keeps what takes long to load")
    options = parser.parse_args()
    # What llama.cpp prints must not get between the lines: standard output becomes standard error.
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    drop_powers()
    talk = Conversation(sys.stdin, sink)
    try:
        planner = Planner(
            options.model,
            adapter=options.adapter,
            trained=options.trained,
            learned=options.learned,
            taught=Taught.read(options.taught) if options.taught else NOTHING,
            sure=options.sure,
            threads=options.threads,
            state=options.state,
        )
    except (LlmosError, OSError, ValueError, TypeError) as error:
        log.error("%s", error)
        talk.say({"failed": str(error)})
        return 3
    talk.say(
        {
            "ready": True,
            "load_seconds": planner.load_seconds,
            "prefix_tokens": planner.prefix_tokens,
            "prefix_restored": planner.restored,
        }
    )
    talk.serve(planner)
    return 0


if __name__ == "__main__":
    sys.exit(main())
