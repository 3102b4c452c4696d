"""A random model of two blocks and a byte vocabulary as a GGUF file, for tests that train or serve."""

from pathlib import Path

import gguf
import numpy as np

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


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in GPT-2's vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = (byte for byte in range(256) if byte not in shown)
    letters = {byte: chr(byte) for byte in shown} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [letters[byte] for byte in range(256)]
