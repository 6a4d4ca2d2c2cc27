"""The front door: the command `palimpsest`, and what it makes of a few words."""
