"""All settings of the server, read from the environment as `FHIR_SERVER_<NAME>`; command-line options override them.

`docs/configuration.md` is generated from this file.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Settings with their defaults; times in the unit that the name says."""

    model_config = SettingsConfigDict(env_prefix="FHIR_SERVER_", extra="ignore", populate_by_name=True)

    host: str = Field("127.0.0.1", description="Address to listen on. Anything but loopback is refused while `auth` is off.")
    port: int = Field(8000, description="HTTP port; 0 takes a free one and prints it.")
    data_dir: Path = Field(Path("data"), description="Folder of the embedded store.")
    store: str = Field("sqlite", description="`sqlite`, or `mongodb://...` (not served yet).")
    workers: int = Field(1, ge=1, le=64, description="Worker processes on one store.")
    auth: Literal["off", "smart"] = Field("off", description="`off` (loopback only) until the authorization server exists.")
    env: Literal["development", "production"] = Field(
        "development", description="`production` refuses loopback endpoints for outgoing calls."
    )
    jobs: Literal["embedded", "celery"] = Field("embedded", description="Runner of background jobs (`celery` is not served yet).")
    redis_url: str = Field("redis://127.0.0.1:6379/0", description="Redis for `jobs=celery`.")
    public_url: str = Field(
        "", description="Base address that clients see, such as `https://fhir.example.org`; default: from host and port."
    )
    allowed_hosts: str = Field("", description="Comma-separated further Host names from which links may be built.")
    synchronous: Literal["FULL", "NORMAL"] = Field(
        "FULL", description="SQLite durability: FULL survives power loss; NORMAL may lose the last commits then, never consistency."
    )
    group_commit_ms: float = Field(2.0, ge=0, le=100, description="Longest wait, in milliseconds, to collect writes into one commit.")
    ws_token_seconds: int = Field(60, ge=1, le=3600, description="How long a token for binding Subscriptions to a websocket is good.")
    event_days: int = Field(
        90, ge=1, description="How many days the events of topic-based Subscriptions can be asked for again (`$events`)."
    )
    delivery_log_days: int = Field(14, ge=1, description="How many days the delivery log of Subscriptions is kept.")
    done_job_days: int = Field(7, ge=1, description="How many days jobs that are done are kept.")
    time_zone: str = Field("Asia/Shanghai", description="Zone of dates and times that name none.")
    max_body_mb: int = Field(150, ge=1, description="Largest request body in megabytes, after decompression; more is 413.")
    max_resource_mb: int = Field(20, ge=1, description="Largest single resource in megabytes (Binary and Bundles aside); more is 413.")
    search_seconds: float = Field(30.0, gt=0, description="A search that takes longer is ended with 503.")
    require_if_match: bool = Field(False, description="Refuse updates without If-Match (428).")
    referential_integrity: bool = Field(False, description="Refuse references to resources that do not exist.")
    conditional_delete: Literal["single", "multiple"] = Field(
        "multiple", description="What a conditional delete does where several resources match: delete all, or refuse with 412."
    )
    async_hours: int = Field(
        24, ge=1, le=8760, description="How many hours the result of a request with `Prefer: respond-async` is kept at its status address."
    )
    async_requests: int = Field(
        50, ge=1, le=10_000, description="Asynchronous requests of one client that may wait or run at a time; one more is 429."
    )
    cors_origins: str = Field(
        "", description="Comma-separated origins of web applications (`https://app.example.org`) that browsers may let in; `*` = all."
    )
    cursor_seconds: int = Field(3600, ge=60, description="How long a paging link stays good.")
    validation: Literal["off", "structure", "profiles"] = Field(
        "structure",
        description="What is checked on write: nothing, the structure of R4, or also its invariants, the profiles that a resource "
        "declares, and answers against their questionnaire.",
    )
    validation_enforce: str = Field(
        "", description="With `validation=profiles`: comma-separated profiles whose rules refuse a write; empty: all that are known here."
    )
    validation_require: str = Field(
        "", description="With `validation=profiles`: comma-separated profiles that each resource of their type must meet."
    )
    markup_in_texts: Literal["allow", "refuse"] = Field(
        "allow", description="Whether validation against profiles takes texts (`string`) that look like HTML."
    )
    example_addresses: Literal["allow", "refuse"] = Field(
        "allow", description="Whether validation against profiles takes addresses that only stand in examples (example.org and the like)."
    )
    unknown_extensions: Literal["allow", "refuse"] = Field(
        "allow", description="Whether validation against profiles takes extensions of which no definition is known here."
    )
    followup_canonical: str = Field(
        "http://example.org/followup",
        description="Base of the canonicals of this product's own profiles, code systems and operations.",
        validation_alias=AliasChoices("FHIR_SERVER_FOLLOWUP_CANONICAL", "FOLLOWUP_CANONICAL", "followup_canonical"),
    )
    endpoint_allow: str = Field(
        "", description="Comma-separated hosts or networks that outgoing calls may reach although they are private."
    )
    plugins: str = Field(
        "all",
        description="Comma-separated names of the installed plug-ins to load; `all` loads every one, `off` or an empty value none "
        "(see [plug-ins](plugins.md)).",
    )
    log_level: str = Field("INFO", description="Level of the JSON log on stderr.")
    access_log: Literal["all", "errors", "off"] = Field(
        "all",
        description="Log lines of requests: `all`, `errors` (status 400 and above, or slower than a second), `off`. "
        "Never with ids or values.",
    )
    tracing: Literal["off", "on"] = Field(
        "off",
        description="OpenTelemetry traces (needs the extra `otel`): `on` sends them as the standard variables `OTEL_*` say "
        "(see [observability](observability.md)).",
    )
    slow_query_ms: int = Field(
        500,
        ge=0,
        description="A search that takes longer, in milliseconds, is logged with its parameter names and plan, never with values; "
        "0 logs every one.",
    )
    body_seconds: float = Field(
        30.0, gt=0, description="Time for a request's headers, and for its body beyond one second per 64 kB; a slower client gets 408."
    )
    mllp_host: str = Field(
        "127.0.0.1",
        description="Address of the MLLP listener.",
        validation_alias=AliasChoices("FHIR_SERVER_MLLP_HOST", "HL7V2_MLLP_HOST", "mllp_host"),
    )
    mllp_port: str = Field(
        "2575",
        description="Port of the MLLP listener; 0 takes a free one, `off` starts none.",
        validation_alias=AliasChoices("FHIR_SERVER_MLLP_PORT", "HL7V2_MLLP_PORT", "mllp_port"),
    )
    mllp_max_bytes: int = Field(
        64 * 1024 * 1024,
        ge=1024,
        description="Largest HL7 v2 message; a larger one is refused (AR) and its connection closed.",
        validation_alias=AliasChoices("FHIR_SERVER_MLLP_MAX_BYTES", "HL7V2_MLLP_MAX_BYTES", "mllp_max_bytes"),
    )


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The process's settings, read once."""
    return Settings()  # type: ignore[call-arg]
