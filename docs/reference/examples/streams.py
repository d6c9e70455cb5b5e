"""Functions whose bodies are streamed, with azurefunctions-extensions-http-fastapi."""

import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, StreamingResponse

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.route(route="upload", methods=["POST"])
async def upload(req: Request) -> JSONResponse:
    size = 0
    async for piece in req.stream():
        size += len(piece)
    return JSONResponse({"bytes": size})


@app.route(route="rows/{count:int}")
async def rows(req: Request) -> StreamingResponse:
    count = int(req.path_params["count"])
    return StreamingResponse((f"{number}\n" for number in range(count)), media_type="text/csv")
