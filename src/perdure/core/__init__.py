"""What a task hub means: history, replay, checkpoints. Pure: standard library and msgspec, no clock, no await."""
