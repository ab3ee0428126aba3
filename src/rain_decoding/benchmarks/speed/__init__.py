"""The speed benchmark behind `rain bench`: contenders side by side in one run, repeated and paired.

prompts -> contenders -> measuring (samples) -> report (medians, overheads, fits) -> plot
"""
