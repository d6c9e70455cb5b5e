"""The HTTP management API of a task hub, and the guard in front of everything a host serves."""
