"""Constrained decoding with a real model."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from llmos.errors import ModelError, TimedOut
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.grammar import build_grammar
from llmos.nlui.vocabulary import Pieces
from nlui.training_model import write_random_adapter, write_random_model

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
    assert all(0 < decision.probability <= 1 for decision in result.decisions)


def test_confidence_is_shared_out_among_what_the_grammar_allows(model: LanguageModel, tokens: list[int]) -> None:
    first = model.generate(tokens, 'start: "yes" | "no"')
    decision = first.decisions[0]
    assert decision.runner_up is not None
    assert 0.5 < decision.probability + decision.runner_up_probability < 1.001
    assert decision.probability >= decision.runner_up_probability > 0
    other = model.generate(tokens, 'start: "yes" | "no"', begun=[decision.runner_up])
    assert other.tokens[0] == decision.runner_up and other.text in {"yes", "no"}


def test_text_goes_on_from_where_it_was_begun(model: LanguageModel, tokens: list[int]) -> None:
    begun = model.tokenize("stop", special=False)
    result = model.generate(tokens, 'start: ("stop" | "start") " web"', begun=begun)
    assert result.text == "stop web"
    with pytest.raises(ModelError, match="broke off"):
        model.generate(tokens, 'start: "start web"', begun=begun)


def test_vocabulary_is_kept_between_loads(model: LanguageModel, model_path: Path, tmp_path: Path) -> None:
    cache = tmp_path / "vocabulary.bin"
    texts = []
    for damage in (None, None, b"x" * 100):
        if damage:
            cache.write_bytes(damage)
        loaded = LanguageModel(model_path, context=64, cache=cache)
        prompt = loaded.tokenize("stop the web server", special=False)
        texts.append(loaded.generate(prompt, 'start: ("stop" | "start") " " ("web" | "数据库")').text)
    assert len(set(texts)) == 1
    kept = Pieces.read(cache, "")
    assert kept is None, "of another key it is not taken"
    assert [path.name for path in tmp_path.iterdir()] == ["vocabulary.bin"]


def test_forced_text_costs_no_choice(model: LanguageModel, tokens: list[int]) -> None:
    result = model.generate(tokens, 'start: "watch memory above=80 for=5m"')
    assert result.text == "watch memory above=80 for=5m"
    assert (result.free, result.decisions) == (0, [])
    assert result.forced > 0


def test_length_is_bounded(model: LanguageModel, tokens: list[int]) -> None:
    result = model.generate(tokens, "start: /[a-z ]+/", max_tokens=5)
    assert result.free + result.forced == 5
    assert len(model.generate(tokens, None, max_tokens=4).decisions) <= 4


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


def test_grammar_of_a_long_command_in_a_long_request_does_not_give_out(model: LanguageModel) -> None:
    command = "docker run --rm -it -v /var/sequences:/data -p 18326:80 --name build sbez-cc/nais8cw:latest"
    request = f"每早7点05分自动 {command} 跑起来，节点 work37，name qhc2mzl_i，出错自动拉起，同时给我它最后五十五行日志，可以吗"
    matcher = model.matcher(build_grammar(request))
    pieces = "run| name|=q|hc2mzl_i| restart|=|on|-failure| at|=07:05| on|=|work|37| --| docker| run| --|rm| -|it| -|v"
    for piece in f"{pieces}| /|var/sequences:/data| -|p| |1|8326:80| --|name| build| s|bez-".split("|"):
        if piece in (" restart", " on"):
            matcher.compute_bitmask()
        matcher.compute_ff_tokens()
        assert matcher.consume_tokens(model.tokenize(piece, special=False)), piece


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


def test_what_was_learned_is_put_on_and_off(tmp_path: Path) -> None:
    base = write_random_model(tmp_path / "base.gguf", "qwen2")
    shipped, learned = (write_random_adapter(tmp_path / f"{seed}.gguf", base, seed=seed) for seed in (1, 2))
    plain = LanguageModel(base, context=64, adapter=shipped, learned=learned)
    prompt = plain.tokenize("stop the web server", special=False)

    def probability(model: LanguageModel, on: bool) -> float:
        return model.generate(prompt, 'start: "yes" | "no"', learned=on).decisions[0].probability

    alone, both = probability(plain, on=False), probability(plain, on=True)
    assert abs(alone - both) > 1e-3
    assert probability(plain, on=False) == pytest.approx(alone, rel=1e-5)
    assert probability(LanguageModel(base, context=64, adapter=shipped), on=True) == pytest.approx(alone, rel=1e-5)
