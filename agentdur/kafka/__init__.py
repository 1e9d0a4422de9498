"""Subscriptions that turn Kafka records into invocations."""
