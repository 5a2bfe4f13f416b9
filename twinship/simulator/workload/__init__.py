"""The workload API that modules use to sign tokens."""
