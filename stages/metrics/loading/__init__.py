"""The networks that judges are made of, read from folders and files that users bring."""
