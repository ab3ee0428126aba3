"""Doors for other people's evaluation harnesses: the same decoders, by the names of `rain eval`."""
