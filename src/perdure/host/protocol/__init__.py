"""The out-of-process protocol: what the official SDK is told, and what its answers mean to the engine."""
