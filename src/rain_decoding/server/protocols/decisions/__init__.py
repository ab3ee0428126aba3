"""Questions that are answered with probabilities: vLLM's System One, and OpenAI's Decisions."""
