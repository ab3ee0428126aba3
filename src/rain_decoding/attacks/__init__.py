"""Attacks on a model's answers, and on RAIN itself: they measure how robust one's own model is.

`plan` says what is attacked and how; `gcg` follows gradients, `black_box` only asks a decoder; `runner` runs an attack
in its folder; `success` measures what was found, on seeds that no attack used. Nothing heavy is imported here.
"""
