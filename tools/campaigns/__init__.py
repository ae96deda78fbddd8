"""Damage at random, by the million: tools/campaign.py runs them."""
