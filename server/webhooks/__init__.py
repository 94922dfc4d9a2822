"""Sends the webhooks of the outbox."""
