"""Files whose shape the documents of others fix."""
