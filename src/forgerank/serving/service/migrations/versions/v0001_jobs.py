"""Keys, jobs, results, completions."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("revoked", sa.Double()),
        sa.PrimaryKeyConstraint("id", name="pk_api_keys"),
        sa.UniqueConstraint("hash", name="uq_api_keys_hash"),
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("key_id", sa.Integer()),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("file", sa.String(32)),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("queued", sa.Double(), nullable=False),
        sa.Column("started", sa.Double()),
        sa.Column("finished", sa.Double()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("token", sa.String(32)),
        sa.Column("lease_until", sa.Double()),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("seconds_left", sa.Double()),
        sa.Column("error", sa.Text()),
        sa.CheckConstraint("state IN ('queued', 'running', 'done', 'failed')", name=op.f("ck_jobs_state")),
        sa.CheckConstraint("kind IN ('photo', 'video', 'archive')", name=op.f("ck_jobs_kind")),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name="fk_jobs_key_id", ondelete="SET NULL"),
    )
    op.create_index("ix_jobs_state_queued", "jobs", ["state", "queued"])
    op.create_index("ix_jobs_finished", "jobs", ["finished"])
    op.create_table(
        "results",
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("json", sa.LargeBinary(), nullable=False),
        sa.Column("html", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="pk_results"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_results_job_id", ondelete="CASCADE"),
    )
    op.create_table(
        "completions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("job_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("worker", sa.Text()),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_completions"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_completions_job_id", ondelete="CASCADE"),
    )
    op.create_index("ix_completions_job_id", "completions", ["job_id"])
