"""Function apps and blueprints with the durable decorators.

Each decorator may be used bare, called with nothing, or called with the official arguments; a parameter's name that is
not given is found in the function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import azure.functions as func
from azure.durable_functions.bindings import ActivityTrigger, DurableClient, EntityTrigger, OrchestrationTrigger
from azure.durable_functions.builders import UserFunction, replace_user_function, user_function
from azure.durable_functions.client_parameter import with_client
from azure.durable_functions.entity import Entity
from azure.durable_functions.mistakes import parameter_of, refuse_async_generator
from azure.durable_functions.orchestrator import Orchestrator
from azure.functions.decorators.function_app import FunctionBuilder

Decorated = UserFunction | FunctionBuilder
Decorator = Callable[[Decorated], FunctionBuilder]
_Configure = Callable[[Callable[[FunctionBuilder], FunctionBuilder]], Decorator]


class Blueprint(func.TriggerApi, func.BindingApi, func.SettingsApi):
    """Holds functions until an app registers them.

    Args:
        http_auth_level: a level or its name, in any case.

    Raises:
        ValueError: there is no such level.
    """

    def __init__(self, http_auth_level: func.AuthLevel | str = func.AuthLevel.FUNCTION) -> None:
        # azure.functions does not annotate what its bases take.
        super().__init__(auth_level=_auth_level(http_auth_level))  # pyright: ignore[reportUnknownMemberType]

    def orchestration_trigger(
        self,
        context_name: str | Decorated | None = None,
        orchestration: str | None = None,
        input_type: Any = None,
    ) -> Any:
        """Register an orchestrator.

        Args:
            context_name: the parameter that gets the context.
            orchestration: the name to register it under, instead of the function's.
            input_type: what `context.get_input()` expects.

        Raises:
            DecorationError: the function has no such parameter, or mixes `async def` with `yield`.
        """

        def register(builder: FunctionBuilder, name: str | None) -> None:
            function = user_function(builder)
            refuse_async_generator(function)
            parameter = parameter_of(function, name, "context", "orchestration_trigger", "context_name")
            replace_user_function(builder, Orchestrator.create(function, input_type, parameter))
            builder.add_trigger(OrchestrationTrigger(parameter, orchestration))

        return self._decorator(context_name, register)

    def activity_trigger(self, input_name: str | Decorated | None = None, activity: str | None = None) -> Any:
        """Register an activity.

        Args:
            input_name: the parameter that gets the input.
            activity: the name to register it under, instead of the function's.

        Raises:
            DecorationError: the function has no such parameter.
        """

        def register(builder: FunctionBuilder, name: str | None) -> None:
            parameter = parameter_of(user_function(builder), name, "input", "activity_trigger", "input_name")
            builder.add_trigger(ActivityTrigger(parameter, activity))

        return self._decorator(input_name, register)

    def entity_trigger(self, context_name: str | Decorated | None = None, entity_name: str | None = None) -> Any:
        """Register an entity.

        Args:
            context_name: the parameter that gets the context.
            entity_name: the name to register it under, instead of the function's.

        Raises:
            DecorationError: the function has no such parameter.
        """

        def register(builder: FunctionBuilder, name: str | None) -> None:
            function = user_function(builder)
            parameter = name or "context"
            if not isinstance(function, type):  # a class has no parameter for it: it is given as `self.context`
                parameter = parameter_of(function, name, "context", "entity_trigger", "context_name")
            replace_user_function(builder, Entity.create(function, parameter))
            builder.add_trigger(EntityTrigger(parameter, entity_name))

        return self._decorator(context_name, register)

    def durable_client_input(
        self,
        client_name: str | Decorated | None = None,
        task_hub: str | None = None,
        connection_name: str | None = None,
    ) -> Any:
        """Give a function a client of the task hub.

        Args:
            client_name: the parameter that gets the client.
            task_hub: the app's own, by name or as a %SETTING% with it: a host has no other.
            connection_name: accepted, and without effect.

        Raises:
            DecorationError: the function has no such parameter.
        """

        def register(builder: FunctionBuilder, name: str | None) -> None:
            function = user_function(builder)
            parameter = parameter_of(function, name, "client", "durable_client_input", "client_name")
            replace_user_function(builder, with_client(function, parameter))
            builder.add_binding(DurableClient(parameter, task_hub, connection_name))

        return self._decorator(client_name, register)

    def _decorator(
        self, first: str | Decorated | None, register: Callable[[FunctionBuilder, str | None], None]
    ) -> Decorator | FunctionBuilder:
        """The decorator, or, used bare, what it makes of the function that it was put on."""
        name = None if first is None or callable(first) else first

        def add(builder: FunctionBuilder) -> FunctionBuilder:
            register(builder, name)
            return builder

        # What azure.functions offers to those who add decorators, such as the official SDK; it is not annotated.
        configure = cast("_Configure", self._configure_function_builder)  # pyright: ignore[reportUnknownMemberType]
        decorate = configure(add)
        return decorate(first) if callable(first) else decorate

    def _validate_type(self, func: Decorated) -> FunctionBuilder:
        """Take a builder out of the list that it is in, to be put back by the decorator that asked.

        `azure.functions` takes the last one of its own list, whichever that is, and so decorates another function if
        this one was begun on the default blueprint.
        """
        if isinstance(func, FunctionBuilder):
            for container in (self, default_blueprint):
                if func in container._function_builders:
                    container._function_builders.remove(func)
                    return func
            raise ValueError(
                "this function was decorated by another app or blueprint: use the decorators of one and the same"
            )
        return super()._validate_type(func)


class DFApp(Blueprint, func.FunctionRegister):
    """A function app with the durable decorators.

    Args:
        http_auth_level: the level of HTTP functions that name none, or its name, in any case.

    Raises:
        ValueError: there is no such level.
    """


def _auth_level(level: func.AuthLevel | str) -> func.AuthLevel:
    if isinstance(level, func.AuthLevel):
        return level
    try:
        return func.AuthLevel[level.upper()]
    except KeyError:
        names = ", ".join(each.name for each in func.AuthLevel)
        raise ValueError(f"http_auth_level is '{level}', but must be one of {names}") from None


default_blueprint = Blueprint()
"""What the module's own decorators register on; the host runs it with the app, or alone if there is none."""

orchestration_trigger = default_blueprint.orchestration_trigger
activity_trigger = default_blueprint.activity_trigger
entity_trigger = default_blueprint.entity_trigger
durable_client_input = default_blueprint.durable_client_input
