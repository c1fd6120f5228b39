"""Notifications over websockets: binding tokens, connections, and the hub that tells them of events."""
