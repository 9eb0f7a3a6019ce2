"""A call in every dialect: about a kilobyte each."""

from typing import Any

import orjson

Json = dict[str, Any]

MODEL = "model-a"
SYSTEM = "You answer in two sentences and name the next step."
ASKED = "Summarise this ticket: the customer cannot log in since Tuesday. " * 3
CITY = '{"city":"Zürich","unit":"celsius"}'
FOUND = '{"sky":"clear","degrees":21}'
SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "kelvin"]}},
    "required": ["city"],
}
_ABOUT = "The weather at a place, now"
_GEMINI: Json = {
    "systemInstruction": {"parts": [{"text": SYSTEM}]},
    "contents": [
        {"role": "user", "parts": [{"text": ASKED}]},
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "call_1", "name": "weather", "args": orjson.loads(CITY)}}],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "call_1", "name": "weather", "response": orjson.loads(FOUND)}}
            ],
        },
    ],
    "tools": [
        {"functionDeclarations": [{"name": "weather", "description": _ABOUT, "parametersJsonSchema": SCHEMA}]}
    ],
    "generationConfig": {"temperature": 0.2, "maxOutputTokens": 400},
}

CALLS: dict[str, Json] = {
    "openai.chat": {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": ASKED},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": CITY},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": FOUND},
        ],
        "tools": [
            {
                "type": "function",
                "function": {"name": "weather", "description": _ABOUT, "parameters": SCHEMA},
            }
        ],
        "temperature": 0.2,
        "max_tokens": 400,
    },
    "anthropic.messages": {
        "model": MODEL,
        "system": SYSTEM,
        "messages": [
            {"role": "user", "content": ASKED},
            {
                "role": "assistant",
                "content": [
                    {"type": "tool_use", "id": "call_1", "name": "weather", "input": orjson.loads(CITY)}
                ],
            },
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": FOUND}],
            },
        ],
        "tools": [{"name": "weather", "description": _ABOUT, "input_schema": SCHEMA}],
        "temperature": 0.2,
        "max_tokens": 400,
    },
    "openai.responses": {
        "model": MODEL,
        "instructions": SYSTEM,
        "input": [
            {"role": "user", "content": ASKED},
            {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": CITY},
            {"type": "function_call_output", "call_id": "call_1", "output": FOUND},
        ],
        "tools": [{"type": "function", "name": "weather", "description": _ABOUT, "parameters": SCHEMA}],
        "temperature": 0.2,
        "max_output_tokens": 400,
    },
    "gemini.generate": _GEMINI,
    "gemini.array": _GEMINI,
}
