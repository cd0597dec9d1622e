INSERT INTO users (id, name, name_key, role, password, created_at) VALUES ('u-1', 'Ada', 'ada', 'admin', '$argon2id$x', 1700000000000000);
INSERT INTO logins (hash, id, user_id, method, address, agent, created_at, seen_at, expires_at) VALUES ('aa', 'l-1', 'u-1', 'password', '192.0.2.1', 'test', 1700000000000000, 1700000000000000, 4000000000000000);
INSERT INTO audit (event, at, actor, address, act, subject, detail) VALUES ('e-1', 1700000000000000, 'Ada', '', 'user.create', 'Ada', '');
