"""Which `azure.durable_functions` runs the app: perdure's or the app's own."""
