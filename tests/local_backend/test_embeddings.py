"""Embeddings are what transformers' states give, pooled as the folder says: encoders and decoders, over HTTP too."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: make .make/local")
transformers = pytest.importorskip("transformers", reason="transformers is not installed: make .make/dev")

from tokenizers import Tokenizer, models, pre_tokenizers, processors  # noqa: E402

from local_backend.config import ModelConfig, UnusableModel  # noqa: E402
from local_backend.embedder import Embedder  # noqa: E402
from local_backend.encoder import load_encoder  # noqa: E402
from local_backend.encoder_config import EncoderConfig  # noqa: E402
from local_backend.encoder_engine import EncoderEngine  # noqa: E402
from local_backend.engine import Engine  # noqa: E402
from local_backend.loader import load  # noqa: E402
from local_backend.making import engine_of  # noqa: E402
from local_backend.options import EngineConfig, Setup  # noqa: E402
from local_backend.pooling import Pooling, pooling_of  # noqa: E402
from local_backend.types import BadJob, Delta, Finish, Job, Sampling  # noqa: E402
from tests.local_backend.test_families import write as write_decoder  # noqa: E402
from tests.local_backend.test_server import client_of, wait_ready  # noqa: E402
from tests.running import ACCESS, KEY, gateway  # noqa: E402

INPUTS = [[(5 * i + 3 * j * j) % 90 + 4 for j in range(size)] for i, size in enumerate((1, 7, 40, 17, 33))]
WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "the",
    "gateway",
    "answers",
    "cats",
    "sleep",
    *map(str, range(87)),
]


def write_pooling(folder: Path, how: str, *, normalize: bool = True, most: int | None = None) -> None:
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    modules = [
        {"idx": place, "name": str(place), "path": f"{place}_{kind}" if place else "",
         "type": f"sentence_transformers.models.{kind}"}
        for place, kind in enumerate(kinds)
    ]  # fmt: skip
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    ways = {"cls": "cls_token", "mean": "mean_tokens", "max": "max_tokens", "last": "lasttoken"}
    asked = {f"pooling_mode_{name}": way == how for way, name in ways.items()}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **asked}))
    if most:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": most}))


def write_encoder(folder: Path, family: str = "Bert", **asked: Any) -> Any:
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(
        **{"vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
           "num_attention_heads": 4, "max_position_embeddings": 64, **asked}
    )  # fmt: skip
    model = getattr(transformers, f"{family}Model")(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight) * (0.15 if weight.dim() > 1 else 0.3))
    model.save_pretrained(folder)
    return model


def write_tokenizer(folder: Path) -> None:
    """Whole words, with a mark before and after, and the truncation that such files ask for."""
    made = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_truncation(4)
    made.enable_padding(length=8)
    made.save(str(folder / "tokenizer.json"))


def pooled(states: Any, pooling: Pooling) -> Any:
    vector = {"mean": states.mean(0), "cls": states[0], "last": states[-1]}[pooling.how]
    return vector / vector.norm() if pooling.normalize else vector


def expected(model: Any, inputs: list[list[int]], pooling: Pooling) -> Any:
    with torch.no_grad():
        return torch.stack([pooled(model(torch.tensor([one]))[0][0], pooling) for one in inputs])


@pytest.mark.parametrize("how", ["mean", "cls"])
@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_an_encoder_embeds_as_transformers_does(how: str, act: str, tmp_path: Path) -> None:
    theirs = write_encoder(tmp_path, hidden_act=act)
    write_pooling(tmp_path, how)
    pooling = pooling_of(tmp_path)
    assert pooling is not None
    found = Embedder(load_encoder(tmp_path, torch.float32), pooling)(INPUTS)
    torch.testing.assert_close(torch.tensor(found), expected(theirs, INPUTS, pooling), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("family", "asked"),
    [("Qwen3", {"head_dim": 16}), ("Mistral", {"sliding_window": 9}),
     ("Gemma2", {"head_dim": 16, "sliding_window": 9})],
)  # fmt: skip
@pytest.mark.parametrize("how", ["mean", "last"])
def test_a_decoder_embeds_as_transformers_does(
    family: str, asked: dict[str, Any], how: str, tmp_path: Path
) -> None:
    theirs = write_decoder(tmp_path, family, asked)
    write_pooling(tmp_path, how, normalize=False)
    pooling = pooling_of(tmp_path)
    assert pooling == Pooling(how, normalize=False)  # type: ignore[arg-type]
    found = Embedder(load(tmp_path, "float32"), pooling)(INPUTS)
    wanted = expected(theirs.model, INPUTS, pooling)
    torch.testing.assert_close(torch.tensor(found), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", ["Roberta", "XLMRoberta"])
def test_positions_may_begin_behind_the_padding(family: str, tmp_path: Path) -> None:
    theirs = write_encoder(tmp_path, family, pad_token_id=3, type_vocab_size=1, layer_norm_eps=1e-5)
    write_pooling(tmp_path, "cls")
    pooling = Pooling("cls", normalize=True)
    embedder = Embedder(load_encoder(tmp_path, torch.float32), pooling)
    assert embedder.max_len == 60, "of 64 places four are the padding's"
    inputs = [*INPUTS, [5 + at for at in range(60)]]
    wanted = expected(theirs, inputs, pooling)
    torch.testing.assert_close(torch.tensor(embedder(inputs)), wanted, atol=1e-4, rtol=1e-4)


def test_an_encoder_of_another_kind_is_refused_with_a_list_of_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["MPNetModel"]}))
    with pytest.raises(UnusableModel, match=r"MPNetModel is not supported; .*BertModel.*XLMRobertaModel"):
        ModelConfig.load(tmp_path)


@pytest.mark.parametrize("quantize", ["int8", "fp8"])
def test_an_encoder_of_fewer_bits_is_nearly_the_same(quantize: str, tmp_path: Path) -> None:
    theirs = write_encoder(tmp_path)
    write_pooling(tmp_path, "mean")
    pooling = Pooling("mean", normalize=True)
    found = torch.tensor(Embedder(load_encoder(tmp_path, torch.float32, quantize), pooling)(INPUTS))
    assert ((found * expected(theirs, INPUTS, pooling)).sum(1) > 0.99).all()


def embed(engine: Engine | EncoderEngine, inputs: list[list[int]]) -> list[tuple[float, ...]]:
    out: dict[int, tuple[float, ...]] = {}
    for place, ids in enumerate(inputs):

        def deliver(_: int, delta: Delta, place: int = place) -> None:
            out[place] = delta.vector

        engine.add(Job(ids, Sampling(max_tokens=1), embed=True), deliver)
    while engine.has_work:
        engine.step()
    return [out[place] for place in range(len(inputs))]


def test_steps_and_company_change_no_vector(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    write_pooling(tmp_path, "mean")
    alone = [embed(engine_of(Setup(str(tmp_path))), [one])[0] for one in INPUTS]
    engine = engine_of(Setup(str(tmp_path), config=EngineConfig(step_tokens=50)))
    assert isinstance(engine, EncoderEngine)
    torch.testing.assert_close(torch.tensor(embed(engine, INPUTS)), torch.tensor(alone), atol=1e-5, rtol=1e-4)
    assert engine.metrics.steps == 4, "40 and 7 would be padded past the budget"
    assert engine.metrics.tokens_in == sum(map(len, INPUTS))


def test_a_decoder_embeds_while_it_generates(tmp_path: Path) -> None:
    write_decoder(tmp_path, "Qwen3", {"head_dim": 16})
    write_pooling(tmp_path, "last")
    engine = engine_of(Setup(str(tmp_path)))
    said: list[int] = []
    engine.add(
        Job(INPUTS[2], Sampling(temperature=0, max_tokens=9, ignore_eos=True)),
        lambda _, d: said.extend(d.ids),
    )
    engine.step()
    vectors = embed(engine, INPUTS)
    assert len(said) == 9
    assert len({len(one) for one in vectors}) == 1


def test_numbers_that_overflow_are_an_error_and_no_vector(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    write_pooling(tmp_path, "mean")
    model = load_encoder(tmp_path, torch.float32)
    model.words.weight[7] = torch.inf
    engine = EncoderEngine(Embedder(model, Pooling("mean", normalize=True)), EngineConfig())
    out: list[Delta] = []
    for ids in ([7, 8], [5, 6]):
        engine.add(Job(ids, Sampling(), embed=True), lambda _, delta: out.append(delta))
    engine.step()
    assert [(one.finish, bool(one.vector)) for one in out] == [(Finish.ERROR, False), (Finish.STOP, True)]


def test_who_is_given_up_is_not_embedded(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    write_pooling(tmp_path, "mean")
    engine = engine_of(Setup(str(tmp_path)))
    out: list[Delta] = []
    (sequence,) = engine.add(Job([4, 5], Sampling(), embed=True), lambda _, delta: out.append(delta))
    engine.abort(sequence)
    engine.abort(sequence)
    assert not engine.has_work
    assert [delta.vector for delta in out] == [()]
    for wrong in (Job([4], Sampling()), Job([96], Sampling(), embed=True), Job([], Sampling(), embed=True)):
        with pytest.raises(BadJob):
            engine.add(wrong, lambda *_: None)


@pytest.mark.parametrize(
    ("how", "module", "told"),
    [("max", "Pooling", "pooling_mode_max_tokens"), ("mean", "Dense", "Dense"),
     ("mean", "Normalize", "no module Pooling")],
)  # fmt: skip
def test_pooling_that_is_not_known_is_named(how: str, module: str, told: str, tmp_path: Path) -> None:
    write_pooling(tmp_path, how)
    if module != "Pooling":
        modules = json.loads((tmp_path / "modules.json").read_text())
        modules[1]["type"] = f"sentence_transformers.models.{module}"
        (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UnusableModel, match=told):
        pooling_of(tmp_path)


def test_an_encoder_that_cannot_be_served_says_why(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    with pytest.raises(UnusableModel, match=r"modules\.json"):
        EncoderConfig.load(tmp_path)
    write_pooling(tmp_path, "mean")
    facts = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**facts, "hidden_act": "relu"}))
    with pytest.raises(UnusableModel, match="gelu"):
        EncoderConfig.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**facts, "intermediate_size": 40}))
    with pytest.raises(UnusableModel, match=r"intermediate\.dense\.weight"):
        load_encoder(tmp_path, torch.float32)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("encoder")
    write_encoder(folder)
    write_pooling(folder, "cls", most=48)
    write_tokenizer(folder)
    socket = folder / "engine.sock"
    command = [sys.executable, "-m", "local_backend", "--model", str(folder), "--listen", f"unix:{socket}"]
    process = subprocess.Popen([*command, "--exit-with-stdin"], stdin=subprocess.PIPE)
    try:
        wait_ready(socket)
        yield folder, str(socket)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0


def test_the_sdk_gets_vectors_in_either_form(encoder: tuple[Path, str]) -> None:
    folder, socket = encoder
    pooling = Pooling("cls", normalize=True)
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    text, ids = "the gateway answers cats", [2, 4, 5, 6, 7, 3]
    wanted = expected(theirs, [ids, [4, 5]], pooling)
    http = httpx2.Client(transport=httpx2.HTTPTransport(uds=socket))
    with openai.OpenAI(api_key="none", base_url="http://engine/v1", http_client=http) as sdk:
        for form in ("float", "base64"):
            found = sdk.embeddings.create(model="e", input=text, encoding_format=form)
            told: Any = found.data[0].embedding
            if form == "base64":
                assert isinstance(told, str)
                told = torch.frombuffer(
                    bytearray(__import__("base64").b64decode(told)), dtype=torch.float32
                ).tolist()
            torch.testing.assert_close(torch.tensor(told), wanted[0], atol=1e-4, rtol=1e-4)
            assert found.usage.prompt_tokens == found.usage.total_tokens == 6
        several = sdk.embeddings.create(model="e", input=[ids, [4, 5]])
        assert [one.index for one in several.data] == [0, 1]
        torch.testing.assert_close(
            torch.tensor([one.embedding for one in several.data]), wanted, atol=1e-4, rtol=1e-4
        )
        short = torch.tensor(sdk.embeddings.create(model="e", input=text, dimensions=8).data[0].embedding)
        torch.testing.assert_close(short, wanted[0, :8] / wanted[0, :8].norm(), atol=1e-4, rtol=1e-4)


def test_what_an_encoder_cannot_do_is_told(encoder: tuple[Path, str]) -> None:
    with client_of(encoder[1]) as http:

        def refused(path: str, **body: Any) -> dict[str, Any]:
            answer = http.post(path, json={"model": "e", **body})
            assert answer.status_code == 400, answer.text
            error: dict[str, Any] = answer.json()["error"]
            return error

        assert refused("/v1/embeddings", input=[[4], [4] * 49])["code"] == "context_length_exceeded"
        assert refused("/v1/embeddings", input="cats", dimensions=33)["param"] == "dimensions"
        assert "vocabulary" in refused("/v1/embeddings", input=[[96]])["message"]
        assert "/v1/embeddings" in refused("/v1/completions", prompt="cats")["message"]
        assert http.get("/v1/models/" + encoder[0].name).json()["max_model_len"] == 48


async def test_it_all_works_through_the_gateway(encoder: tuple[Path, str], tmp_path: Path) -> None:
    folder, socket = encoder
    text = f"""
kind: providers
providers: {{local: {{type: local, address: "unix:{socket}"}}}}
---
kind: models
models: {{words: {{targets: [{{provider: local, model: e}}]}}}}
---
{ACCESS}
"""
    async with gateway(tmp_path, text) as running:
        async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{running.url}/v1") as sdk:
            found = await sdk.embeddings.create(model="words", input=["cats sleep", "the gateway"])
            with pytest.raises(openai.BadRequestError) as refused:
                await sdk.embeddings.create(model="words", input="cats", dimensions=33)
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    wanted = expected(theirs, [[2, 7, 8, 3], [2, 4, 5, 3]], Pooling("cls", normalize=True))
    told = torch.tensor([one.embedding for one in found.data])
    torch.testing.assert_close(told, wanted, atol=1e-4, rtol=1e-4)
    assert found.usage.total_tokens == 8
    assert refused.value.param == "dimensions"
