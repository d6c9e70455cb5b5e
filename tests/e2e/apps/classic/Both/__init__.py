import azure.functions as func


def main(parts: dict, context: func.Context) -> str:
    assert context.function_directory.endswith("Both")
    return f"{parts['left']} {parts['right']}"
