"""Evaluation: suites of prompts, decoders that answer them, judges that label the answers, and what it all says.

`plan` says what is run, `answering` answers it, `runner` keeps and labels the answers, `summary` counts them, `report`
shows it all.
"""
