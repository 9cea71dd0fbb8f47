pytest_plugins = ["checkmate.testing", "pytester"]
