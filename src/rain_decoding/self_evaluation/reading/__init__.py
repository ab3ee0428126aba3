"""Self-evaluation by reading: a linear probe on the model's own hidden states, beside asking it.

`examples` are what a probe is fitted on, `states` reads them, `fitting` chooses and calibrates, `probe` is the result,
`judge` scores answers with it, `words` is the control that a probe has to beat, `store` keeps what was fitted.
"""
