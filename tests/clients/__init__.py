"""Clients of others held against the hub: the Node SDK beside Python's, and the table of all clients."""
