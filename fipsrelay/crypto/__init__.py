"""What does FIPS allow, and what do we really have."""
