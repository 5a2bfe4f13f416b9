"""The sockets of the hub process."""
