"""Other machines, for tools/cross_machine.py: which there are, what is coded on them, and how it is told."""
