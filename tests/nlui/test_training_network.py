"""The network that is trained against llama.cpp on the same files: plain and with an adapter."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra train")

import gguf
import numpy as np
import torch

from llmos.errors import ModelError, Unsupported
from llmos.nlui.decoding import LanguageModel
from llmos.nlui.merge import merge
from llmos.nlui.models import locate, sha256_of
from llmos.nlui.training.average import average
from llmos.nlui.training.batches import read_pairs
from llmos.nlui.training.check import compare, lead
from llmos.nlui.training.export import read_adapter, write_adapter, write_card
from llmos.nlui.training.generation import generate
from llmos.nlui.training.gguf_weights import ARCHITECTURES, Weights, read_weights
from llmos.nlui.training.importance import measure, write
from llmos.nlui.training.network import Adapter, Network
from llmos.nlui.training.vocabulary import Vocabulary
from nlui.training_model import Logits, assert_close, served_logits, write_random_model

REQUESTS = ("kill nginx", "停掉 web", "what is eating the cpu?")


@pytest.fixture(scope="module", params=ARCHITECTURES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("base") / f"{request.param}.gguf", request.param)


@pytest.fixture(scope="module")
def weights(base: Path) -> Weights:
    return read_weights(base)


@pytest.fixture
def network(weights: Weights) -> Network:
    """A network whose adapter does something."""
    torch.manual_seed(0)
    adapter = Adapter(weights, rank=4, alpha=8.0)
    with torch.no_grad():
        for up in adapter.up.values():
            up.normal_(0, 0.2)
    return Network(weights, adapter)


@pytest.fixture
def adapter_path(base: Path, network: Network, tmp_path: Path) -> Path:
    path = tmp_path / "adapter.gguf"
    write_adapter(network.adapter, path, architecture=network.weights.shape.architecture, base_sha256=sha256_of(base))
    return path


def trained_logits(network: Network, tokens: Sequence[int]) -> Logits:
    with torch.no_grad():
        hidden = network.hidden(
            torch.tensor([tokens]), torch.arange(len(tokens))[None], torch.tensor([len(tokens) - 1])
        )
        logits: Logits = (hidden.float() @ network.weights.output.float().T)[0].numpy()
    return logits


def test_base_computes_what_llama_cpp_does(base: Path, weights: Weights) -> None:
    network, served = Network(weights, Adapter(weights, 4, 8.0)), LanguageModel(base)
    for request in REQUESTS:
        tokens = Vocabulary(base).prompt(request)
        assert_close(trained_logits(network, tokens), served_logits(served, tokens))


def test_exported_adapter_does_the_same_in_llama_cpp(base: Path, network: Network, adapter_path: Path) -> None:
    tokens = Vocabulary(base).prompt(REQUESTS[0])
    ours = trained_logits(network, tokens)
    assert_close(ours, served_logits(LanguageModel(base, adapter=adapter_path), tokens))
    plain = trained_logits(Network(network.weights, Adapter(network.weights, 4, 8.0)), tokens)
    assert np.abs(ours - plain).max() > plain.std()


def test_adapter_is_read_back(network: Network, adapter_path: Path) -> None:
    again = read_adapter(adapter_path, network.weights)
    assert (again.rank, again.alpha) == (4, 8.0)
    for (down, up), (ours, theirs) in zip(network.adapter.tensors().values(), again.tensors().values(), strict=True):
        torch.testing.assert_close(down, ours, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(up, theirs, atol=1e-3, rtol=1e-3)


def test_card_names_the_file_and_the_frame(adapter_path: Path) -> None:
    text = write_card(adapter_path, {"seed": 7}).read_text()
    assert sha256_of(adapter_path) in text
    assert '"seed": 7' in text
    assert "<|im_start|>REQUEST<|im_end|>PLAN<|im_end|>" in text


def test_many_are_generated_as_one_by_one(base: Path, network: Network) -> None:
    vocabulary = Vocabulary(base)
    prompts = [vocabulary.prompt(request) for request in REQUESTS]
    together = generate(network, prompts, vocabulary.end, max_tokens=12)
    assert together == [generate(network, [prompt], vocabulary.end, max_tokens=12)[0] for prompt in prompts]
    assert all(len(tokens) == 12 or vocabulary.end not in tokens for tokens in together)


def test_generation_ends_at_the_end_token(base: Path, network: Network) -> None:
    vocabulary = Vocabulary(base)
    prompts = [vocabulary.prompt(request) for request in REQUESTS]
    first = generate(network, prompts, -1, max_tokens=6)
    end = first[0][2]
    for tokens, full in zip(generate(network, prompts, end, max_tokens=6), first, strict=True):
        assert tokens == (full[: full.index(end)] if end in full else full)


def test_comparison_finds_both_the_same(base: Path, network: Network, adapter_path: Path, tmp_path: Path) -> None:
    from llmos.nlui.training.batches import read_pairs

    (tmp_path / "pairs.jsonl").write_text('{"request": "kill nginx", "plan": ["kill nginx"]}\n')
    vocabulary = Vocabulary(base)
    results = compare(
        network, vocabulary, LanguageModel(base, adapter=adapter_path), read_pairs(tmp_path / "pairs.jsonl", vocabulary)
    )
    assert [result.request for result in results] == ["kill nginx"]
    assert not results[0].trained_right
    assert not results[0].served_right
    assert results[0].served.encode()[:4] == results[0].trained.encode()[:4]


def test_where_two_plans_part_is_said_by_how_much(base: Path, network: Network) -> None:
    prompt = Vocabulary(base).prompt("kill nginx")
    [ours] = generate(network, [prompt], end=-1)
    for at in (0, 3):
        theirs = [*ours[:at], (ours[at] + 1) % 256, *ours[at + 1 :]]
        assert lead(network, prompt, ours, theirs) > 0  # it takes the likeliest
        assert lead(network, prompt, theirs, ours) == pytest.approx(-lead(network, prompt, ours, theirs))
    assert lead(network, prompt, ours, ours) == 0


def test_the_mean_lies_between_and_says_what_it_is_of(
    base: Path, network: Network, adapter_path: Path, tmp_path: Path
) -> None:
    write_card(adapter_path, {"base": {"sha256": sha256_of(base)}})
    other = tmp_path / "other.gguf"
    with torch.no_grad():
        for up in network.adapter.up.values():
            up.mul_(3)
    write_adapter(network.adapter, other, architecture=network.weights.shape.architecture, base_sha256=sha256_of(base))
    average(locate(str(base)), [adapter_path, other], tmp_path / "mean.gguf")
    mean = read_adapter(tmp_path / "mean.gguf", network.weights)
    for key, up in network.adapter.up.items():
        assert torch.allclose(mean.up[key], up * 2 / 3, rtol=1e-2, atol=1e-3)
    card = json.loads((tmp_path / "mean.json").read_text())
    assert card["mean_of"] == [sha256_of(adapter_path), sha256_of(other)] and card["file"] == "mean.gguf"


def test_importance_is_the_mean_square_of_what_a_layer_is_given(
    base: Path, network: Network, adapter_path: Path, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [{"request": request, "plan": ["ps sort=cpu"]} for request in REQUESTS]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    sums = measure(network, read_pairs(pairs, Vocabulary(base)))
    blocks = network.weights.shape.blocks
    assert len(sums) == 7 * blocks and all((squares > 0).any() for squares, _ in sums.values())
    assert torch.equal(sums["blk.0.ffn_gate.weight"][0], sums["blk.0.ffn_up.weight"][0])
    write(sums, tmp_path / "base.imatrix.gguf")
    merged = [tmp_path / "plain.gguf", tmp_path / "weighed.gguf"]
    for path, importance in zip(merged, (None, tmp_path / "base.imatrix.gguf"), strict=True):
        merge(locate(str(base)), adapter_path, path, quantisation="Q4_0", importance=importance)
    assert merged[0].read_bytes() != merged[1].read_bytes()


def test_unknown_network_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(Unsupported, match="mamba"):
        read_weights(tmp_path / "m.gguf")


def test_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be"):
        read_weights(tmp_path / "m.gguf")
    with pytest.raises(ModelError, match="cannot be loaded"):
        Vocabulary(tmp_path / "m.gguf")
