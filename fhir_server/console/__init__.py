"""The web console: the live page of the exchange."""
