"""How the demo model was made and measured. Not a part of the package: run it from a checkout."""
