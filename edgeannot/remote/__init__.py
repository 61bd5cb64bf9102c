"""What others may do with this device over MQTT: give commands, and see it in Home Assistant."""
