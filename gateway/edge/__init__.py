"""The front door: HTTP in, HTTP out, errors in the caller's dialect; it decides nothing about a call."""
