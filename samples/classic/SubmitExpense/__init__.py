"""Takes in an expense, and answers with the links to follow it."""

import azure.durable_functions as df
import azure.functions as func
from __app__.shared.expenses import problem_of


async def main(req: func.HttpRequest, starter: str, response: func.Out[func.HttpResponse]) -> None:
    try:
        expense = req.get_json()
    except ValueError:
        expense = None
    problem = problem_of(expense)
    if problem is not None:
        response.set(func.HttpResponse(problem, status_code=400))
        return
    client = df.DurableOrchestrationClient(starter)
    instance_id = await client.start_new("ApproveExpense", client_input=expense)
    response.set(client.create_check_status_response(req, instance_id))
