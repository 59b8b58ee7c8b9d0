-- The durable state of one daemon.
--
-- `body` is the JSON of the value as the program knows it; the columns beside it are what is compared, searched or
-- constrained. Times are wall milliseconds (`…_ms`); where a duration is measured from a row, its boot and boot clock
-- stand in `body` or beside it. Ids are 26 letters that sort by time of making.

CREATE TABLE heal (
    id              TEXT PRIMARY KEY CHECK (length(id) = 26),
    app             TEXT NOT NULL,
    host            TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN (
        'Admitted', 'Protected', 'Acting', 'InDoubt', 'Settling', 'Verifying', 'Soaking', 'Undoing', 'Rechecking',
        'Cured', 'NotCured', 'Kept', 'Undone', 'UndoBlocked', 'UndoFailed', 'Aborted')),
    version         INTEGER NOT NULL CHECK (version > 0),
    fence           INTEGER NOT NULL CHECK (fence >= 0),
    origin          TEXT NOT NULL CHECK (origin IN ('unattended', 'requested', 'approved', 'rollback')),
    action          TEXT NOT NULL,
    incident        TEXT NOT NULL,
    unattended      INTEGER NOT NULL CHECK (unattended IN (0, 1)),
    admitted_ms     INTEGER NOT NULL,
    moved_ms        INTEGER NOT NULL,
    started_ms      INTEGER,
    started_boot    TEXT,
    started_boot_ms INTEGER,
    ended_ms        INTEGER,
    -- 1: over, but a person must still decide.
    waits           INTEGER NOT NULL CHECK (waits IN (0, 1)),
    body            TEXT NOT NULL,
    UNIQUE (host, fence),
    CHECK ((ended_ms IS NOT NULL) = (state IN (
        'Cured', 'NotCured', 'Kept', 'Undone', 'UndoBlocked', 'UndoFailed', 'Aborted'))),
    CHECK ((started_ms IS NULL) = (started_boot IS NULL) AND (started_ms IS NULL) = (started_boot_ms IS NULL))
) STRICT;

CREATE INDEX heal_by_app ON heal (app, id);
CREATE INDEX heal_open ON heal (id) WHERE ended_ms IS NULL OR waits = 1;
CREATE INDEX heal_started ON heal (id, started_ms, started_boot, started_boot_ms) WHERE started_ms IS NOT NULL;
CREATE INDEX heal_ended ON heal (ended_ms) WHERE ended_ms IS NOT NULL;

-- The journal: every event a heal took, in order.
CREATE TABLE heal_event (
    seq    INTEGER PRIMARY KEY,
    heal   TEXT NOT NULL REFERENCES heal (id) ON DELETE CASCADE,
    at_ms  INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    event  TEXT NOT NULL,
    state  TEXT NOT NULL,
    -- JSON of the moment and of the event.
    at     TEXT NOT NULL,
    body   TEXT NOT NULL
) STRICT;

CREATE INDEX heal_event_by_heal ON heal_event (heal, seq);

-- Highest fence token per host; outlives the heals it was given to.
CREATE TABLE fence (
    host  TEXT PRIMARY KEY,
    token INTEGER NOT NULL CHECK (token >= 0)
) STRICT;

CREATE TABLE incident (
    id         TEXT PRIMARY KEY CHECK (length(id) = 26),
    app        TEXT NOT NULL,
    check_name TEXT,
    kind       TEXT NOT NULL CHECK (kind IN ('SYMPTOM', 'UNKNOWN', 'REQUEST')),
    state      TEXT NOT NULL CHECK (state IN ('OPEN', 'HEALING', 'WATCHING', 'CLOSED', 'ESCALATED')),
    status     TEXT NOT NULL CHECK (status IN ('PASS', 'WARN', 'FAIL', 'ERROR')),
    severity   TEXT NOT NULL CHECK (severity IN ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL')),
    opened_ms  INTEGER NOT NULL,
    changed_ms INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;

CREATE INDEX incident_by_app ON incident (app, id);
CREATE INDEX incident_open ON incident (id) WHERE state <> 'CLOSED';
CREATE INDEX incident_closed ON incident (changed_ms) WHERE state = 'CLOSED';

CREATE TABLE incident_event (
    seq      INTEGER PRIMARY KEY,
    incident TEXT NOT NULL REFERENCES incident (id) ON DELETE CASCADE,
    at_ms    INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    state    TEXT NOT NULL,
    note     TEXT NOT NULL
) STRICT;

CREATE INDEX incident_event_by_incident ON incident_event (incident, seq);

CREATE TABLE breaker (
    app        TEXT PRIMARY KEY,
    state      TEXT NOT NULL CHECK (state IN ('CLOSED', 'OPEN', 'HALF_OPEN')),
    version    INTEGER NOT NULL CHECK (version > 0),
    changed_ms INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;

-- Every transition; each begins where the one before it ended.
CREATE TABLE breaker_event (
    seq        INTEGER PRIMARY KEY,
    app        TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    from_state TEXT NOT NULL CHECK (from_state IN ('CLOSED', 'OPEN', 'HALF_OPEN')),
    to_state   TEXT NOT NULL CHECK (to_state IN ('CLOSED', 'OPEN', 'HALF_OPEN')),
    body       TEXT NOT NULL
) STRICT;

CREATE INDEX breaker_event_by_app ON breaker_event (app, seq);

CREATE TRIGGER breaker_event_connects BEFORE INSERT ON breaker_event
WHEN NEW.from_state <> coalesce(
    (SELECT to_state FROM breaker_event WHERE app = NEW.app ORDER BY seq DESC LIMIT 1), 'CLOSED')
BEGIN
    SELECT RAISE(ABORT, 'a breaker transition does not begin where the one before it ended');
END;

CREATE TABLE approval (
    id         TEXT PRIMARY KEY CHECK (length(id) = 26),
    app        TEXT NOT NULL,
    host       TEXT NOT NULL,
    action     TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('PENDING', 'GRANTED', 'USED', 'REJECTED', 'EXPIRED', 'STALE')),
    version    INTEGER NOT NULL CHECK (version > 0),
    digest     TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    ended_ms   INTEGER,
    body       TEXT NOT NULL,
    CHECK ((ended_ms IS NULL) = (state IN ('PENDING', 'GRANTED')))
) STRICT;

CREATE INDEX approval_by_app ON approval (app, id);
CREATE INDEX approval_open ON approval (id) WHERE ended_ms IS NULL;
CREATE INDEX approval_ended ON approval (ended_ms) WHERE ended_ms IS NOT NULL;

-- One approving and one rejecting vote per person at most.
CREATE TABLE approval_vote (
    approval TEXT NOT NULL REFERENCES approval (id) ON DELETE CASCADE,
    uid      INTEGER NOT NULL,
    approve  INTEGER NOT NULL CHECK (approve IN (0, 1)),
    name     TEXT NOT NULL,
    reason   TEXT NOT NULL,
    at_ms    INTEGER NOT NULL,
    PRIMARY KEY (approval, uid, approve)
) STRICT;

CREATE TABLE backup (
    id       TEXT PRIMARY KEY CHECK (length(id) = 26),
    kind     TEXT NOT NULL CHECK (kind IN ('heal', 'known_good', 'manual', 'before_rollback')),
    app      TEXT NOT NULL,
    host     TEXT NOT NULL,
    heal     TEXT,
    damaged  INTEGER NOT NULL CHECK (damaged IN (0, 1)),
    taken_ms INTEGER NOT NULL,
    body     TEXT NOT NULL
) STRICT;

CREATE INDEX backup_by_app ON backup (app, id);

-- Who needs a backup; one that is pinned cannot be removed.
CREATE TABLE backup_pin (
    backup TEXT NOT NULL REFERENCES backup (id) ON DELETE RESTRICT,
    by     TEXT NOT NULL,
    at_ms  INTEGER NOT NULL,
    PRIMARY KEY (backup, by)
) STRICT;

CREATE TABLE lease (
    key  TEXT PRIMARY KEY,
    heal TEXT NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE hold (
    id       TEXT PRIMARY KEY CHECK (length(id) = 26),
    scope    TEXT NOT NULL,
    since_ms INTEGER NOT NULL,
    ended_ms INTEGER,
    body     TEXT NOT NULL
) STRICT;

CREATE INDEX hold_active ON hold (id) WHERE ended_ms IS NULL;

CREATE TABLE mute (
    app        TEXT NOT NULL,
    check_name TEXT NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (app, check_name)
) STRICT;

-- `scope` is `all` or `app:NAME`.
CREATE TABLE mode_override (
    scope TEXT PRIMARY KEY,
    mode  TEXT NOT NULL CHECK (mode IN ('MANUAL', 'SEMI_AUTO', 'FULL_AUTO')),
    body  TEXT NOT NULL
) STRICT;

CREATE TABLE due (
    app    TEXT PRIMARY KEY,
    due_ms INTEGER NOT NULL,
    body   TEXT NOT NULL
) STRICT;

CREATE TABLE check_last (
    app        TEXT NOT NULL,
    check_name TEXT NOT NULL,
    status     TEXT NOT NULL CHECK (status IN ('PASS', 'WARN', 'FAIL', 'ERROR')),
    rule       INTEGER,
    message    TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    body       TEXT NOT NULL,
    PRIMARY KEY (app, check_name)
) STRICT;

-- History: a row only when status, rule or message changed.
CREATE TABLE check_change (
    seq        INTEGER PRIMARY KEY,
    app        TEXT NOT NULL,
    check_name TEXT NOT NULL,
    status     TEXT NOT NULL,
    rule       INTEGER,
    message    TEXT NOT NULL,
    at_ms      INTEGER NOT NULL,
    body       TEXT NOT NULL
) STRICT;

CREATE INDEX check_change_by_app ON check_change (app, check_name, seq);
CREATE INDEX check_change_by_time ON check_change (at_ms);

CREATE TABLE bar (
    app    TEXT NOT NULL,
    action TEXT NOT NULL,
    cause  TEXT NOT NULL,
    body   TEXT NOT NULL,
    PRIMARY KEY (app, action)
) STRICT;

CREATE TABLE outbox (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    key         TEXT NOT NULL,
    event       TEXT NOT NULL,
    due_ms      INTEGER NOT NULL,
    due_boot    TEXT NOT NULL,
    due_boot_ms INTEGER NOT NULL,
    attempts    INTEGER NOT NULL CHECK (attempts >= 0),
    sent_ms     INTEGER,
    body        TEXT NOT NULL
) STRICT;

CREATE INDEX outbox_unsent ON outbox (id) WHERE sent_ms IS NULL;
CREATE INDEX outbox_by_key ON outbox (key, id);
CREATE INDEX outbox_sent ON outbox (sent_ms) WHERE sent_ms IS NOT NULL;

CREATE TABLE setting (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- The store's own marks: the highest id ever removed, the counter of `touch`.
CREATE TABLE mark (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;

-- Append-only; each row's hash is made over the hash of the row before it.
CREATE TABLE audit (
    seq    INTEGER PRIMARY KEY,
    at_ms  INTEGER NOT NULL,
    actor  TEXT NOT NULL,
    verb   TEXT NOT NULL,
    object TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash   TEXT NOT NULL CHECK (length(hash) = 64)
) STRICT;

CREATE TRIGGER audit_grows_at_its_end BEFORE INSERT ON audit
WHEN NEW.seq <> coalesce((SELECT max(seq) FROM audit), 0) + 1
BEGIN
    SELECT RAISE(ABORT, 'an audit row can only follow the last one');
END;

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows cannot be changed');
END;

CREATE TRIGGER audit_is_never_deleted BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'audit rows cannot be deleted');
END;
