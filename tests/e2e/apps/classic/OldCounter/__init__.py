import azure.durable_functions as df


def entity_function(context: df.DurableEntityContext):
    context.set_state(context.get_state(lambda: 0) + context.get_input())
    context.set_result(context.get_state())


def main(context):
    counter = df.Entity.create(entity_function)
    return counter(context)
