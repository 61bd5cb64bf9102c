"""Control over MQTT: commands, and Home Assistant's discovery."""
