"""Self-evaluation: the model judges where a text leads, by a fixed prompt (paper, section 3.2)."""
