"""Values that have a meaning somewhere else: in SQL, MongoDB, JSON, regular expressions, shells, wildcards, URLs, terminals."""

from __future__ import annotations

LITERALS = [
    "$where",
    '{"$gt":""}',
    '{"$ne":null}',
    "$regex",
    "this.family.match(/.*/)",
    "' OR '1'='1",
    "' OR 1=1 --",
    "'; DROP TABLE version; --",
    '" OR ""="',
    "x') UNION SELECT body FROM version --",
    "/* a */",
    "a%b",
    "a_b",
    "a*b",
    "a?b",
    "a.b",
    "%",
    "*",
    "_",
    ".*",
    "[a-z]",
    "^a.b$",
    "(a+)+$",
    "a|b",
    "a,b",
    "a$b",
    "a\\b",
    "a\\,b",
    "a\\'b",
    "${jndi:ldap://a}",
    "{{7*7}}",
    "`id`",
    "$(id)",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "%00",
    "%2527",
    "a+b",
    "a&b=c",
    "a;b",
    "a#b",
    "\u202eabc",
    "a\u200bb",
    "\ufeffa",
    "\U0001f600",
    "null",
    "NaN",
    "-1",
    "true",
    "0x41",
]
"""Each is the name of somebody, and a code."""
BESIDE = ["axb", "ab", "aab", "b", "a", "abc", "axxb", "Other", "where", "a b"]
"""What the wildcards and patterns among them would match."""


def escaped(value: str) -> str:
    """A value as a search writes it (https://hl7.org/fhir/R4/search.html#escaping)."""
    for one in "\\,|$":
        value = value.replace(one, "\\" + one)
    return value
