"""A program that is no function app: it starts an orchestration of one, and waits for it."""

# example: connect, TaskHubClient.start, TaskHubClient.wait
import json
from datetime import timedelta
from pathlib import Path

import perdure


async def greet_everywhere(app_folder: Path, cities: list[str]) -> list[str] | None:
    """Inputs and outputs are JSON text here."""
    async with perdure.connect(app_folder) as client:
        instance_id = await client.start("hello_everywhere", json.dumps(cities))
        instance = await client.wait(instance_id, timeout=timedelta(seconds=10))
        return json.loads(instance.output) if instance.status.is_terminal else None
