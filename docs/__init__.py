"""The guide's sources, and what makes a site of them."""
