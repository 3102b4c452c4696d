"""Constrained decoding with a real model."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from llmos.errors import ModelError, TimedOut
from llmos.nlui.decoding import LanguageModel

PROMPT = "<|im_start|>user\nstop the web server<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def model(model_path: Path) -> LanguageModel:
    return LanguageModel(model_path, context=1024)


@pytest.fixture(scope="module")
def tokens(model: LanguageModel) -> list[int]:
    return model.tokenize(PROMPT, special=True)


def test_grammar_bounds_the_text(model: LanguageModel, tokens: list[int]) -> None:
    result = model.generate(tokens, 'start: ("stop" | "start") " " ("web" | "数据库")')
    assert result.text in {"stop web", "start web", "stop 数据库", "start 数据库"}
    assert 0 < result.least_confidence <= result.confidence <= 1


def test_forced_text_costs_no_choice(model: LanguageModel, tokens: list[int]) -> None:
    result = model.generate(tokens, 'start: "watch memory above=80 for=5m"')
    assert result.text == "watch memory above=80 for=5m"
    assert (result.free, result.confidence) == (0, 1.0)
    assert result.forced > 0


def test_length_is_bounded(model: LanguageModel, tokens: list[int]) -> None:
    result = model.generate(tokens, "start: /[a-z ]+/", max_tokens=5)
    assert result.free + result.forced == 5
    assert len(model.generate(tokens, None, max_tokens=4).log_probabilities) <= 4


def test_prompt_prefix_is_reused_and_changes_nothing(model: LanguageModel, tokens: list[int]) -> None:
    grammar = 'start: ("a" | "b" | "c")~6'
    first = model.generate(tokens, grammar)
    again = model.generate(tokens, grammar)
    assert again.reused == len(tokens) - 1
    other = model.generate(model.tokenize("something else", special=False), grammar)
    assert other.reused == 0
    assert model.generate(tokens, grammar).text == first.text == again.text


def test_broken_grammar_is_an_error(model: LanguageModel, tokens: list[int]) -> None:
    with pytest.raises(ModelError, match="the grammar is not valid"):
        model.generate(tokens, "start: missing_rule")


def test_prompt_longer_than_the_context(model: LanguageModel) -> None:
    with pytest.raises(ModelError, match="more than the 1024 that fit"):
        model.generate([1] * 1100, None)


def test_generation_can_be_given_up(model: LanguageModel, tokens: list[int]) -> None:
    calls = itertools.count()
    with pytest.raises(TimedOut):
        model.generate(tokens, "start: /[a-z]{50,}/", given_up=lambda: next(calls) > 3)
    assert model.generate(tokens, 'start: "a" | "b"').text in {"a", "b"}


def test_control_tokens_in_plain_text_stay_text(model: LanguageModel) -> None:
    assert len(model.tokenize("<|im_end|>", special=True)) == 1
    assert len(model.tokenize("<|im_end|>", special=False)) > 1


def test_chat_format_is_the_models_own(model: LanguageModel) -> None:
    text = model.chat([("system", "s"), ("user", "u")], answer=True)
    assert text.endswith("<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n")


def test_state_survives_on_disk(model: LanguageModel, tokens: list[int], tmp_path: Path) -> None:
    grammar = 'start: ("a" | "b" | "c")~6'
    wanted = model.generate(tokens, grammar).text
    model.prefill(tokens)
    model.save(tmp_path / "prompt.kv")
    model.prefill(model.tokenize("something else", special=False))
    assert model.restore(tmp_path / "prompt.kv", tokens)
    result = model.generate(tokens, grammar)
    assert (result.text, result.reused) == (wanted, len(tokens) - 1)
    assert [path.name for path in tmp_path.iterdir()] == ["prompt.kv"]


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"x" * 4096])
def test_damaged_state_is_not_taken(
    model: LanguageModel, tokens: list[int], tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    model.prefill(tokens)
    model.save(tmp_path / "prompt.kv")
    (tmp_path / "prompt.kv").write_bytes(damage((tmp_path / "prompt.kv").read_bytes()))
    assert not model.restore(tmp_path / "prompt.kv", tokens)
    assert model.generate(tokens, 'start: "a" | "b"').text in {"a", "b"}


def test_state_of_another_prompt_is_not_taken(model: LanguageModel, tokens: list[int], tmp_path: Path) -> None:
    model.prefill(tokens)
    model.save(tmp_path / "prompt.kv")
    assert not model.restore(tmp_path / "prompt.kv", tokens[:-1])


def test_no_model_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + b"\0" * 1000)
    with pytest.raises(ModelError, match=r"bad\.gguf cannot be loaded"):
        LanguageModel(tmp_path / "bad.gguf")
