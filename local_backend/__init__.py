"""A small language-model engine of its own: paged KV cache, continuous batching, an OpenAI-compatible face."""
