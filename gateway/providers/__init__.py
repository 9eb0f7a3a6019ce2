"""Who is called: address, credentials and quirks of each provider. Pure; `upstream` does the calling."""
