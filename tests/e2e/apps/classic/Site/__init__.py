import azure.functions as func


async def site(scope, receive, send):
    assert scope["type"] == "http"
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    head = f"{scope['method']} {scope['path']} {scope['azure_functions.function_name']} "
    await send({"type": "http.response.body", "body": head.encode(), "more_body": True})
    await send({"type": "http.response.body", "body": body})


main = func.AsgiMiddleware(site).main
