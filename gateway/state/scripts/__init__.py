"""The Lua that runs inside Redis: one file per step of a call."""
