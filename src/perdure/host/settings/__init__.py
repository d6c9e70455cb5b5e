"""host.json, local.settings.json and the environment: read, checked, explained."""
