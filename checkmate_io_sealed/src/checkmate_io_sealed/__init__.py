"""Encryption and compression of all that a store holds. Loads nothing by itself."""
