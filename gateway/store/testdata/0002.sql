INSERT INTO sessions (id, viewer, user_id, pool, role, created_at) VALUES ('s-1', 'v-1', 'u-1', 'gnome', 'control', 1700000000000000);
