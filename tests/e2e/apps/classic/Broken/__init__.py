import no_such_package_at_all


def main(name: str) -> str:
    return no_such_package_at_all.greeting(name)
