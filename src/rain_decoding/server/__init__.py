"""An OpenAI-compatible server: `app.create_app(decoder, ServerConfig())` is the ASGI application of `rain serve`."""
