pytest_plugins = ["checkmate.testing"]
