"""A volume as the engine is told of it: what the driver says, and the protocol puts into its JSON as it is."""

import msgspec


class Described(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One volume."""

    name: str
    mountpoint: str
    """Where it is mounted; empty while nobody has it mounted."""
    created_at: str
    """In RFC 3339."""
    status: dict[str, str | int | bool]
    """What `docker volume inspect` shows below Status."""
