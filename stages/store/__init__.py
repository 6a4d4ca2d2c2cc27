"""What lies on disk: whole-or-absent files, samples, pictures and records."""
