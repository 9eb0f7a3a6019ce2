"""The engine beside transformers, on the same weights and in the same run: `python -m loadtests engine`."""
