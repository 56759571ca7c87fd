"""Measurements, none of which the product needs. `script/bench` runs the one of the mount."""
