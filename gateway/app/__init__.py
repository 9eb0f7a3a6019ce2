"""The builder: opens everything, joins the rooms, runs them, closes in reverse. The only room that knows all."""
