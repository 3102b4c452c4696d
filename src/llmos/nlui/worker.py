"""The model worker: a process whose only power is to return text.

    python -m llmos.nlui.worker --model PATH [--adapter PATH] [--threads N] [--state PATH]

It speaks JSON, one object a line. First it says `{"ready": true, …}` or `{"failed": "why"}`; then it answers
`{"id", "request", "names", "max_tokens", "constrained"}` with `{"id", "plan_text", "seconds", "tokens", …}` or
`{"id", "error"}`. `{"op": "ping"}` is answered by another thread at any time, so that busy and hung can be told apart;
`{"op": "cancel", "id"}` gives a request up. It ends when its input ends or its parent does.
"""

import argparse
import ctypes
import hashlib
import json
import logging
import os
import queue
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from llmos.errors import LlmosError, TimedOut
from llmos.nlui import frame, prompt
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.grammar import build_grammar

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
NICENESS = 5
MAX_TOKENS = 256
REQUEST_ROOM = 512
"""Tokens of the context kept free for the request and the plan."""

_MARK = "<<request>>"
Request = dict[str, Any]


class Planner:
    """A model that has read the prompt, ready for requests.

    Args:
        adapter: what training made of the model; with it a request stands in its frame and needs no examples.
        state: a file that keeps the evaluated prompt between runs; written when absent or of another prompt.
    """

    def __init__(self, model: Path, threads: int | None, state: Path | None, adapter: Path | None = None) -> None:
        began = time.perf_counter()
        self._model = LanguageModel(model, threads=threads, adapter=adapter)
        if adapter is not None:
            self._prefix = self._model.tokenize(frame.OPENING, special=True)
            self._opening: list[int] = []
            self._closing = self._model.tokenize(frame.CLOSING, special=True)
            state = None
        else:
            self._fit_prompt(min(self._model.context_size, self._model.trained_context) - REQUEST_ROOM)
        self.restored = bool(state and state.is_file() and self._model.restore(state, self._prefix))
        if not self.restored:
            self._model.prefill(self._prefix)
            if state:
                _save(self._model, state)
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
        grammar = build_grammar(text, request.get("names") or []) if request.get("constrained", True) else None
        result = self._model.generate(
            tokens, grammar, max_tokens=int(request.get("max_tokens") or MAX_TOKENS), given_up=given_up
        )
        return {
            "id": request["id"],
            "plan_text": result.text,
            "seconds": time.perf_counter() - began,
            "load_seconds": self.load_seconds,
            "tokens": {
                "prompt": result.prompt,
                "reused": result.reused,
                "generated": result.free,
                "forced": result.forced,
            },
            "confidence": result.confidence,
            "least_confidence": result.least_confidence,
        }

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


def state_key(model: Path) -> str:
    """A name for the evaluated prompt: another model, prompt or llama.cpp gives another."""
    facts = model.stat()
    parts = (str(model.resolve()), facts.st_size, facts.st_mtime_ns, version("llama-cpp-python"), prompt.conversation())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _save(model: LanguageModel, state: Path) -> None:
    try:
        state.parent.mkdir(parents=True, exist_ok=True)
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
    parser.add_argument("--threads", type=int, help="threads to compute with (those idle)")
    parser.add_argument("--state", type=Path, help="folder that keeps the evaluated prompt between runs")
    options = parser.parse_args()
    # What llama.cpp prints must not get between the lines: standard output becomes standard error.
    sink = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    drop_powers()
    talk = Conversation(sys.stdin, sink)
    try:
        state = options.state / f"{state_key(options.model)}.kv" if options.state else None
        planner = Planner(options.model, options.threads, state, options.adapter)
    except (LlmosError, OSError) as error:
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
