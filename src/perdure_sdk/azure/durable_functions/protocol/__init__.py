"""The JSON protocol by which the official host drives orchestrators and entities of another process.

Rule 1: nothing here runs orchestrator code in a way of its own: histories become perdure's events, and its cursor and
        tasks do the rest.

Source: SDK 1.x, and OutOfProcOrchestrationShim.cs of the Durable Functions extension.
"""
