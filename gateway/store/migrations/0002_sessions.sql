-- One row per viewer of a session: who may renew, move and end it, on any gateway and after any restart.
CREATE TABLE sessions (
    id         TEXT NOT NULL,
    viewer     TEXT NOT NULL,
    user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    pool       TEXT NOT NULL,
    role       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at   BIGINT NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL DEFAULT '',
    message    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (id, viewer)
);
CREATE INDEX sessions_user ON sessions (user_id, ended_at);
CREATE INDEX sessions_ended ON sessions (ended_at);
