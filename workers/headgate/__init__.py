"""Fan-out pipelines on Redis Streams: the data plane and the SDK."""
