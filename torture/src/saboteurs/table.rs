//! Every wrong program: what it leaves out, what that breaks, and what has to catch it.

use super::Catcher::{self, Scenario, Test};
use super::Saboteur;

const fn row(
    name: &'static str,
    wrong: &'static str,
    breaks: &'static str,
    catchers: &'static [Catcher],
) -> Saboteur {
    Saboteur { name, wrong, breaks, catchers }
}

/// In the order of the data's way: capture, shipping, daemon, destinations, format, restore, upkeep.
pub const TABLE: &[Saboteur] = &[
    row(
        "read-past-mxframe",
        "reads WAL frames that SQLite has not published",
        "I2",
        &[Test("source::tests::trap_22_a_broken_frame_that_was_published_is_no_tail")],
    ),
    row(
        "ignore-salts",
        "takes WAL frames of any generation",
        "I2",
        &[Test("wal::tests::trap_26_reset_with_identical_file_size")],
    ),
    row(
        "ignore-frame-checksums",
        "takes WAL frames whatever their checksum",
        "I2",
        &[Test("wal::tests::trap_02_torn_frame")],
    ),
    row(
        "trust-salts-alone",
        "goes on from the cursor without reading the frame there again",
        "I3",
        &[Test("source::tests::restart::trap_52_a_frame_at_the_mark_that_is_another_one")],
    ),
    row(
        "skip-count",
        "takes what is left of a WAL that was reset for all of it, whatever the count of commits",
        "I3",
        &[Scenario("autocheckpoint")],
    ),
    row(
        "zero-too-early",
        "leaves the WAL to one reset before all of it is in the database",
        "I1",
        &[Test("source::tests::pins::trap_31_zero_allows_one_reset_and_no_checkpoint_after_it")],
    ),
    row("drop-page", "leaves one page in eight out of a commit", "I3", &[Scenario("marked")]),
    row(
        "forget-truncation",
        "takes a database that VACUUM has made smaller for as large as before",
        "I3",
        &[Scenario("marked")],
    ),
    row(
        "date-early",
        "dates commits a tenth of a second early",
        "point in time",
        &[Scenario("point-in-time")],
    ),
    row(
        "write-to-the-database",
        "sets `user_version` as it opens the database",
        "I1",
        &[Scenario("marked")],
    ),
    row(
        "resync-skips-pages",
        "passes over one page in eight when it compares the database with the page index",
        "I3",
        &[Scenario("away")],
    ),
    row(
        "ack-before-put",
        "notes commits as shipped, and stores them 50 ms later",
        "I5",
        &[Scenario("unsynced")],
    ),
    row(
        "skip-cursor-fsync",
        "does not sync the cursor",
        "I7",
        &[Test("daemon::tracker::tests::heal::power::trap_56_a_power_cut_at_every_sync")],
    ),
    row(
        "skip-file-fsync",
        "does not sync a file before it gets its name",
        "I5",
        &[Scenario("power-loss"), Test("durable::tests::trap_59_rename_without_dir_fsync")],
    ),
    row(
        "skip-directory-fsync",
        "does not sync a directory after a rename",
        "I5",
        &[Scenario("power-loss"), Test("durable::tests::trap_59_rename_without_dir_fsync")],
    ),
    row(
        "drop-instead-of-spool",
        "forgets what a destination did not take, neither spooled nor marked as lacking",
        "I5",
        &[Scenario("outage")],
    ),
    row(
        "claim-what-is-spooled",
        "reports commits as durable on a destination that only its spool has",
        "I5",
        &[Scenario("outage")],
    ),
    row(
        "wait-for-the-slow",
        "waits for a destination that never answers",
        "I8",
        &[Scenario("outage")],
    ),
    row(
        "miss-the-wipe",
        "does not look whether a destination still holds what it has acknowledged",
        "I5",
        &[Scenario("fan-out")],
    ),
    row(
        "trust-taken-name",
        "takes an object that has the name for its own without comparing it",
        "I4",
        &[Test("ship::tests::trap_70_a_put_of_unknown_outcome_is_repeated")],
    ),
    row(
        "ignore-fence",
        "goes on shipping after somebody else has taken the replica up",
        "I5",
        &[Scenario("two-hosts")],
    ),
    row("sync-too-early", "`sync` returns before anything is durable", "I5", &[Scenario("marked")]),
    row(
        "sync-ignores-debt",
        "`sync` returns while a destination still lacks commits",
        "I5",
        &[Scenario("fan-out")],
    ),
    row(
        "drain-without-a-last-look",
        "ends at SIGTERM without capturing what was committed just before",
        "I7",
        &[Scenario("drain")],
    ),
    row(
        "skip-resync",
        "goes on from what is there now after it was away, whatever the WAL says",
        "I3",
        &[Scenario("away")],
    ),
    row(
        "ignore-replaced-file",
        "does not notice that another file has taken the database's place",
        "I3",
        &[Scenario("replaced")],
    ),
    row(
        "adopt-nothing",
        "abandons what was stored just before a crash, and not noted in the cursor yet",
        "I7",
        &[Test(
            "daemon::tracker::tests::heal::cursor::what_was_stored_beyond_the_cursor_is_adopted",
        )],
    ),
    row(
        "trust-stale-listing",
        "claims a timeline and does not list again what was stored meanwhile",
        "I5",
        &[Test("daemon::open::claim::tests::trap_65_what_was_stored_since_the_listing_is_news")],
    ),
    row(
        "lock-nothing",
        "takes a database up beside another daemon of the same state directory",
        "I7",
        &[Test("daemon::tests::sync_beside_a_daemon")],
    ),
    row(
        "put-overwrites",
        "writes over an object that is there",
        "I4",
        &[Test("backend::conformance::tests::directories_conform")],
    ),
    row(
        "first-page-only",
        "takes the first page of a listing for all of it",
        "I6",
        &[
            Scenario("lying-s3"),
            Test(
                "backend::s3::tests::trap_76_listings_in_small_pages_stale_twice_and_out_of_order",
            ),
        ],
    ),
    row(
        "failed-put-is-done",
        "takes a put that failed for one that was done",
        "I5",
        &[
            Scenario("lying-s3"),
            Test(
                "backend::retry::tests::trap_69_what_passes_is_waited_out_and_what_lasts_is_reported",
            ),
        ],
    ),
    row(
        "believe-status-200",
        "takes a reply of status 200 that carries an error for a success",
        "I5",
        &[
            Scenario("lying-s3"),
            Test("backend::s3::tests::trap_72_a_success_with_an_error_in_its_body_is_a_failure"),
        ],
    ),
    row(
        "accept-short-body",
        "takes a reply that was cut for a whole one",
        "I6",
        &[Test("backend::s3::tests::trap_73_a_reply_that_is_cut_is_no_answer")],
    ),
    row(
        "accept-short-file",
        "takes a file that was read in part for a whole one",
        "I6",
        &[Test("backend::fs::tests::a_body_of_another_length_than_the_file_is_an_error")],
    ),
    row(
        "accept-damage",
        "compares neither checksum nor hash of an object",
        "I6",
        &[Scenario("damaged-replica")],
    ),
    row(
        "take-parts-for-whole",
        "takes a change-set for whole that lacks parts",
        "I4",
        &[Test("restore::tests::trap_19_a_transaction_in_parts_is_whole_or_not_there")],
    ),
    row(
        "reuse-nonce",
        "seals each block of an object with the same nonce",
        "encryption",
        &[Test("seal::tests::trap_98_a_nonce_meets_a_subkey_only_with_the_same_bytes")],
    ),
    row(
        "salt-of-the-name-alone",
        "seals two bodies under one name with the same nonces and subkey",
        "encryption",
        &[Test("seal::tests::trap_98_a_nonce_meets_a_subkey_only_with_the_same_bytes")],
    ),
    row(
        "accept-unsealed",
        "takes an object that anybody can have written where all have to be sealed",
        "encryption",
        &[Test("backend::sealed::tests::trap_97_what_is_not_sealed_is_refused_beside_what_is")],
    ),
    row(
        "follow-abandoned",
        "counts commits of a timeline past the point where a newer one left it",
        "I6",
        &[Scenario("two-hosts")],
    ),
    row(
        "restore-without-last",
        "takes the last commit but one for the newest",
        "I5",
        &[Scenario("marked")],
    ),
    row(
        "point-in-time-late",
        "restores a time with all of the change-set that it lies in",
        "point in time",
        &[Scenario("point-in-time")],
    ),
    row(
        "skip-state-digest",
        "does not compare the digest of what it has restored",
        "I6",
        &[Test("restore::tests::damage::pages_that_do_not_give_the_digest_are_refused")],
    ),
    row(
        "older-page-wins",
        "writes older versions of a page over newer ones",
        "I6",
        &[Scenario("marked")],
    ),
    row(
        "revive-dead-pages",
        "restores pages that VACUUM had cut off before the database grew again",
        "I6",
        &[Scenario("marked"), Test("restore::tests::trap_11_pages_cut_off_never_come_back")],
    ),
    row(
        "restore-in-place",
        "writes a restore into the target itself",
        "I7",
        &[Scenario("kill-restore")],
    ),
    row(
        "merge-across-branches",
        "merges change-sets on both sides of a point where a timeline left",
        "I4",
        &[Test("compact::tests::trap_93_nothing_is_merged_across_a_timeline_a_branch_or_a_gap")],
    ),
    row(
        "merge-strangers",
        "merges change-sets of which one is not the parent of the next",
        "I4",
        &[Test("compact::tests::trap_93_nothing_is_merged_with_what_does_not_go_on_from_it")],
    ),
    row(
        "delete-before-merge",
        "deletes change-sets before the one that stands for them is stored",
        "I7",
        &[Test(
            "upkeep::tests::crash::trap_87_a_round_stopped_at_any_of_its_calls_loses_nothing_and_the_next_one_ends_it",
        )],
    ),
    row(
        "skip-read-back",
        "deletes change-sets without reading back the one that stands for them",
        "I4",
        &[Test("upkeep::tests::trap_87_nothing_is_deleted_for_what_does_not_read_back")],
    ),
    row(
        "prune-named-parts",
        "deletes parts that a snapshot which is kept needs",
        "I6",
        &[Test("upkeep::tests::trap_89_a_restore_beside_a_round_gives_what_was_asked_for")],
    ),
    row(
        "prune-the-base",
        "deletes the snapshot that the oldest restore point to be kept is restored from",
        "I6",
        &[Test(
            "retain::tests::trap_90_what_the_start_of_the_window_needs_is_kept_and_what_is_older_goes",
        )],
    ),
];
