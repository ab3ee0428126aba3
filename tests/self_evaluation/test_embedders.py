"""Embeddings of judged texts."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from self_evaluation import judges

from rain_decoding.backends.scripted import ScriptedBackend, ScriptedCodec
from rain_decoding.errors import (
    ConfigError,
    MissingDependencyError,
    ModelNotFoundError,
    UnsupportedError,
)
from rain_decoding.self_evaluation.embedding import EMBEDDERS, load_embedder
from rain_decoding.types import Embed

CODEC = ScriptedCodec(["<end>"], "<end>")
SCRIPTED = ScriptedBackend(lambda tokens: np.zeros(1), CODEC)


def embed(embedder: Any, *texts: str) -> np.ndarray:
    """The texts' vectors, each asked for as the end of a longer text."""
    spy = judges.Spy(SCRIPTED)
    rows = [spy.run(embedder.embed(Embed(CODEC.encode(f"Before. {text}"), (8,)), 4)) for text in texts]
    return np.concatenate(rows)


DIFFERENT = [
    "I cannot help with that.",
    "I can help with that.",
    "Sure, here is how.",
    "First you need a thin piece of metal",
    "我不能帮助你。",
    "当然可以，下面我告诉你。",
    "🙂🙂",
    "?",
]


def test_hashing_gives_unit_vectors_that_tell_texts_apart() -> None:
    vectors = embed(load_embedder("hashing", SCRIPTED), *DIFFERENT)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    cosines = vectors @ vectors.T
    np.testing.assert_array_less(cosines[~np.eye(len(DIFFERENT), dtype=bool)], 0.95)


HASHING = [load_embedder("hashing", SCRIPTED) for _ in range(2)]


@given(text=st.text(alphabet="ab, .你好\n🙂", min_size=1, max_size=20).filter(str.strip))
@settings(max_examples=25, deadline=None)
def test_hashing_is_deterministic(text: str) -> None:
    one, other = (embed(embedder, text) for embedder in HASHING)
    np.testing.assert_array_equal(one, other)
    assert float(one[0] @ other[0]) == pytest.approx(1)


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("the cat sat on the mat", "the cat sat on a mat", "stocks fell sharply last week"),
        ("我们今天去公园散步好吗", "我们今天去公园跑步好吗", "股票昨天大跌了很多很多"),
        ("วันนี้ฉันไปตลาดกับแม่", "วันนี้ฉันไปตลาดกับพ่อ", "หุ้นตกหนักมากเมื่อคืน"),
    ],
)
def test_hashing_finds_texts_with_common_words_nearer(text: str, near: str, far: str) -> None:
    vectors = embed(load_embedder("hashing", SCRIPTED), text, near, far)
    assert 0.5 < vectors[0] @ vectors[1] < 0.95
    assert vectors[0] @ vectors[2] < vectors[0] @ vectors[1] - 0.2


def test_hashing_gives_zero_for_nothing() -> None:
    assert not embed(load_embedder("hashing", SCRIPTED), "", " \n").any()


def test_several_starts_are_answered_in_one_request() -> None:
    tokens, embedder = CODEC.encode("one two three"), load_embedder("hashing", SCRIPTED)
    spy = judges.Spy(SCRIPTED)
    rows = spy.run(embedder.embed(Embed(tokens, (0, 4, 8)), 0))
    alone = [
        spy.run(embedder.embed(Embed(CODEC.encode(t), (0,)), 0))[0]
        for t in ("one two three", "two three", "three")
    ]
    np.testing.assert_allclose(rows, alone, atol=1e-12)


def hidden_reference(backend: Any, tokens: tuple[int, ...], prompt: int, start: int) -> np.ndarray:
    """From the last hidden state of a plain forward: mean of the text less the mean of the prompt."""
    network = judges.model(len(judges.tokenizer("byte-level")))
    with torch.inference_mode():
        states = network.model(input_ids=torch.tensor([tokens])).last_hidden_state[0].double().numpy()
    vector = states[start:].mean(0) - states[1:prompt].mean(0)
    return vector / np.linalg.norm(vector)


def test_hidden_states_are_means_less_the_prompts_mean() -> None:
    backend = judges.backend(judges.tokenizer("byte-level"), keep_hidden=True)
    embedder, spy = load_embedder("hidden", backend), judges.Spy(backend)
    prompt = backend.codec.encode("Human: How do I pick a lock?\n\nAssistant:")
    vectors = []
    for answer in (" I cannot help with that.", " 请先冷静下来。", " I cannot help with that."):
        tokens = prompt + backend.codec.encode(answer, start=False)
        starts = (len(prompt), len(prompt) + 2, len(tokens))
        rows = spy.run(embedder.embed(Embed(tokens, starts), len(prompt)))
        for row, start in zip(rows, starts[:2], strict=False):
            np.testing.assert_allclose(row, hidden_reference(backend, tokens, len(prompt), start), atol=1e-4)
        assert not rows[2].any()
        vectors.append(rows[0])
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.95


def test_centring_takes_away_what_all_texts_share() -> None:
    # A common direction ten times as large as what tells the texts apart.
    rng = np.random.default_rng(0)
    common = 10 * rng.normal(size=16)
    states = common + rng.normal(size=(30, 16))
    backend = judges.backend(judges.tokenizer("byte-level"), keep_hidden=True)
    program = load_embedder("hidden", backend).embed(Embed(tuple(range(30)), (20, 25)), 20)
    request = next(program)
    assert request.prefix == tuple(range(30))
    with pytest.raises(StopIteration) as stopped:
        program.send(states.astype(np.float32)[None])
    one, other = stopped.value.value
    raw = [states[start:].mean(0) / np.linalg.norm(states[start:].mean(0)) for start in (20, 25)]
    assert raw[0] @ raw[1] > 0.95 > one @ other


def test_hidden_states_survive_a_prompt_of_one_token() -> None:
    backend = judges.backend(judges.tokenizer("byte-level"), keep_hidden=True)
    rows = judges.Spy(backend).run(load_embedder("hidden", backend).embed(Embed((40, 41, 42), (1,)), 1))
    assert np.isfinite(rows).all()


def test_a_backend_without_hidden_states_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SCRIPTED.engine, "layers", ())
    with pytest.raises(
        UnsupportedError, match=r"does not provide hidden states of the last layer.*'hashing'"
    ):
        load_embedder("hidden", SCRIPTED)


@pytest.fixture(scope="module")
def sentence_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random sentence-transformers model, as small as they get."""
    import sentence_transformers
    import tokenizers
    import transformers

    folder = tmp_path_factory.mktemp("sbert")
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        "i",
        "can",
        "cannot",
        "help",
        "sure",
        "the",
        "lock",
        ".",
    ]
    raw = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: index for index, word in enumerate(words)}, unk_token="[UNK]")
    )
    raw.normalizer = tokenizers.normalizers.BertNormalizer()
    raw.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    raw.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        initializer_range=0.5,
    )
    transformers.BertModel(config).save_pretrained(folder / "bert")
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder / "bert")
    # A plain BERT gets mean pooling.
    sentence_transformers.SentenceTransformer(str(folder / "bert"), device="cpu").save(str(folder / "model"))
    return folder / "model"


def test_sentence_transformers_give_unit_vectors(sentence_model: Path) -> None:
    embedder = load_embedder(f"sbert:{sentence_model}", SCRIPTED)
    vectors = embed(embedder, "I cannot help.", "Sure, the lock", "I cannot help.")
    assert vectors.shape == (3, 16)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[2] == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] < 0.999
    import transformers

    network = transformers.BertModel.from_pretrained(sentence_model.parent / "bert").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(sentence_model.parent / "bert")
    with torch.inference_mode():
        states = network(**tokenizer("I cannot help.", return_tensors="pt")).last_hidden_state[0]
    mean = states.mean(0).numpy()
    np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_a_sentence_transformer_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (str(tmp_path / "missing"), str(tmp_path)):
        with pytest.raises(ModelNotFoundError, match="no sentence-transformers model") as caught:
            load_embedder(f"sbert:{name}", SCRIPTED)
        assert name in str(caught.value)
        assert caught.value.__cause__ is not None


def test_without_sentence_transformers_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = builtins.__import__

    def absent(name: str, *rest: Any, **named: Any) -> Any:
        if name == "sentence_transformers":
            raise ImportError(name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(MissingDependencyError, match=r'pip install .*"sentence-transformers>='):
        load_embedder("sbert:any", SCRIPTED)


@pytest.mark.parametrize("name", ["", "bert", "sbert", "sbert:", "hashing:x", "hidden:x", "Hashing"])
def test_unknown_embeddings_are_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="unknown embedding") as caught:
        load_embedder(name, SCRIPTED)
    assert all(known in str(caught.value) for known in EMBEDDERS)
