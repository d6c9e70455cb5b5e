"""Fan-out and fan-in: hash every file below a folder, one activity per file, and sum the results up.

Start it with    curl -X POST "http://localhost:7071/api/tree-report?root=/some/folder"
Without a root it reports on the folder of this app.
"""

import hashlib
import os
from collections import defaultdict
from pathlib import Path

import azure.durable_functions as df
import azure.functions as func

app = df.DFApp(http_auth_level=func.AuthLevel.FUNCTION)

# Folders that change by themselves, or that nobody wrote by hand.
SKIPPED = {".git", ".hypothesis", ".perdure", ".pytest_cache", ".ruff_cache", ".venv", "node_modules", "__pycache__"}
READ_SIZE = 1024 * 1024
LARGEST_SHOWN = 5


@app.route(route="tree-report", methods=["POST"])
@app.durable_client_input(client_name="client")
async def start(req: func.HttpRequest, client: df.DurableOrchestrationClient) -> func.HttpResponse:
    """Start a report on the folder `root`."""
    root = Path(req.params.get("root") or Path(__file__).parent).resolve()
    if not root.is_dir():
        return func.HttpResponse(f"There is no folder {root}.", status_code=400)
    instance_id = await client.start_new("tree_report", client_input=str(root))
    return client.create_check_status_response(req, instance_id)


@app.orchestration_trigger(context_name="context")
def tree_report(context: df.DurableOrchestrationContext):
    """List the files, measure all of them at the same time, and make one report of it."""
    root = context.get_input()
    paths = yield context.call_activity("list_files", root)
    context.set_custom_status(f"measuring {len(paths)} files")
    files = yield context.task_all([context.call_activity("measure_file", [root, path]) for path in paths])
    report = yield context.call_activity("summarize", [root, files])
    context.set_custom_status("done")
    return report


@app.activity_trigger(input_name="root")
def list_files(root: str) -> list:
    """Every file below `root`, relative to it, in order of name."""
    found = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = [each for each in subfolders if each not in SKIPPED]
        found.extend(os.path.relpath(os.path.join(folder, name), root) for name in names)
    return sorted(found)


@app.activity_trigger(input_name="file")
def measure_file(file: list) -> dict:
    """Size and SHA-256 of one file. A file that cannot be read is part of the report, not a failure of it."""
    root, path = file
    digest = hashlib.sha256()
    size = 0
    try:
        with open(os.path.join(root, path), "rb") as opened:
            while chunk := opened.read(READ_SIZE):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        return {"path": path, "error": error.strerror or str(error)}
    return {"path": path, "size": size, "sha256": digest.hexdigest()}


@app.activity_trigger(input_name="measured")
def summarize(measured: list) -> dict:
    """The report: totals, the largest files, and files with the same content."""
    root, files = measured
    readable = [each for each in files if "error" not in each]
    by_content = defaultdict(list)
    for each in readable:
        if each["size"]:
            by_content[each["sha256"]].append(each["path"])
    whole = hashlib.sha256("".join(f"{each['sha256']}  {each['path']}\n" for each in readable).encode())
    return {
        "root": root,
        "files": len(readable),
        "bytes": sum(each["size"] for each in readable),
        "sha256": whole.hexdigest(),
        "largest": sorted(readable, key=lambda each: (-each["size"], each["path"]))[:LARGEST_SHOWN],
        "same_content": [paths for paths in by_content.values() if len(paths) > 1],
        "unreadable": [each for each in files if "error" in each],
    }
