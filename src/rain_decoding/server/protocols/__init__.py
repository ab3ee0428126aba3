"""The APIs that clients speak: their bodies, and how their answers are written."""
