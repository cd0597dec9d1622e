-- The login that a viewer's part in a session came with: the part ends with it. What runs already hangs on the login seen last.
ALTER TABLE sessions ADD COLUMN login TEXT NOT NULL DEFAULT '';
UPDATE sessions SET login = COALESCE((SELECT l.id FROM logins l WHERE l.user_id = sessions.user_id ORDER BY l.seen_at DESC LIMIT 1), '')
    WHERE ended_at = 0;
