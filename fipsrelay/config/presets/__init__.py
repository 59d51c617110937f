"""Presets, as data: upstreams and intakes to begin with."""
