"""The CPU budget per request of this server on its embedded store, in milliseconds, by workload of the load tool."""

BUDGET_MS = {
    "read-patient": 0.06,
    "vread-patient": 0.06,
    "history": 0.10,
    "create-observation": 0.40,
    "create-patient": 0.55,
    "update-patient": 0.45,
    "search-token": 0.2,
    "search-identifier": 0.2,
    "search-name": 0.3,
    "search-date": 0.3,
    "search-chained": 0.4,
    "search-include": 0.4,
    "search-revinclude": 0.3,
    "search-has": 0.3,
    "search-paged": 0.3,
    "conditional-create": 0.5,
    "transaction": 25.0,
    "batch": 25.0,
    "import": 0.25,
}
"""Import is per resource, a transaction per Bundle of 100 entries, a batch per Bundle of 50."""

PEERS_MS = {
    "read-patient": (0.12, 2.2),
    "history": (0.18, 2.4),
    "create-observation": (1.94, 4.9),
    "update-patient": (2.19, 5.7),
    "search-token": (6.9, 11.5),
    "search-date": (6.1, 6.7),
    "search-chained": (6.8, 7.6),
    "search-include": (7.5, 8.3),
    "search-revinclude": (0.45, 4.6),
    "search-has": (1.9, 3.8),
    "search-paged": (6.6, 10.7),
    "conditional-create": (1.3, 4.0),
    "transaction": (108.0, 316.0),
    "import": (0.95, 8.9),
}
"""CPU of Helios HFS 0.2.7 on SQLite and HAPI FHIR JPA 8.8 on PostgreSQL, measured on an equal machine, for orientation."""
