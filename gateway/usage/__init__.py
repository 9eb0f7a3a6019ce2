"""The account book: an event per call, spooled before it leaves, kept in SQL."""
