"""What can I try it against: an embedded TLS intake and realistic payloads."""
