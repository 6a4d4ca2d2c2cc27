"""How a command starts: options, one-line errors, threads, and the process that forks for jobs."""
