"""One request's life: from a prompt to the text that is released, by RAIN, by plain decoding and by the baselines."""
