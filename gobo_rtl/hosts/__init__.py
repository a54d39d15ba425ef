"""Host arrays: with plain weights, or behind the memory-compression front end; docs/hosts.md."""
