INSERT INTO limits (subject, full_at) VALUES ('name ada', 1700000000000000);
