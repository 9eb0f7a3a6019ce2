"""The tap to the providers: connections, timeouts, health, and the local engine's process."""
