"""Designs around the emitted hardware, for people to begin their own with."""
