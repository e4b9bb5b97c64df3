"""Start the app: ``python app.py [--study DIR] [--port 7860] [--host 127.0.0.1]``."""

import sys

import typer

from explorer.cli.app import app

if __name__ == "__main__":
    try:
        typer.run(app)
    except (ValueError, FileNotFoundError) as error:
        sys.exit(f"error: {error}")
