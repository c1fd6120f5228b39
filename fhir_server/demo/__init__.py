"""A demonstration clinic: a small Chinese population and a feed of HL7 v2 messages, the same for the same seed."""
