"""What calibration, evaluation, attacks and benchmarks share: statistics, records, processes, plots."""
