"""Evaluation: suites of prompts, decoders that answer them, judges that label the answers, and what it all says.

`plan` says what is run, `answering` runs it, `records` keep it, `summary` counts it, `report` shows it.
"""
