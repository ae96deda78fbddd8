"""Frozen models: their parts, their files, how they are made of CompressAI's, and where they are kept."""
