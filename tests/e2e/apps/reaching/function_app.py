"""Goes wherever its input says. Names of the form `*.test` mean what is written here; no other name means anything."""

import socket

import azure.durable_functions as df

app = df.DFApp()

NAMES = {
    "loop.test": ["127.0.0.1"],
    "loop6.test": ["::1"],
    "mapped.test": ["::ffff:127.0.0.1"],
    "zero.test": ["0.0.0.0"],
    "private.test": ["10.0.0.1"],
    "metadata.test": ["169.254.169.254"],
    "several.test": ["127.0.0.1", "10.0.0.1", "::1"],
    "siit.test": ["::ffff:0:127.0.0.1"],
    "nat64.test": ["64:ff9b::7f00:1"],
    "sixtofour.test": ["2002:7f00:1::1"],
    "compatible.test": ["::127.0.0.1"],
    "site.test": ["fec0::1"],
    "wire.test": ["168.63.129.16"],
}

resolve = socket.getaddrinfo


def resolve_here(host, port, family=0, type=0, proto=0, flags=0):
    """What the name service of a hostile network could answer, and no question to the real one."""
    name = host.decode() if isinstance(host, bytes) else host
    if name is None or name.rstrip(".").lower() == "localhost":
        return resolve(host, port, family, type, proto, flags)
    try:
        return resolve(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
    except (socket.gaierror, UnicodeError):
        addresses = NAMES.get(name.rstrip(".").lower(), [])
    if not addresses:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    return [
        (socket.AF_INET6 if ":" in each else socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
        for each in addresses
    ]


socket.getaddrinfo = resolve_here


@app.orchestration_trigger(context_name="context")
def visits(context: df.DurableOrchestrationContext):
    """What became of each of these addresses, in order."""
    seen = []
    for url in context.get_input():
        try:
            answer = yield context.call_http("GET", url)
            seen.append(answer["content"])
        except Exception as error:
            seen.append(f"{error}")
    return seen
