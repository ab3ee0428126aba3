"""Evidence on real models: attacks, over-refusal and everyday requests, all decoders, judged independently."""
