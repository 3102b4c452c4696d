"""The tokens of a GGUF file, cut by llama.cpp itself, so that training and serving can't differ in them."""

import ctypes
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import llama_cpp

from llmos.errors import ModelError
from llmos.nlui import frame


class Vocabulary:
    """The vocabulary of a model file; its weights are not loaded.

    Raises:
        ModelError: the file is no GGUF model, or lacks the control tokens of the frame.
    """

    def __init__(self, path: Path) -> None:
        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
        llama_cpp.llama_backend_init()
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise ModelError(f"{path} cannot be loaded as a GGUF model; fetch it again, or choose another")
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.size = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        opening, closing, end = (
            self.tokenize(mark, special=True) for mark in (frame.OPENING, frame.CLOSING, frame.END)
        )
        if not len(opening) == len(closing) == len(end) == 1:
            raise ModelError(f"{path} has no tokens {frame.OPENING} and {frame.END}; choose a model with a chat format")
        self.opening, self.closing, self.end = opening[0], closing[0], end[0]

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Tokens of a text; with `special`, the names of control tokens in it mean those tokens."""
        raw = text.encode()
        buffer = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(self._vocabulary, raw, len(raw), buffer, len(buffer), False, special)
        return list(buffer[:count])

    def prompt(self, request: str) -> list[int]:
        """A request in the frame, up to where the plan begins."""
        return [self.opening, *self.tokenize(request), self.closing]

    def completion(self, plan: Iterable[str]) -> list[int]:
        """The lines of a plan and the token that ends it."""
        return [*self.tokenize("\n".join(plan)), self.end]

    def text(self, tokens: Iterable[int]) -> str:
        """The text of tokens, up to the one that ends a plan."""
        pieces = bytearray()
        buffer = (ctypes.c_char * 256)()
        for token in tokens:
            if token == self.end:
                break
            length = llama_cpp.llama_token_to_piece(self._vocabulary, token, buffer, len(buffer), 0, False)
            pieces += buffer.raw[:length]
        return pieces.decode(errors="replace")
