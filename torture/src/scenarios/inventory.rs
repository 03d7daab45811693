//! Every scenario there is: what it is about, and how often it is run.

use super::{
    Scenario, alone, basic, checkpoints, clocks, damage, down, fanout, full, hosts, kernel, kills,
    lies, power, replaced, sealed, snapshots, stores, time, upkeep, worm,
};

/// In the order of the matrix. Seeds are counted so that a run of everything ends within ten
/// minutes on two cores and yet takes every page size where it matters.
pub const INVENTORY: &[Scenario] = &[
    Scenario {
        name: "marked",
        adversity: "none: a marked workload with VACUUM, rollbacks, overflow pages, schema changes",
        how: "daemon beside the writer; `sync`, then the newest commit exactly, several others, \
              and at the end every byte",
        seeds: 12,
        faults: &["synced", "vacuum", "rollback", "compared"],
        run: basic::marked,
    },
    Scenario {
        name: "drain",
        adversity: "SIGTERM right after the last commit",
        how: "a saturating writer stops, the daemon is told to end: exit 0 and the last commit, to \
              the byte",
        seeds: 8,
        faults: &["drained", "compared"],
        run: basic::drain,
    },
    Scenario {
        name: "unsynced",
        adversity: "SIGKILL of the daemon with commits not yet acknowledged as durable",
        how: "`sync`, more commits, SIGKILL: nothing below what `sync` had promised, nothing \
              invented",
        seeds: 8,
        faults: &["daemon killed", "synced"],
        run: kills::unsynced,
    },
    Scenario {
        name: "every-commit",
        adversity: "every commit is asked for",
        how: "each commit that `list` offers restores, in rising order, and no commit is left out",
        seeds: 4,
        faults: &["drained", "listed"],
        run: basic::every_commit,
    },
    Scenario {
        name: "kill-daemon",
        adversity: "SIGKILL of the live daemon under write load, again and again",
        how: "25 lives of the daemon a seed, each killed at a random moment, the replica judged \
              each time; at the end the last commit exactly",
        seeds: 8,
        faults: &["daemon killed", "synced"],
        run: kills::daemon,
    },
    Scenario {
        name: "kill-sync",
        adversity: "SIGKILL of `bakelite sync` without a daemon",
        how: "20 passes a seed, each killed at a random moment and judged; at the end exactly",
        seeds: 4,
        faults: &["sync killed", "synced"],
        run: kills::sync,
    },
    Scenario {
        name: "kill-writer",
        adversity: "SIGKILL of one or all writers in the middle of their transactions",
        how: "nothing that SQLite did not commit may appear; with all writers dead, exactly what \
              the next one finds",
        seeds: 8,
        faults: &["writer killed", "synced"],
        run: kills::writer,
    },
    Scenario {
        name: "kill-restore",
        adversity: "SIGKILL of a restore",
        how: "the target is absent or right, and the same restore then succeeds",
        seeds: 4,
        faults: &["restore killed"],
        run: kills::restore,
    },
    Scenario {
        name: "stalled",
        adversity: "the daemon stopped by SIGSTOP while the application writes and checkpoints, for moments, \
                    or in the middle of a request for longer than it may take",
        how: "after SIGCONT the last commit exactly; SIGTERM twice in a row keeps the floor; at length, beside \
              a store that closes the connection meanwhile: for 2 to 4 minutes in runs of half an hour, else \
              16 seconds, `check` tells of it",
        seeds: 4,
        faults: &["daemon stopped", "stopped for ", "wal reset"],
        run: kills::stalled,
    },
    Scenario {
        name: "checkpoint-truncate",
        adversity: "the application truncates the WAL under the daemon",
        how: "wal_checkpoint(TRUNCATE) every few commits; `sync` under load, at the end exactly",
        seeds: 8,
        faults: &["checkpoint-TRUNCATE-done"],
        run: checkpoints::truncate,
    },
    Scenario {
        name: "checkpoint-restart",
        adversity: "the application restarts the WAL under the daemon",
        how: "wal_checkpoint(RESTART) every few commits; `sync` under load, at the end exactly",
        seeds: 8,
        faults: &["checkpoint-RESTART-done", "wal reset"],
        run: checkpoints::restart,
    },
    Scenario {
        name: "checkpoint-full",
        adversity: "the application checkpoints in full under the daemon",
        how: "wal_checkpoint(FULL) every few commits; `sync` under load, at the end exactly",
        seeds: 4,
        faults: &["checkpoint-FULL-done"],
        run: checkpoints::full,
    },
    Scenario {
        name: "autocheckpoint",
        adversity: "automatic checkpoints after a handful of pages by a saturating writer",
        how: "wal_autocheckpoint 3 to 60: the WAL is reset all the time; `sync` under load, at the \
              end exactly",
        seeds: 8,
        faults: &["wal reset"],
        run: checkpoints::automatic,
    },
    Scenario {
        name: "autocheckpoint-off",
        adversity: "automatic checkpoints switched off, then on",
        how: "the WAL grows, then is written back at once; `sync` under load, at the end exactly",
        seeds: 4,
        faults: &["autocheckpoint-off", "autocheckpoint-on"],
        run: checkpoints::toggled,
    },
    Scenario {
        name: "size-limit",
        adversity: "journal_size_limit: the WAL is truncated at each reset",
        how: "a limit of 0 with small automatic checkpoints; `sync` under load, at the end exactly",
        seeds: 4,
        faults: &["wal reset"],
        run: checkpoints::limited,
    },
    Scenario {
        name: "away",
        adversity: "the WAL is checkpointed and reset while the daemon is down",
        how: "6 absences a seed, by SIGKILL or SIGTERM; on return the last commit exactly",
        seeds: 8,
        faults: &["away", "checkpoint-"],
        run: checkpoints::away,
    },
    Scenario {
        name: "down",
        adversity: "the daemon is away while the WAL begins anew with fewer frames, is truncated, \
                    removed, reset twice, left for another journal mode or page size",
        how: "7 outages a seed, each way once, by SIGKILL or SIGTERM; on return the last commit \
              exactly, and every older point as it was",
        seeds: 6,
        faults: &[
            "restarted with fewer frames",
            "appended",
            "truncated",
            "removed by the last close",
            "reset twice",
            "wal-left",
            "page-size-changed",
        ],
        run: down::down,
    },
    Scenario {
        name: "host-swap",
        adversity: "another host takes the database over, or the daemon's state is lost",
        how: "the database, with its WAL or without, goes to new hosts and back to the first one \
              with its stale state, and once that goes on from its old database: each time the \
              last commit exactly, and every older point as it was",
        seeds: 6,
        faults: &["new host", "first host again", "old database again", "state lost"],
        run: hosts::swap,
    },
    Scenario {
        name: "two-hosts",
        adversity: "two copies of one database, both written to, each with a daemon, one replica",
        how: "one daemon goes on and the other one ends with status 6, then the other way round; \
              the newest commit is the survivor's exactly, what either has made durable is there",
        seeds: 8,
        faults: &["fenced", "synced"],
        run: hosts::two,
    },
    Scenario {
        name: "replaced",
        adversity: "another file takes the place of the database, under the daemon",
        how: "moved over by its copy, an older copy and another database, deleted and made anew: \
              the new one exactly, to the byte, and every point of the old one as it was",
        seeds: 6,
        faults: &[
            "replaced by its copy",
            "replaced by an older copy",
            "replaced by another database",
            "deleted and made anew",
        ],
        run: replaced::replaced,
    },
    Scenario {
        name: "power-loss",
        adversity: "power is lost on the disk of the database, of the replica, or of both",
        how: "ext4 shut down by ioctl under load, mounted again: what `sync` had promised is there, \
              also where the source has lost it; then the last commit exactly",
        seeds: 6,
        faults: &[
            "power lost",
            "source on the disk",
            "replica on the disk",
            "both on the disk",
            "commit lost by the source",
        ],
        run: power::loss,
    },
    Scenario {
        name: "kernel-faults",
        adversity: "system calls of the daemon, `sync`, `compact`, `prune`, `restore` and of the \
                    application fail, write nothing or are their last",
        how: "strace puts EIO, ENOSPC, EINTR and SIGKILL at random writes, syncs, renames, links, unlinks, \
              mkdirs and creations of those counted before: the restore's target is absent or right, what \
              `sync` had promised is there, and so is what `compact` and `prune` are to keep; who ends says \
              why and the next one heals it",
        seeds: 6,
        faults: &[
            "first sync at mkdir: ",
            "first sync at create: ",
            "sync at write: ",
            "sync at sync: ",
            "restore at link: ",
            "daemon at write: ",
            "daemon at sync: ",
            "daemon at rename: ",
            "restore at write: ",
            "restore at sync: ",
            "compact at ",
            "prune at unlink: ",
            "writer at write: ",
            "writer at sync: ",
        ],
        run: kernel::faults,
    },
    Scenario {
        name: "full-disk",
        adversity: "the disk of the daemon's state, of the destination or of both is full for a while, and \
                    that of a restore's target",
        how: "a small one in memory, with room for nothing or for some of it, 4 times a seed, the daemon \
              killed meanwhile: what `sync` has promised is there, the application sees nothing, with room \
              again the last commit exactly; a restore says why and leaves nothing",
        seeds: 3,
        faults: &[
            "state on a full disk",
            "destination on a full disk",
            "both on a full disk",
            "daemon killed",
            "restore to a full disk",
        ],
        run: full::full,
    },
    Scenario {
        name: "several-writers",
        adversity: "three processes write at once, one of them vacuums, one checkpoints",
        how: "one sequence over all of them; `sync` under load, at the end exactly",
        seeds: 6,
        faults: &["several writers", "vacuum"],
        run: basic::several,
    },
    Scenario {
        name: "point-in-time",
        adversity: "times and commits asked for under load, the writer never paused",
        how: "200 targets a seed in rising order: never back, nothing begun later than the time \
              asked for, nothing missing that a `sync` had promised by then",
        seeds: 2,
        faults: &["target"],
        run: time::targets,
    },
    Scenario {
        name: "fan-out",
        adversity: "each of three destinations away, full, read-only, wiped or rolled back in turn",
        how: "two directories and a bucket; the daemon killed between; the others go on and hold what \
              `status` claims of them; after each return and a `sync` the last commit exactly on all",
        seeds: 3,
        faults: &[
            "moved away",
            "wiped",
            "rolled back",
            "full",
            "read-only",
            "daemon killed",
            "claim held",
            "other went on",
        ],
        run: fanout::fan_out,
    },
    Scenario {
        name: "lying-s3",
        adversity: "an S3 store that fails, resets, cuts and delays by seed, beside a directory",
        how: "4 lives of the daemon a seed, killed under load: what `status` and `sync` claim of each \
              of the two is there; then the last commit exactly on both",
        seeds: 4,
        faults: &[
            "daemon killed",
            "synced",
            "claim held",
            "lie 500",
            "lie 503",
            "lie 429",
            "lie reset before the body",
            "lie reset after the body",
            "lie reply lost",
            "lie 200 with an error",
            "lie short body",
            "lie trickle",
            "lie stale listing",
            "lie tiny page",
            "lie clock skew",
            "lie expired credentials",
        ],
        run: stores::lying,
    },
    Scenario {
        name: "outage",
        adversity: "an S3 store that is away for a while: refuses connections, or never answers",
        how: "the directory beside it goes on meanwhile, also where the daemon starts in the outage; \
              after its return the last commit exactly on both",
        seeds: 4,
        faults: &["refused", "hung", "started in an outage", "other went on"],
        run: stores::outage,
    },
    Scenario {
        name: "killed-s3",
        adversity: "SIGKILL of a real S3 server (SeaweedFS) under load, and its start on what it has",
        how: "2 kills a seed; the directory beside it goes on; each time what `status` claims is \
              there, and after a `sync` the last commit exactly on both",
        seeds: 1,
        faults: &["server killed", "other went on", "claim held"],
        run: stores::killed,
    },
    Scenario {
        name: "dropping-s3",
        adversity: "an S3 store that acknowledges puts and drops them (the red path of the floors)",
        how: "one change-set of those acknowledged is not there: the restore that a floor asks for is \
              never found right; then a `sync` asks what is there, and it is made good",
        seeds: 2,
        faults: &["put dropped"],
        run: stores::dropping,
    },
    Scenario {
        name: "rotting-s3",
        adversity: "an S3 store that damages what it has acknowledged, beneath the daemon",
        how: "a bit of three change-sets is flipped: a restore of the bucket is refused, or right; `verify` \
              finds it, the directory has everything, and after `repair` both have",
        seeds: 3,
        faults: &["put damaged", "repair done"],
        run: stores::rotting,
    },
    Scenario {
        name: "rotting-alone",
        adversity: "the only destination damaged: a part, a change-set or a manifest gone, torn or flipped",
        how: "a daemon watches, or none does: after `repair` and one more commit, the last commit comes \
              back exactly; a part is made again from the database, a change-set is put back from those \
              shipped lately, and else a new snapshot is made",
        seeds: 4,
        faults: &[
            "damage of a part",
            "damage of a change-set",
            "damage of a manifest",
            "under the daemon",
            "without a daemon",
            "part made again",
            "snapshot asked for",
        ],
        run: alone::alone,
    },
    Scenario {
        name: "upkeep",
        adversity: "SIGKILL of the daemon, `compact` and `prune` in the middle of merging, thinning out, \
                    deleting and snapshots, days made seconds",
        how: "a directory and a bucket, stopped at each kind of request or at sight, then killed: what \
              `keep` promises comes back as it was shipped, what is gone is refused with points that are \
              there; at the end the last commit exactly, and nothing left over",
        seeds: 6,
        faults: &[
            "daemon killed",
            "compact killed",
            "prune killed",
            "daemon stopped before a merge is put",
            "daemon stopped between a merge and its deletes",
            "daemon stopped while a merge is read back",
            "daemon stopped after points were thinned out",
            "daemon stopped before a delete of what was merged",
            "daemon stopped after a delete of what was merged",
            "daemon stopped between a part and its manifest",
            "daemon stopped before a manifest",
            "compact stopped",
            "prune stopped in the middle of deleting",
            "prune stopped after a delete of a snapshot",
            "prune stopped after a delete of a part",
            "left in the directory: a merge and all that it stands for",
            "left in the directory: some of what was merged",
            "left in the directory: parts without a manifest",
            "promised point",
            "thinned point refused",
            "old point refused",
            "target time",
        ],
        run: upkeep::upkeep,
    },
    Scenario {
        name: "restore-upkeep",
        adversity: "`compact` and `prune` in the middle of a restore, beside the daemon's own upkeep",
        how: "done to the end at one of the restore's own requests, so that what it planned with is gone: \
              it plans anew and comes back exactly",
        seeds: 3,
        faults: &["gone meanwhile", "planned anew"],
        run: upkeep::restores,
    },
    Scenario {
        name: "snapshots",
        adversity: "SIGKILL between a snapshot's parts and its manifest; a part that is wiped",
        how: "several parts, read slowly or at once, beside a writer: each time the last commit exactly, no \
              part is sent again that is there, a wiped one is noticed and put again, or repaired where it \
              had changed, prune leaves none that no manifest names",
        seeds: 4,
        faults: &[
            "before a part",
            "between a part and its manifest",
            "before a manifest",
            "after a manifest",
            "left: parts without a manifest",
            "part wiped while away",
            "part wiped under the daemon",
            "wiped part noticed",
        ],
        run: snapshots::snapshots,
    },
    Scenario {
        name: "no-deletes",
        adversity: "a bucket whose keys may remove nothing, beside a directory; the daemon killed",
        how: "merging, thinning out and retention go on without, every point that `keep` promises comes \
              back; once removals are allowed, nothing is left over",
        seeds: 3,
        faults: &[
            "removal denied",
            "daemon killed",
            "promised point",
            "compact done",
            "prune done",
        ],
        run: worm::denied,
    },
    Scenario {
        name: "locked-s3",
        adversity: "a bucket with Object Lock on a real S3 server (SeaweedFS), and a thief of the daemon's \
                    keys who hides, covers and removes what he can",
        how: "beside another bucket and upkeep, under the daemon and while it is killed: restores exact \
              throughout, no locked version removed, changed or locked for less long; \
              upkeep removes what it may once a lock has ended",
        seeds: 2,
        faults: &[
            "locked in governance mode",
            "locked in compliance mode",
            "daemon killed",
            "hidden by a thief",
            "covered by a thief",
            "lock withstood a thief",
            "version without a lock removed",
            "locked object there",
            "removed once its lock had ended",
            "promised point",
        ],
        run: worm::locked,
    },
    Scenario {
        name: "clocks",
        adversity: "a host whose clock is minutes off that of a store with locks, and set by years while \
                    the daemon runs",
        how: "a directory and a locked bucket, ahead, behind, past what the store takes, and back: all that \
              was ever shipped comes back, at the time it was stamped with, whatever upkeep went by; no \
              lock is too short by the store's clock, and what is removed was locked no more",
        seeds: 3,
        faults: &[
            "clock ahead",
            "clock behind",
            "clock stepped ahead",
            "clock stepped back",
            "refused for its clock",
            "snapshot after the clock was set",
            "lock held",
            "removed once its lock had ended",
            "promised point",
            "target time",
        ],
        run: clocks::clocks,
    },
    Scenario {
        name: "rekeyed",
        adversity: "a plain replica is sealed, its key changed and lost; `reencrypt` is killed in the \
                    middle",
        how: "a directory and a bucket beside a writer; the daemon killed too: each time all of it \
              with all keys, right or status 7 with some; what the daemon merges meanwhile is under the \
              new key; then one key is enough, no other opens it, and no file shows a piece of the \
              database",
        seeds: 2,
        faults: &[
            "killed mid-rewrite",
            "merge stopped",
            "merged beside reencrypt",
            "daemon killed",
            "rewritten",
            "refused for lack of a key",
            "wrong key",
            "seen where it is plain",
            "scanned",
        ],
        run: sealed::rekeyed,
    },
    Scenario {
        name: "damaged-replica",
        adversity: "each object damaged in each way",
        how: "bits flipped in each region, cut, grown, emptied, deleted, swapped, under another \
              name, an older version, from another replica: refused, or right where it was not \
              needed; a sample is found by `verify`",
        seeds: 3,
        faults: &[
            "damage flipped",
            "damage cut",
            "damage deleted",
            "damage swapped",
            "damage foreign",
            "right without it",
        ],
        run: damage::objects,
    },
    Scenario {
        name: "damaged-sealed",
        adversity: "each object of a sealed replica damaged in each way",
        how: "as above; what is put in an object's place from another replica was sealed with the same \
              key",
        seeds: 2,
        faults: &[
            "damage flipped",
            "damage cut",
            "damage swapped",
            "damage older",
            "damage renamed",
            "damage foreign",
            "right without it",
        ],
        run: damage::sealed_objects,
    },
    Scenario {
        name: "lying-ledger",
        adversity: "each lie in the ledger (the oracle's own red path)",
        how: "digests changed and exchanged, commits invented, forgotten, moved in time: all \
              rejected",
        seeds: 4,
        faults: &["lie"],
        run: lies::ledger,
    },
    Scenario {
        name: "lying-branches",
        adversity: "each lie about a fork of the history (the oracle's own red path)",
        how: "a branch that left later, earlier, from another state or from nowhere, its commits \
              exchanged with the main line's, an abandoned branch in place of the newest: all \
              rejected",
        seeds: 4,
        faults: &["lie"],
        run: lies::branches::ledger,
    },
];
