"""What coding asks before and says after: arguments and settings, streams and lenders, batches, refusals."""
