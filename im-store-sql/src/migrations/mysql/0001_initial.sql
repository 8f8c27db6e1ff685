-- The tables of the im store, version 1. Times are milliseconds since the Unix epoch (UTC).

-- Numbers that the store keeps for itself: `generation`, `state_generation`.
CREATE TABLE IF NOT EXISTS im_numbers (
    name  VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE = InnoDB;

-- One row for each room. `room` is the number of this life of the room: one that is deleted and made anew has another.
-- The events kept are those with first_seq <= seq <= head_seq. `generation` and `room` make the epoch.
CREATE TABLE IF NOT EXISTS im_rooms (
    room       BIGINT NOT NULL PRIMARY KEY,
    id         VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    kind       VARCHAR(16) CHARACTER SET ascii NOT NULL, -- direct, group, channel, own
    access     VARCHAR(16) CHARACTER SET ascii NOT NULL, -- open: anybody may join; closed
    generation BIGINT NOT NULL,
    head_seq   BIGINT NOT NULL,
    first_seq  BIGINT NOT NULL,
    bytes      BIGINT NOT NULL, -- of the contents that are kept, packed
    created_at BIGINT NOT NULL,
    members    BIGINT NOT NULL, -- the banned are not counted
    erased     BIGINT NOT NULL, -- counts the messages that were changed because a user was erased
    UNIQUE (id)
) ENGINE = InnoDB;

-- Rooms under import, invisible until they are whole: then the row moves to im_rooms. Its messages, members and receipts
-- stand in the same tables as those of other rooms, under its number.
CREATE TABLE IF NOT EXISTS im_imports (
    room       BIGINT NOT NULL PRIMARY KEY,
    id         VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    kind       VARCHAR(16) CHARACTER SET ascii NOT NULL,
    access     VARCHAR(16) CHARACTER SET ascii NOT NULL,
    generation BIGINT NOT NULL,
    head_seq   BIGINT NOT NULL,
    first_seq  BIGINT NOT NULL,
    bytes      BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    members    BIGINT NOT NULL,
    erased     BIGINT NOT NULL,
    UNIQUE (id)
) ENGINE = InnoDB;

-- The numbers of deleted rooms and dropped imports whose messages, members, receipts and state were not all removed yet.
CREATE TABLE IF NOT EXISTS im_doomed (
    room BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;

-- Who is in which room, or banned from it, or may be found in it for another reason: by this, and by nothing else, all that
-- is to be erased with a user is found. `room_id` repeats im_rooms.id, so that a user's rooms are found in order.
CREATE TABLE IF NOT EXISTS im_members (
    room     BIGINT NOT NULL,
    user_id  VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    room_id  VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    standing VARCHAR(16) CHARACTER SET ascii NOT NULL, -- owner, moderator, member, reader; banned; none: was in it, wrote to it or is named in it
    next_seq BIGINT NOT NULL DEFAULT 0, -- the user was erased from the messages before this one
    PRIMARY KEY (room, user_id),
    INDEX im_members_by_user (user_id, room_id)
) ENGINE = InnoDB;

-- The rooms' logs, and which place each send was given under the id that its sender chose (its receipt): what makes a retry
-- a retry. `content` is JSON text; bytes in it are {"$bytes": "…"} in base64. Of an event that was trimmed, seq < first_seq,
-- the receipt stays and the content is NULL.
CREATE TABLE IF NOT EXISTS im_messages (
    room         BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    sender       VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    sent_at      BIGINT NOT NULL,
    kind         VARCHAR(32) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL, -- message; im.members and others that begin with im. are the engine's own
    message_id   VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- what the sender named it; ids that begin with the time are kept fastest
    content      LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    bytes        BIGINT NOT NULL, -- of the content, packed
    content_hash VARBINARY(32) NULL, -- SHA-256 of what was submitted, if it has a message_id
    PRIMARY KEY (room, seq),
    UNIQUE (message_id, sender, room)
) ENGINE = InnoDB;

-- Sessions that can be resumed. The secret itself is not kept.
CREATE TABLE IF NOT EXISTS im_sessions (
    id          VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    user_id     VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    device_id   VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    secret_hash VARBINARY(32) NOT NULL,
    created_at  BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    attached    BIGINT NOT NULL, -- connections that have taken it so far
    revision    BIGINT NOT NULL, -- counts the changes of what it follows
    INDEX im_sessions_by_user (user_id, created_at, id),
    INDEX im_sessions_by_expiry (expires_at)
) ENGINE = InnoDB;

-- What a session follows, and the last event that its client has confirmed.
CREATE TABLE IF NOT EXISTS im_followed (
    session     VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    room_id     VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    generation  BIGINT NOT NULL,
    incarnation BIGINT NOT NULL,
    seq         BIGINT NOT NULL,
    since       BIGINT NOT NULL, -- the session's revision at which following began
    PRIMARY KEY (session, room_id)
) ENGINE = InnoDB;

-- A ticket opens one stream of a session for clients that can show no credentials.
CREATE TABLE IF NOT EXISTS im_tickets (
    session     VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,
    secret_hash VARBINARY(32) NOT NULL,
    open_until  BIGINT NOT NULL,
    opened      BIGINT NOT NULL, -- 1 when it was
    device_id   VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    claims      LONGBLOB NOT NULL, -- MessagePack
    expires_at  BIGINT NULL
) ENGINE = InnoDB;

-- Latest-wins state: the newest value of each key. No value: the key was unset.
CREATE TABLE IF NOT EXISTS im_state (
    room          BIGINT NOT NULL,
    name          VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    stamp_ms      BIGINT NOT NULL,
    stamp_counter BIGINT NOT NULL,
    stamp_node    BIGINT NOT NULL,
    sender        VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    value         LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL, -- JSON text, as im_messages.content
    PRIMARY KEY (room, name)
) ENGINE = InnoDB;

-- How often a room's state changed, and the greatest stamp of a key that was unset and forgotten.
CREATE TABLE IF NOT EXISTS im_state_heads (
    room          BIGINT NOT NULL PRIMARY KEY,
    revision      BIGINT NOT NULL,
    floor_ms      BIGINT NULL,
    floor_counter BIGINT NULL,
    floor_node    BIGINT NULL
) ENGINE = InnoDB;

-- The nodes that write state now.
CREATE TABLE IF NOT EXISTS im_state_writers (
    node BIGINT NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
