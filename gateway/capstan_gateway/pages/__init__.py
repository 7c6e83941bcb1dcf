"""The pages beside the inference routes: models, health and admin, served by FastAPI through a bridge to ASGI."""
