import sqlalchemy as sa

metadata = sa.MetaData()
notes = sa.Table(
    "notes",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("text", sa.String(200), nullable=False),
)

if __name__ == "__main__":
    engine = sa.create_engine("sqlite:///app.db")
    with engine.connect() as connection:
        print(connection.scalars(sa.select(notes.c.text)).all())  # noqa: T201 - seen by run.py
