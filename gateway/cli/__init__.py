"""The commands of `gateway`, one file per verb."""
