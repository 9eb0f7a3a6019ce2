"""The bundled model: a very small Llama that knows this gateway, with the text and the script that made it."""
