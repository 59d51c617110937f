"""What did the operator ask for: the configuration as frozen values."""
