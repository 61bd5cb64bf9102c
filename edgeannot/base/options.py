"""What sections of the settings have in common, and how one is read by its kind."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError

from edgeannot.base.errors import ConfigError

__all__ = ["Options", "refused"]


class Options(BaseModel):
    """A section of the settings: each field has a default or is wanted, what it means is its docstring; unknown names are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


def refused(message: str | ConfigError) -> PydanticCustomError:
    """Return an error for pydantic, which adds the place."""
    return PydanticCustomError("kind", "{said}", {"said": str(message)})
