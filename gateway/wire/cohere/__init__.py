"""Cohere's formats: chat and embeddings as its second version has them, and rerank, which others took over."""
