"""Buffers, schedule and array of the accelerator."""
