"""What is measured on real models. Not a part of the package: run it from a checkout."""
