"""A model's vocabulary as llguidance wants it; cut by llama.cpp once, then kept in a file, for it is half of a load.

The file holds a checksum, the key, the tokens that end a text and the bytes of every token.
"""

import ctypes
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import llama_cpp
from llguidance import LLTokenizer

log = logging.getLogger(__name__)

_DIGEST = hashlib.sha256().digest_size
_MAX_PIECE = 1 << 14
_SPECIAL = b"\xff"
"""Marks a control token for llguidance, which then never takes it for text."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The bytes of every token, control tokens marked, and the tokens that end a text."""

    tokens: list[bytes]
    ends: list[int]

    @classmethod
    def cut(cls, vocabulary: llama_cpp.llama_vocab_p) -> "Pieces":
        """Ask llama.cpp for each token; half a second for 150,000."""
        buffer = ctypes.create_string_buffer(_MAX_PIECE)
        tokens, ends = [], []
        control = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL
        for token in range(llama_cpp.llama_vocab_n_tokens(vocabulary)):
            length = llama_cpp.llama_token_to_piece(vocabulary, token, buffer, _MAX_PIECE, 0, True)
            piece = ctypes.string_at(buffer, length)
            attributes = llama_cpp.llama_vocab_get_attr(vocabulary, token)
            named = attributes & llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED and piece[:1] + piece[-1:] == b"<>"
            tokens.append(_SPECIAL + piece if attributes & control or named else piece)
            if llama_cpp.llama_vocab_is_eog(vocabulary, token):
                ends.append(token)
        return cls(tokens, ends)

    @classmethod
    def read(cls, path: Path, key: str) -> "Pieces | None":
        """What `write` kept, if it is whole and of this key."""
        try:
            data = path.read_bytes()
            head, _, body = data[_DIGEST:].partition(b"\n")
            facts = json.loads(head) if hashlib.sha256(data[_DIGEST:]).digest() == data[:_DIGEST] else {}
        except (OSError, ValueError):
            return None
        if facts.get("key") != key:
            return None
        tokens, start = [], 0
        for length in facts["lengths"]:
            tokens.append(body[start : start + length])
            start += length
        return cls(tokens, facts["ends"])

    def write(self, path: Path, key: str) -> None:
        """Keep them, all or nothing; a folder that can't be written only costs the time of the next load."""
        facts = {"key": key, "ends": self.ends, "lengths": [len(token) for token in self.tokens]}
        data = json.dumps(facts, separators=(",", ":")).encode() + b"\n" + b"".join(self.tokens)
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            partial.write_bytes(hashlib.sha256(data).digest() + data)
            partial.replace(path)
        except OSError as error:
            log.warning("the vocabulary is not kept: %s", error)


def tokenizer(vocabulary: llama_cpp.llama_vocab_p, pieces: Pieces) -> LLTokenizer:
    """llguidance's tokenizer, cutting text as llama.cpp does."""
    tokenize = ctypes.cast(llama_cpp.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value
    made: LLTokenizer = LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=pieces.tokens, vocab_ptr=vocabulary, tokenize_fptr=tokenize, eos_token=pieces.ends, slices=[]
    )
    return made
