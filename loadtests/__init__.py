"""Load, comparison and fault drills: `python -m loadtests VERB`. Talks to 127.0.0.1 alone and stops by itself."""
