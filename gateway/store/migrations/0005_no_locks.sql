-- What strangers try is limited by name, whether there is such an account or not, and no longer remembered with the account.
ALTER TABLE users DROP COLUMN failed;
ALTER TABLE users DROP COLUMN failed_at;
