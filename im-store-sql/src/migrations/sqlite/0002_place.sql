-- Version 2.

-- Where the file was when the store was opened last, without symbolic links: its log lies beside that name. A file that was
-- moved without its log, or is open by another name, is found out by it.
CREATE TABLE im_place (
    id   INTEGER PRIMARY KEY CHECK (id = 1),
    path TEXT NOT NULL
);
