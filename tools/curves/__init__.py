"""What `tools/resilience.py` is made of: channels, codecs, child processes, measurement, figure."""
