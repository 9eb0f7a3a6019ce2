"""Two teams before one provider, and what they make there."""

from typing import Any

from gateway.edge.endpoints import FAMILIES
from tests.running import ACCESS, Running
from tests.scripted import Provider, answer

POOR = "sk-poor"
CLOSED = sorted(label for label, family in FAMILIES.items() if not family.open)
ALL = f", passthrough: [{', '.join(CLOSED)}]"
LINE = b'{"custom_id": "1", "url": "/v1/chat/completions", "body": {"model": "gpt-5", "messages": []}}\n'
COLLECTIONS = sorted(
    f"/v1/{family.label}" + (f"/{collection}" if collection else "")
    for family in FAMILIES.values()
    for collection in family.collections
)


def text(url: str, passthrough: str = "", more: str = "") -> str:
    """Policies: both teams may name every model; `free` gets the `passthrough` entry, both where it is ALL."""
    access = ACCESS.replace(
        "free: {models: [mini], max_output_tokens: 100}", f'free: {{models: ["*"]{passthrough}}}'
    )
    if passthrough == ALL:
        access = access.replace('research: {models: ["*"]', f'research: {{models: ["*"]{ALL}')
    return f"""
kind: providers
providers: {{o: {{type: openai, base_url: "{url}", api_key: provider-secret-key}}}}
---
kind: models
models: {{whisper: {{targets: [{{provider: o, model: whisper-1}}]}}, "gpt-*": {{targets: [{{provider: o}}]}}}}
---
{access}
{more}
"""


async def made(running: Running, provider: Provider, path: str, ident: str, **more: Any) -> None:
    """Let the first team make an object."""
    body: dict[str, Any] = {"x": 1}
    acts = [answer({"id": ident, "object": "x", "choices": [], **more})]
    if path == "/v1/batches":
        await made(running, provider, "/v1/files", "file-of-batch")
        body = {"input_file_id": "file-of-batch"}
        acts.insert(0, answer(LINE, content_type="application/octet-stream"))
    provider.script[:] = acts
    if path == "/v1/chat/completions":
        body = {"model": "gpt-5", "store": True, "messages": []}
    async with running.client() as client:
        response = await client.post(path, json=body)
    assert response.json()["id"] == ident, response.text
