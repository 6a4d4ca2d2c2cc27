"""Text encoders and the prompts that they encoded."""
