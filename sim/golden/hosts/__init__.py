"""Golden models of the host arrays: docs/hosts.md."""
