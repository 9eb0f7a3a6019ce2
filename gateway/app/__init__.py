"""The builder: opens everything, joins the rooms, runs them, closes in reverse; the room that knows all."""
