"""The back door: keys, policies, usage, targets and metrics for operators; never on the hot path."""
