"""Runs in an environment of its own: the official SDK replays the programs of `programs.py`.

Each line on standard input is an object with `program` and `context`, or with `batch`; it is answered by
one line with `answer`, or with the `text` of what was raised.
"""

import json
import sys
import warnings

import azure.durable_functions as df
from programs import counter, orchestrator_of

warnings.simplefilter("ignore")


for line in sys.stdin:
    asked = json.loads(line)
    try:
        if "batch" in asked:
            answer = {"answer": df.Entity.create(counter)(asked["batch"])}
        else:
            answer = {"answer": df.Orchestrator.create(orchestrator_of(df, asked["program"]))(asked["context"])}
    except Exception as error:
        answer = {"text": str(error)}
    print(json.dumps(answer), flush=True)
