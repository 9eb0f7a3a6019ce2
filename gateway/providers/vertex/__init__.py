"""Google's Vertex AI: Gemini and Claude models under a project, and the tokens that open it."""
