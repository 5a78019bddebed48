"""The yardstick: FastAPI that inserts a row into one table, and does nothing else."""

import os
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy import JSON, Column, MetaData, Table, Uuid, insert

from jobs.database import open_database
from jobs.ids import new_id

metadata = MetaData()
rows = Table("rows", metadata, Column("id", Uuid, primary_key=True), Column("spec", JSON))


class Wish(BaseModel):
    """Anything."""

    source: str
    base_prompt: str
    edit_prompt: str


def make() -> FastAPI:
    """The application; it makes its table."""
    app = FastAPI()
    engine = open_database(os.environ["EDICT_DATABASE_URL"])
    metadata.create_all(engine)

    @app.post("/v1/jobs", status_code=201)
    def submit(wish: Wish) -> Any:
        key = new_id()
        with engine.begin() as connection:
            connection.execute(insert(rows).values(id=key, spec=wish.model_dump()))
        return {"id": str(key)}

    return app
