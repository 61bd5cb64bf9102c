"""MQTT by paho: the client, the publisher that drains the outbox, the subscriber, worker groups."""
