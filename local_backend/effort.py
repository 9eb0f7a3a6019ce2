"""How much a model is to think (OpenAI's `reasoning_effort`), in the words that its chat template knows. Torch-free."""

from collections.abc import Collection
from typing import Any

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
SWITCHES = ("enable_thinking", "thinking")  # Qwen, SmolLM, GLM …; Granite, DeepSeek
# In tokens, as Seed-OSS was taught them: https://huggingface.co/ByteDance-Seed/Seed-OSS-36B-Instruct (-1: no bound)
BUDGETS = {"none": 0, "minimal": 512, "low": 1024, "medium": 4096, "high": 16384, "xhigh": -1, "max": -1}


def arguments_of(effort: str, variables: Collection[str]) -> dict[str, Any]:
    """What tells it a template that reads these variables; empty where nothing does. One that can only be switched
    thinks for every effort but `none`."""
    found: dict[str, Any] = {name: effort != "none" for name in SWITCHES if name in variables}
    if "thinking_budget" in variables:
        found["thinking_budget"] = BUDGETS[effort]
    if "reasoning_effort" in variables and (effort != "none" or not found):
        found["reasoning_effort"] = effort
    return found
