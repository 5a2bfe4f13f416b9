"""edgeHub: connections, sessions, queues, routing of messages, direct methods."""
