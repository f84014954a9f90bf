"""What the benches are made of; not benches themselves."""
