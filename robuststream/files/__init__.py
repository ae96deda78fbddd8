"""Bytes in and bytes out: whole, by position, from whatever holds them, to whatever takes them."""
