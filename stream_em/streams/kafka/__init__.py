"""Kafka as a source of blocks: two clients behind one interface, polled by a thread of its own."""
