"""What the command can do, a file for each kind of verb. A verb parses, calls one room, prints."""
