"""The agent: a model that calls tools in a loop, checked by something outside itself, and stopped by the runtime."""
