"""OpenAI's Responses: as clients and providers speak it, and what stands for what in chat."""
