"""Criteria of a Subscription: a search, read once and matched in memory against the index values of each new version.

Specification: https://hl7.org/fhir/R4/subscription.html#criteria (a search string without the base: `Observation?code=...`).
"""
