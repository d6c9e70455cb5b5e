"""What has been spent so far."""

import azure.durable_functions as df


def entity_function(context: df.DurableEntityContext) -> None:
    spent = context.get_state(lambda: 0)
    if context.operation_name == "spend":
        spent += context.get_input()
    context.set_state(spent)
    context.set_result(spent)


main = df.Entity.create(entity_function)
