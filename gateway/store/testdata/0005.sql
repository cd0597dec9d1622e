INSERT INTO limits (subject, full_at) VALUES ('device d-1', 1700000000000000);
