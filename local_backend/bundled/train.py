"""Train the bundled model from the text beside this file: `python -m local_backend.bundled.train`.

Deterministic by its seed on one machine; about a quarter of an hour on two CPU cores. Writes config.json,
model.safetensors (bf16), tokenizer.json and the small files around them, then asks questions it has not seen.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional

from local_backend.config import ModelConfig
from local_backend.layers import Heads
from local_backend.loader import export, load
from local_backend.model import Decoder

HERE = Path(__file__).parent
SEED = 2026
VOCABULARY = 1024
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
# The model learns nothing of tools; with the template a grammar can hold it to calls all the same.
TEMPLATE = (
    """{% if tools %}<|system|>Tools, called as <tool_call>{"name": ..., "arguments": ...}</tool_call>:"""
    "{% for tool in tools %} {{ tool | tojson }}{% endfor %}<|end|>{% endif %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'tool' %}"
    "<|user|><tool_response>{{ message['content'] }}</tool_response><|end|>"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% for call in message['tool_calls'] or [] %}"
    """<tool_call>\n{"name": "{{ call['function']['name'] }}", """
    """"arguments": {{ call['function']['arguments'] | tojson }}}\n</tool_call>"""
    "{% endfor %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
OPENINGS = ["", "", "", "", "please ", "hi, ", "hey, ", "so ", "can you tell me ", "i want to know ", "ok "]
# How else people begin a question that begins so.
BEGINNINGS = {
    "how do i ": ["how can i ", "how do you ", "how do we ", "how to ", "how would i ", "what do i do to "],
    "what is ": ["what's ", "explain what is ", "tell me what is "],
    "what are ": ["what're ", "tell me what are "],
    "what happens when ": ["what happens if ", "what if ", "what does it do when "],
    "what if ": ["what happens if ", "what happens when ", "and if "],
    "does it ": ["does gatehouse ", "does the gateway ", "will it ", "can it "],
    "can i ": ["could i ", "may i ", "is it possible to ", "am i able to "],
    "is there ": ["do you have ", "does it have ", "is there perhaps "],
    "tell me about ": ["explain ", "describe ", "what about ", "say something about "],
    "where is ": ["where's ", "where do i find ", "where can i find "],
    "where are ": ["where do i find ", "where can i find "],
    "why do i get ": ["why did i get ", "why am i getting ", "what does it mean when i get "],
    "which ": ["what ", "tell me which "],
}
ENDINGS = ["", "?", "?", "?", ".", "!", " please", " please?", "??"]
NAMES = {
    "gatehouse": "Gatehouse", "openai": "OpenAI", "redis": "Redis", "prometheus": "Prometheus", "litellm": "LiteLLM",
    "grafana": "Grafana", "opentelemetry": "OpenTelemetry", "python": "Python", "json": "JSON", "yaml": "YAML",
    "gpu": "GPU", "api": "API", "sdk": "SDK", "vllm": "vLLM", "france": "France", "london": "London", "i": "I",
}  # fmt: skip
HELD_OUT = [
    "What is Gatehouse?", "so what exactly is gatehouse", "How can I create a key for my team?",
    "what happens if openai goes down", "How do I reload my policies?", "tell me how rate limits work",
    "Does it need a GPU?", "where do I find metrics", "who wrote Macbeth?", "What's the capital of Portugal?",
    "How do I point the OpenAI SDK at the gateway?", "hello!", "why did I get a 429?", "is it open source?",
]  # fmt: skip

Pair = tuple[str, str]


def topics() -> Iterator[tuple[list[str], str]]:
    """(ways to ask, answer) from both texts."""
    for block in (HERE / "corpus.txt").read_text().split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines:
            yield [line[2:] for line in lines if line.startswith("? ")], lines[-1][2:]
    *asked, answer = [line for line in (HERE / "elsewhere.txt").read_text().splitlines() if line[0] != "#"]
    yield list(_filled(asked)), answer[2:]


def _filled(patterns: list[str]) -> Iterator[str]:
    for pattern in patterns:
        text, _, words = pattern.partition("|")
        choices = [word.strip() for word in words.split(",") if word.strip()] or [""]
        for number, word in enumerate(choices):
            yield text.strip().replace("{}", word, 1).replace("{}", choices[number - 1])


def disturbed(question: str, dice: random.Random) -> str:
    """The question as somebody else would type it."""
    for usual, others in BEGINNINGS.items():
        if question.startswith(usual) and dice.random() < 0.4:
            question = dice.choice(others) + question.removeprefix(usual)
            break
    text = dice.choice(OPENINGS) + question + dice.choice(ENDINGS)
    if dice.random() < 0.15:
        place = dice.randrange(len(text))
        text = text[:place] + text[place + 1 :]  # a letter that was not hit
    words = text.split(" ")
    if len(words) > 3 and dice.random() < 0.1:
        words.pop(dice.randrange(len(words)))
    if dice.random() < 0.6:
        words = [
            NAMES.get(word.rstrip("?.!"), word.rstrip("?.!")) + word[len(word.rstrip("?.!")) :]
            for word in words
        ]
    text = " ".join(words)
    if dice.random() < 0.6:
        text = text[:1].upper() + text[1:]
    return text


def make_tokenizer(texts: list[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def settings(tokenizer: Tokenizer) -> dict[str, object]:
    end = tokenizer.token_to_id("<|end|>")
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": 160, "intermediate_size": 448, "num_hidden_layers": 4, "num_attention_heads": 5,
        "num_key_value_heads": 5, "head_dim": 32, "vocab_size": tokenizer.get_vocab_size(),
        "max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": end,
    }  # fmt: skip


def batch_of(pairs: list[Pair], tokenizer: Tokenizer) -> tuple[Tensor, Tensor]:
    """ids and targets [rows, longest]; only the answers are learned (-100 elsewhere)."""
    rows, targets = [], []
    for question, answer in pairs:
        asked = tokenizer.encode(f"<|user|>{question}<|end|><|assistant|>").ids
        told = tokenizer.encode(f"{answer}<|end|>").ids
        rows.append(asked + told)
        targets.append([-100] * (len(asked) - 1) + told + [-100])
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([row + [-100] * (longest - len(row)) for row in targets])


def forward(model: Decoder, ids: Tensor) -> Tensor:
    """Logits [rows, longest, vocabulary] by plain causal attention."""
    rows, longest = ids.shape
    positions = torch.arange(longest).repeat(rows)

    def attend(layer: int, heads: Heads) -> Tensor:
        q, k, v = (x.view(rows, longest, x.shape[1], -1).transpose(1, 2) for x in heads.parts())
        mixed = functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1]
        )
        return mixed.transpose(1, 2).reshape(rows * longest, -1)

    return model.logits(model(ids.view(-1), positions, attend)).view(rows, longest, -1)


def train(model: Decoder, tokenizer: Tokenizer, steps: int, dice: random.Random) -> None:
    groups = list(topics())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.98), weight_decay=0.05)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.08)
    began = time.perf_counter()
    for step in range(1, steps + 1):
        pairs = []
        for _ in range(32):
            # "Everything else", the last group, is drawn more often than one topic, because it is larger;
            # what the project is, the first, too, because that is what people ask.
            chance = dice.random()
            ways, answer = groups[-1] if chance < 0.1 else groups[0] if chance < 0.15 else dice.choice(groups)
            pairs.append((disturbed(dice.choice(ways), dice), answer))
        ids, targets = batch_of(pairs, tokenizer)
        loss: Any = functional.cross_entropy(forward(model, ids).flatten(0, 1), targets.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        rate.step()
        if step % 50 == 0 or step == steps:
            seconds = time.perf_counter() - began
            print(f"step {step}/{steps}  loss {loss.item():.4f}  {seconds:.0f} s", flush=True)  # noqa: T201


def answer(model: Decoder, tokenizer: Tokenizer, question: str) -> str:
    ids = tokenizer.encode(f"<|user|>{question}<|end|><|assistant|>").ids
    start, end = len(ids), tokenizer.token_to_id("<|end|>")
    with torch.no_grad():
        while len(ids) - start < 120:
            ids.append(int(forward(model, torch.tensor([ids]))[0, -1].argmax()))
            if ids[-1] == end:
                break
    return str(tokenizer.decode(ids[start:]))


def write(model: Decoder, tokenizer: Tokenizer, facts: dict[str, object]) -> None:
    weights = {name: value.to(torch.bfloat16) for name, value in export(model).items()}
    save_file(weights, HERE / "model.safetensors", {"format": "pt"})
    tokenizer.save(str(HERE / "tokenizer.json"))
    (HERE / "config.json").write_text(json.dumps(facts, indent=1) + "\n")
    # A small model is at its best when it does not roam.
    (HERE / "generation_config.json").write_text(
        json.dumps({"eos_token_id": facts["eos_token_id"], "temperature": 0.3}) + "\n"
    )
    chat = {"chat_template": TEMPLATE, "eos_token": "<|end|>", "model_max_length": 1024}
    (HERE / "tokenizer_config.json").write_text(json.dumps(chat, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SEED)
    dice = random.Random(SEED)
    texts = [disturbed(way, dice) for ways, _ in topics() for way in ways] + [
        told for _, told in topics()
    ] * 8
    tokenizer = make_tokenizer(texts)
    facts = settings(tokenizer)
    (HERE / "config.json").write_text(json.dumps(facts, indent=1) + "\n")
    model = Decoder(ModelConfig.load(HERE))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.04)
    train(model, tokenizer, args.steps, dice)
    write(model, tokenizer, facts)
    served = load(HERE)
    for question in HELD_OUT:
        print(f"{question}\n  {answer(served, tokenizer, question)}")  # noqa: T201


if __name__ == "__main__":
    main()
