"""The accelerator: its blocks around a bus, with a queue of jobs."""
