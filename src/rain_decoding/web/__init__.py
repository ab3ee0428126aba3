"""What every web page of the package shares: how it is served, its errors, its style."""
