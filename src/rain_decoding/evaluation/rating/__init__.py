"""Ratings of answers by people, as in section 4.3 of the paper: shown blind, kept at once, compared with the judges."""
