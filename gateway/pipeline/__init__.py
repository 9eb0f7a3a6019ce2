"""The corridor: the one way every call takes, top to bottom."""
