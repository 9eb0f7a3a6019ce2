"""A gateway between applications and language-model providers."""

__version__ = "0.1.0"
