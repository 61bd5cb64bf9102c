"""Runs a real Home Assistant without its web pages: its core, MQTT integration and automations. For Home Assistant's own Python.

    driver.py FOLDER BROKER_PORT

FOLDER holds configuration.yaml. What happens is written to standard output as lines of JSON: {"state": ENTITY, "is": ...}
for each state, {"notify": MESSAGE} for each call of notify.notify, {"ready": true} once MQTT is set up.
"""

from __future__ import annotations

import asyncio
import json
import sys
from types import MappingProxyType
from typing import Any

from homeassistant import bootstrap, config_entries, runner
from homeassistant.const import EVENT_STATE_CHANGED
from homeassistant.core import Event, HomeAssistant, ServiceCall

NEEDED = {"automation"}


def say(what: dict[str, Any]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(what, default=str) + "\n")
    sys.stdout.flush()


def tell_state(event: Event) -> None:
    """A state as it is now."""
    if (state := event.data["new_state"]) is not None:
        say({"state": state.entity_id, "is": state.state, "attributes": dict(state.attributes)})


async def notified(call: ServiceCall) -> None:
    """What an automation says."""
    say({"notify": call.data["message"]})


def entry_for(port: int) -> config_entries.ConfigEntry:
    """The MQTT integration as its dialogue sets it up."""
    return config_entries.ConfigEntry(
        data={"broker": "127.0.0.1", "port": port},
        discovery_keys=MappingProxyType({}),
        domain="mqtt",
        minor_version=2,
        options={},
        source=config_entries.SOURCE_USER,
        subentries_data=(),
        title="broker",
        unique_id=None,
        version=1,
    )


async def run(folder: str, port: int) -> None:
    """Until it is told to end."""
    # What every installation has and this one needs not: the web pages, the map, backups, and what asks the internet.
    for name in ("DEFAULT_INTEGRATIONS", "CRITICAL_INTEGRATIONS", "FRONTEND_INTEGRATIONS"):
        getattr(bootstrap, name).clear()
    bootstrap.DEFAULT_INTEGRATIONS.update(NEEDED)
    hass: HomeAssistant | None = await bootstrap.async_setup_hass(runner.RuntimeConfig(config_dir=folder, skip_pip=True))
    assert hass is not None
    hass.bus.async_listen(EVENT_STATE_CHANGED, tell_state)
    hass.services.async_register("notify", "notify", notified)
    ended = hass.loop.create_task(hass.async_run(attach_signals=True))
    await hass.config_entries.async_add(entry_for(port))
    entry = hass.config_entries.async_entries("mqtt")[0]
    say({"ready": entry.state is config_entries.ConfigEntryState.LOADED})
    await ended


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], int(sys.argv[2])))
