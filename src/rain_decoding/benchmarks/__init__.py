"""Measurements of alignment: suites, statistics, reports."""
