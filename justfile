# Shortcuts; every recipe is one command that also works without `just`.
up *args:
    ./rift up {{args}}

test:
    ./rift test

format:
    .venv/bin/ruff check --fix .
    .venv/bin/ruff format .

types:
    .venv/bin/mypy

cluster *args:
    .venv/bin/python -m pytest -m cluster {{args}}
