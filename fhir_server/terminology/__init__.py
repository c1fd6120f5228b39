"""The terminology room: code systems with their hierarchy, and what value sets contain."""
