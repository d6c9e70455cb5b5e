"""A Flask application behind one trigger, below the usual prefix."""

import itertools
import time

import azure.functions as func
import flask

site = flask.Flask(__name__)


@site.post("/api/form")
def form():
    file = flask.request.files["file"]
    return {"name": flask.request.form["name"], "file": file.filename, "length": len(file.read())}


@site.post("/api/echo")
def echo():
    return flask.Response(flask.request.get_data(), headers=[("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")])


@site.get("/api/environ")
def environ():
    names = ("SCRIPT_NAME", "PATH_INFO", "QUERY_STRING", "HTTP_X_TEST", "azure_functions.function_name")
    return {each: flask.request.environ[each] for each in names}


@site.get("/api/fails")
def fails():
    raise LookupError("nobody is called that")


@site.post("/api/lengths")
def lengths():
    """Reads and answers piece by piece, so a body larger than the memory would do."""

    def made():
        while chunk := flask.request.stream.read(1 << 20):
            yield f"{len(chunk)}\n"

    return flask.Response(flask.stream_with_context(made()), mimetype="text/plain")


@site.get("/api/ticks")
def ticks():
    def made():
        try:
            for number in itertools.count():
                yield f"{number}\n"
                time.sleep(0.01)
        finally:
            print("ticks ended")

    return flask.Response(made(), mimetype="text/plain")


app = func.WsgiFunctionApp(app=site.wsgi_app, http_auth_level=func.AuthLevel.ANONYMOUS)
