"""Papers: YAML documents checked, compiled into one immutable Snapshot, and swapped whole."""
