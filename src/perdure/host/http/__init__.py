"""HTTP: the listener, who may call, and the functions behind HTTP triggers."""
