INSERT INTO sessions (id, viewer, user_id, login, pool, role, created_at) VALUES ('s-2', 'v-1', 'u-1', 'l-1', 'gnome', 'control', 1700000000000000);
