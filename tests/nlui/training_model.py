"""A random model of two blocks and a byte vocabulary as a GGUF file, and adapters of it, for tests that train or serve."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import llama_cpp
import numpy as np
from numpy.typing import NDArray

from llmos.nlui.adapters import BASE_KEY
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.models import sha256_of

Logits = NDArray[np.float32]
BLOCKS, WIDTH, HIDDEN, HEADS, KEY_HEADS = 2, 64, 96, 4, 2


def write_random_model(path: Path, architecture: str, *, seed: int = 0) -> Path:
    """Write it; llama has no biases and no output matrix of its own, qwen2 has both."""
    chance = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(BLOCKS)
    writer.add_context_length(512)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(HIDDEN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_freq_base(10_000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    tokens = [*_byte_letters(), "<|im_start|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(257)
    writer.add_add_bos_token(False)

    def add(name: str, *shape: int, centre: float = 0.0, spread: float = 0.12) -> None:
        writer.add_tensor(name, chance.normal(centre, spread, shape).astype(np.float32))

    add("token_embd.weight", len(tokens), WIDTH, spread=1.0)
    add("output_norm.weight", WIDTH, centre=1.0)
    if architecture == "qwen2":
        add("output.weight", len(tokens), WIDTH)
    key_rows = WIDTH // HEADS * KEY_HEADS
    for block in range(BLOCKS):
        stem = f"blk.{block}"
        add(f"{stem}.attn_norm.weight", WIDTH, centre=1.0)
        add(f"{stem}.ffn_norm.weight", WIDTH, centre=1.0)
        for name, rows in (("attn_q", WIDTH), ("attn_k", key_rows), ("attn_v", key_rows)):
            add(f"{stem}.{name}.weight", rows, WIDTH)
            if architecture == "qwen2":
                add(f"{stem}.{name}.bias", rows)
        add(f"{stem}.attn_output.weight", WIDTH, WIDTH)
        add(f"{stem}.ffn_gate.weight", HIDDEN, WIDTH)
        add(f"{stem}.ffn_up.weight", HIDDEN, WIDTH)
        add(f"{stem}.ffn_down.weight", WIDTH, HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_random_adapter(path: Path, base: Path, *, rank: int = 4, seed: int = 0) -> Path:
    """Write an adapter that changes every block's attn_q and ffn_down of such a model, by much."""
    chance = np.random.default_rng(seed)
    reader = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(path, reader.fields[gguf.Keys.General.ARCHITECTURE].contents())
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 2.0 * rank)
    writer.add_string(BASE_KEY, sha256_of(base))
    for tensor in reader.tensors:
        if tensor.name.endswith(("attn_q.weight", "ffn_down.weight")):
            columns, rows = map(int, tensor.shape)
            for end, shape in (("lora_a", (rank, columns)), ("lora_b", (rows, rank))):
                writer.add_tensor(f"{tensor.name}.{end}", chance.normal(0, 0.2, shape).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def served_logits(model: LanguageModel, tokens: Sequence[int]) -> Logits:
    """What llama.cpp computes after some tokens."""
    model.prefill(tokens)
    pointer = llama_cpp.llama_get_logits_ith(model._context, -1)
    return np.ctypeslib.as_array(pointer, shape=(model._width,)).copy()


def assert_close(ours: Logits, theirs: Logits, within: float = 0.05) -> None:
    """Within what bf16 loses, or another share of the logits' standard deviation."""
    assert np.abs(ours - theirs).max() < within * theirs.std()


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in GPT-2's vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = (byte for byte in range(256) if byte not in shown)
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]
