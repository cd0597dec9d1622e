-- One row per address or name that tried to sign in lately: what it has used up, on all gateways together.
CREATE TABLE limits (
    subject TEXT PRIMARY KEY,
    full_at BIGINT NOT NULL
);
CREATE INDEX limits_full ON limits (full_at);
