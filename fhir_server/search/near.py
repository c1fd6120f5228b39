"""Distances on the earth for `near`.

Specification: https://hl7.org/fhir/R4/location.html#positional
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

RADIUS = 6_371_008.8
"""Mean radius of the earth in metres (IUGG); a sphere of it is within 0.6 % of WGS84's ellipsoid."""
METRES_PER_DEGREE = 110_574.0
"""Shortest length of a degree of latitude."""


def distance(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Metres between two places along the great circle (haversine); all in degrees."""
    phi, other_phi = radians(latitude), radians(other_latitude)
    rise, run = sin((other_phi - phi) / 2), sin(radians(other_longitude - longitude) / 2)
    return 2 * RADIUS * asin(min(1.0, sqrt(rise * rise + cos(phi) * cos(other_phi) * run * run)))


def latitudes(latitude: float, metres: float) -> tuple[float, float]:
    """Between which latitudes everything within the distance lies."""
    reach = 1.01 * metres / METRES_PER_DEGREE
    return latitude - reach, latitude + reach
