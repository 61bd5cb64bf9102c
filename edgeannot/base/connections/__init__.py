"""Connections: TLS, waits between tries, HTTP as a client and as a server."""
