"""Numbered migrations of the database. Append only: never edit one that was released.

Ids are never used twice (AUTOINCREMENT): files, hashes and job results name rows by id, also after they are gone.

`tests/storage/test_schema.py` pins the resulting schema.
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("alapp")


@migrations()
def m001_projects(db: Database) -> None:
    """Projects, their images, and the patches that images are cut into."""
    db.executescript("""
    CREATE TABLE project (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        created TEXT NOT NULL,
        modality TEXT NOT NULL,            -- light | em
        target TEXT NOT NULL,              -- what is segmented, in the user's words
        patch_size INTEGER NOT NULL,       -- pixels in y and x
        patch_depth INTEGER NOT NULL,      -- slices in z, 3D images only
        patch_overlap INTEGER NOT NULL,    -- pixels in y and x
        validation_share REAL NOT NULL,    -- of each batch
        seed INTEGER NOT NULL,
        preset TEXT NOT NULL,              -- quick | standard | full
        strategy TEXT NOT NULL,
        click_method TEXT NOT NULL,
        pseudo_method TEXT,                -- NULL: not decided; 'none': switched off
        pseudo_params TEXT NOT NULL,       -- JSON
        sample TEXT,                       -- name of the sample data set, if it is one
        visitor TEXT,                      -- owner on a public demo, else NULL
        expires TEXT,
        deleted TEXT
    ) STRICT;
    CREATE UNIQUE INDEX project_name ON project (name, coalesce(visitor, '')) WHERE deleted IS NULL;

    CREATE TABLE image (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        name TEXT NOT NULL,
        role TEXT NOT NULL,                -- train | test
        source TEXT NOT NULL,              -- file name or path it came from
        source_sha256 TEXT NOT NULL,
        path TEXT NOT NULL,                -- .npy, (Z, Y, X, C), relative to the state folder
        sha256 TEXT NOT NULL,
        shape TEXT NOT NULL,               -- JSON [Z, Y, X, C]
        is_3d INTEGER NOT NULL,
        dtype TEXT NOT NULL,
        axes TEXT NOT NULL,                -- of the file, as confirmed
        axes_source TEXT NOT NULL,
        voxel_size TEXT NOT NULL,          -- JSON {z, y, x} in micrometres, null if unknown
        warnings TEXT NOT NULL,            -- JSON list of sentences
        created TEXT NOT NULL,
        deleted TEXT
    ) STRICT;
    CREATE UNIQUE INDEX image_name ON image (project_id, name) WHERE deleted IS NULL;

    CREATE TABLE patch (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image_id INTEGER NOT NULL REFERENCES image ON DELETE CASCADE,
        z INTEGER NOT NULL, y INTEGER NOT NULL, x INTEGER NOT NULL,
        depth INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL,
        UNIQUE (image_id, z, y, x, depth, height, width)
    ) STRICT;
    """)


@migrations()
def m002_jobs(db: Database) -> None:
    """The queue of long work."""
    db.executescript("""
    CREATE TABLE job (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER REFERENCES project ON DELETE CASCADE,
        kind TEXT NOT NULL,
        params TEXT NOT NULL,              -- JSON
        state TEXT NOT NULL,               -- queued | running | done | failed | cancelled
        done REAL NOT NULL DEFAULT 0,
        total REAL NOT NULL DEFAULT 0,
        message TEXT NOT NULL DEFAULT '',
        error TEXT,                        -- sentence for the user
        result TEXT,                       -- JSON
        attempts INTEGER NOT NULL DEFAULT 0,
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        worker TEXT,                       -- host:pid:token of the process that runs it
        heartbeat REAL,                    -- time.time() of the last sign of life
        eta REAL,                          -- seconds left, as estimated at the heartbeat
        created TEXT NOT NULL,
        started TEXT,
        finished TEXT
    ) STRICT;
    CREATE INDEX job_state ON job (state, id);
    """)


@migrations()
def m003_rounds(db: Database) -> None:
    """Rounds, label maps, and the journal of annotations."""
    db.executescript("""
    CREATE TABLE round (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        number INTEGER NOT NULL,           -- 1, 2, ...; pre-training has no round
        strategy TEXT NOT NULL,
        budget INTEGER NOT NULL,           -- patches, validation included
        seed INTEGER NOT NULL,
        created TEXT NOT NULL,
        UNIQUE (project_id, number)
    ) STRICT;

    CREATE TABLE selection (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        round_id INTEGER NOT NULL REFERENCES round ON DELETE CASCADE,
        patch_id INTEGER NOT NULL REFERENCES patch ON DELETE CASCADE,
        role TEXT NOT NULL,                -- train | validation
        rank INTEGER NOT NULL,             -- order of the pick
        reason TEXT NOT NULL,              -- JSON: distance, nearest_patch, sentence
        UNIQUE (round_id, patch_id)
    ) STRICT;
    CREATE INDEX selection_patch ON selection (patch_id);

    CREATE TABLE label_map (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        image_id INTEGER NOT NULL REFERENCES image ON DELETE CASCADE,
        patch_id INTEGER REFERENCES patch ON DELETE CASCADE,   -- NULL: of the whole image
        kind TEXT NOT NULL,                -- pseudo | human | predicted | reference
        round_id INTEGER REFERENCES round ON DELETE CASCADE,
        checkpoint_id INTEGER REFERENCES checkpoint ON DELETE CASCADE,
        backend TEXT NOT NULL,
        params TEXT NOT NULL,              -- JSON
        input_hash TEXT NOT NULL,
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        n_objects INTEGER NOT NULL,
        created TEXT NOT NULL
    ) STRICT;
    CREATE INDEX label_map_image ON label_map (image_id, kind, id);
    CREATE INDEX label_map_patch ON label_map (patch_id, kind, id);

    CREATE TABLE annotation_event (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        patch_id INTEGER NOT NULL REFERENCES patch ON DELETE CASCADE,
        revision INTEGER NOT NULL,         -- 1, 2, ... within the patch: the journal's order
        kind TEXT NOT NULL,                -- see stages/annotate/journal.py
        payload TEXT NOT NULL,             -- JSON
        mask BLOB,                         -- zlib of packed bits, see journal.py
        session TEXT NOT NULL,             -- the page that wrote it
        created TEXT NOT NULL,
        at REAL NOT NULL,                  -- time.time(), for the time ledger
        UNIQUE (patch_id, revision)
    ) STRICT;

    CREATE TABLE note (
        patch_id INTEGER PRIMARY KEY REFERENCES patch ON DELETE CASCADE,
        text TEXT NOT NULL
    ) STRICT;
    """)


@migrations()
def m004_models(db: Database) -> None:
    """Embeddings, plans, checkpoints, loss curves, scores and timings."""
    db.executescript("""
    CREATE TABLE embedding (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        backend TEXT NOT NULL,
        params TEXT NOT NULL,              -- JSON
        model_path TEXT,                   -- weights of a trained embedder
        model_sha256 TEXT,
        path TEXT NOT NULL,                -- .npy float32 (N, D)
        sha256 TEXT NOT NULL,
        patch_ids_path TEXT NOT NULL,      -- .npy int64 (N,)
        patch_ids_sha256 TEXT NOT NULL,
        created TEXT NOT NULL
    ) STRICT;

    CREATE TABLE plan (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        preset TEXT NOT NULL,
        input_hash TEXT NOT NULL,
        workspace TEXT NOT NULL,           -- folder, relative to the state folder
        summary TEXT NOT NULL,             -- JSON, see stages/train/plan.py
        created TEXT NOT NULL
    ) STRICT;

    CREATE TABLE checkpoint (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        plan_id INTEGER NOT NULL REFERENCES plan ON DELETE CASCADE,
        round_id INTEGER REFERENCES round ON DELETE CASCADE,   -- NULL: pre-training on pseudo-labels
        parent_id INTEGER REFERENCES checkpoint ON DELETE SET NULL,
        preset TEXT NOT NULL,
        iterations INTEGER NOT NULL,
        n_cases INTEGER NOT NULL,
        seed INTEGER NOT NULL,
        seconds REAL NOT NULL,
        input_hash TEXT NOT NULL,
        path TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        created TEXT NOT NULL
    ) STRICT;

    CREATE TABLE training_log (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        round_id INTEGER REFERENCES round ON DELETE CASCADE,
        input_hash TEXT NOT NULL,          -- of the training run, as in checkpoint
        epoch INTEGER NOT NULL,
        iteration INTEGER NOT NULL,
        loss REAL NOT NULL,
        learning_rate REAL NOT NULL,
        seconds REAL NOT NULL,             -- since the start of the run
        UNIQUE (project_id, input_hash, epoch)
    ) STRICT;

    CREATE TABLE score (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        checkpoint_id INTEGER NOT NULL REFERENCES checkpoint ON DELETE CASCADE,
        image_id INTEGER NOT NULL REFERENCES image ON DELETE CASCADE,
        patch_id INTEGER REFERENCES patch ON DELETE CASCADE,   -- NULL: the whole image
        split TEXT NOT NULL,               -- validation | test | train
        f1_50 REAL NOT NULL, ap_50 REAL NOT NULL, ap_75 REAL NOT NULL, pq REAL NOT NULL, dice REAL NOT NULL,
        n_true INTEGER NOT NULL, n_pred INTEGER NOT NULL,
        tp_50 INTEGER NOT NULL, fp_50 INTEGER NOT NULL, fn_50 INTEGER NOT NULL,
        created TEXT NOT NULL
    ) STRICT;
    CREATE INDEX score_checkpoint ON score (checkpoint_id, split);

    CREATE TABLE timing (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        round_number INTEGER NOT NULL,     -- 0: before the first round
        stage TEXT NOT NULL,               -- pseudo_label | plan | embed | select | annotate | train | predict
        seconds REAL NOT NULL,
        created TEXT NOT NULL
    ) STRICT;
    """)


@migrations()
def m005_probabilities(db: Database) -> None:
    """How sure the network was: beside its newest predictions, for clicks and for what to look at first."""
    db.executescript("""
    CREATE TABLE probability (
        label_map_id INTEGER PRIMARY KEY REFERENCES label_map ON DELETE CASCADE,
        path TEXT NOT NULL,                -- .npy uint8, (Y, X) or (Z, Y, X): foreground, 255 is certain
        sha256 TEXT NOT NULL
    ) STRICT;
    """)


@migrations()
def m006_classes(db: Database) -> None:
    """Names of the kinds of objects in a project."""
    db.executescript("""
    ALTER TABLE project ADD COLUMN classes TEXT NOT NULL DEFAULT '[]';  -- JSON, see rounds/annotate
    """)


@migrations()
def m007_measuring(db: Database) -> None:
    """Patches that start without suggestions, and patches that are shown a second time, to measure the work.

    A repeat has the box of its original, which the table's UNIQUE constraint forbids, so the table is built anew
    in the way that SQLite documents (https://sqlite.org/lang_altertable.html, section 7): foreign keys must be off,
    else dropping the old table would delete what refers to it.
    """
    if db.execute("PRAGMA foreign_keys").fetchone()[0]:
        raise RuntimeError("This migration must run with foreign keys off.")
    db.executescript("""
    ALTER TABLE project ADD COLUMN control_share REAL NOT NULL DEFAULT 0;   -- of a batch's training patches
    ALTER TABLE project ADD COLUMN repeat_share REAL NOT NULL DEFAULT 0;    -- of the batch size
    ALTER TABLE selection ADD COLUMN control INTEGER NOT NULL DEFAULT 0;    -- 1: starts without suggestions
    CREATE TABLE patch_new (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        image_id INTEGER NOT NULL REFERENCES image ON DELETE CASCADE,
        z INTEGER NOT NULL, y INTEGER NOT NULL, x INTEGER NOT NULL,
        depth INTEGER NOT NULL, height INTEGER NOT NULL, width INTEGER NOT NULL,
        repeats INTEGER REFERENCES patch ON DELETE CASCADE   -- the patch that is shown again as this one
    ) STRICT;
    INSERT INTO patch_new (id, image_id, z, y, x, depth, height, width)
        SELECT id, image_id, z, y, x, depth, height, width FROM patch;
    DELETE FROM sqlite_sequence WHERE name = 'patch_new';
    INSERT INTO sqlite_sequence (name, seq) SELECT 'patch_new', seq FROM sqlite_sequence WHERE name = 'patch';
    DROP TABLE patch;
    ALTER TABLE patch_new RENAME TO patch;
    CREATE UNIQUE INDEX patch_box ON patch (image_id, z, y, x, depth, height, width) WHERE repeats IS NULL;
    CREATE INDEX patch_repeats ON patch (repeats) WHERE repeats IS NOT NULL;
    """)
    if broken := db.execute("PRAGMA foreign_key_check").fetchall():
        raise RuntimeError(f"After the migration, {len(broken)} rows refer to nothing.")


@migrations()
def m008_verdicts(db: Database) -> None:
    """Which model a project uses, and why: a model that was trained is compared before it replaces another one.

    Until now the newest model was the one in use, so every model of an old database counts as accepted.
    """
    db.executescript("""
    CREATE TABLE verdict (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        checkpoint_id INTEGER NOT NULL REFERENCES checkpoint ON DELETE CASCADE,
        kind TEXT NOT NULL,                -- promotion: is it used | pretraining: does the first round start from it
        accepted INTEGER NOT NULL,
        decided_by TEXT NOT NULL,          -- check | person
        facts TEXT NOT NULL,               -- JSON, the numbers behind it, see rounds/train
        created TEXT NOT NULL
    ) STRICT;
    CREATE INDEX verdict_project ON verdict (project_id, kind);
    CREATE INDEX verdict_checkpoint ON verdict (checkpoint_id);
    INSERT INTO verdict (project_id, checkpoint_id, kind, accepted, decided_by, facts, created)
        SELECT project_id, id, 'promotion', 1, 'check', '{}', created FROM checkpoint ORDER BY id;
    ALTER TABLE project ADD COLUMN check_pretraining INTEGER NOT NULL DEFAULT 1;
    """)


@migrations()
def m009_pausing(db: Database) -> None:
    """Jobs that pause or meet the end of memory; training Dice; model files that were removed, or shall not be."""
    db.executescript("""
    -- job.state may also be: paused
    ALTER TABLE job ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE job ADD COLUMN killed INTEGER NOT NULL DEFAULT 0;  -- how often the system ended it for want of memory
    ALTER TABLE training_log ADD COLUMN dice REAL;                 -- of hard answers on augmented training windows
    ALTER TABLE checkpoint ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;   -- 1: never removed by the rule
    ALTER TABLE checkpoint ADD COLUMN removed_at TEXT;                     -- when its file was removed
    ALTER TABLE project ADD COLUMN keep_checkpoints INTEGER NOT NULL DEFAULT 5;   -- newest ones whose files are kept
    CREATE TABLE training_memory (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        project_id INTEGER NOT NULL REFERENCES project ON DELETE CASCADE,
        input_hash TEXT NOT NULL,          -- of the training run, as in checkpoint
        reduction INTEGER NOT NULL,        -- how often its portions were made smaller so far
        sentence TEXT NOT NULL,            -- for the user
        created TEXT NOT NULL,
        UNIQUE (project_id, input_hash, reduction)
    ) STRICT;
    """)


@migrations()
def m012_experiments(db: Database) -> None:
    """Experiments on labelled images, run by run."""
    db.executescript("""
    CREATE TABLE experiment (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        study TEXT NOT NULL,               -- JSON, see experiments/study.py
        created TEXT NOT NULL
    ) STRICT;
    CREATE TABLE experiment_run (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        experiment_id INTEGER NOT NULL REFERENCES experiment ON DELETE CASCADE,
        key TEXT NOT NULL,
        after TEXT,                        -- key of the run whose model it starts from
        run TEXT NOT NULL,                 -- JSON, see experiments/study.py
        state TEXT NOT NULL DEFAULT 'waiting',   -- waiting | running | done | failed
        worker TEXT,                       -- host:pid:token
        heartbeat REAL,
        error TEXT,                        -- for the user
        result TEXT,                       -- JSON, see experiments/runs.py
        finished TEXT,
        UNIQUE (experiment_id, key)
    ) STRICT;
    """)


@migrations()
def m013_compared_by(db: Database) -> None:
    """What the patches of a project are compared by."""
    db.executescript("""
    ALTER TABLE project ADD COLUMN embedder TEXT NOT NULL DEFAULT 'mae';   -- see stages/embed/base.py
    """)


@migrations()
def m014_lane(db: Database) -> None:
    """The share of a batch that is drawn at random, to check the strategy."""
    db.executescript("""
    ALTER TABLE project ADD COLUMN lane_share REAL NOT NULL DEFAULT 0;      -- of a batch's training patches
    """)


@migrations()
def m015_rehearsed(db: Database) -> None:
    """Models of rounds that also learned from pseudo-labels, because the labels showed few objects."""
    db.executescript("""
    ALTER TABLE checkpoint ADD COLUMN n_rehearsed INTEGER NOT NULL DEFAULT 0;   -- patches, see rounds/train
    """)


@migrations()
def m016_scored_against(db: Database) -> None:
    """Which label map a score is against, so that one on labels that were corrected since does not count."""
    db.executescript("""
    ALTER TABLE score ADD COLUMN label_map_id INTEGER;     -- of label_map; NULL: from before it was kept
    """)


@migrations()
def m017_labelled(db: Database) -> None:
    """How many patches were finished when a round was trained: where its model stands on the learning curve."""
    db.executescript("""
    ALTER TABLE checkpoint ADD COLUMN n_labelled INTEGER;  -- validation included; NULL: from before it was kept
    """)


@migrations()
def m018_vetoed(db: Database) -> None:
    """Patches that the person vetoed, so that this outlasts the pick that took their place."""
    db.executescript("""
    ALTER TABLE patch ADD COLUMN vetoed TEXT;              -- when; NULL: it may be picked
    UPDATE patch SET vetoed = (
        SELECT min(round.created) FROM selection JOIN round ON round.id = selection.round_id,
            json_each(selection.reason, '$.vetoed') AS veto WHERE veto.value = patch.id
    ) WHERE id IN (SELECT veto.value FROM selection, json_each(selection.reason, '$.vetoed') AS veto);
    """)


@migrations()
def m019_patches_then(db: Database) -> None:
    """Of how many patches those that were finished are a share, which images that come and go change."""
    db.executescript("""
    ALTER TABLE checkpoint ADD COLUMN n_patches INTEGER;   -- that could be picked; NULL: of no round, or not kept yet
    """)
