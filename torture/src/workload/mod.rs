//! The workload: an application that marks its rows.
//!
//! Every transaction takes the next `seq` under the write lock, stores it in `mark`, appends a row
//! to `log`, does something to the other tables (`ops`), and writes down in its ledger what state
//! it is about to make before it commits. Several processes may do so on one database.

pub mod ops;
pub mod setup;
pub mod writer;

use crate::digest::{self, Sums};
use crate::ledger::{Ledger, Micros, On};
use crate::rng::Rng;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use setup::Setup;
use std::path::Path;
use std::time::Duration;

pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The sums as of the last commit that this writer saw.
#[derive(Clone, Debug, Default)]
struct State {
    seq: u64,
    sums: Sums,
}

#[derive(Debug)]
pub struct Workload {
    db: Connection,
    ledger: Ledger,
    rng: Rng,
    writer: u32,
    state: Option<State>,
}

impl Workload {
    /// Makes a database with every table in it; that state is seq 0.
    pub fn create(path: &Path, setup: &Setup, ledger: Ledger) -> Result<Self> {
        let db = Connection::open(path)?;
        setup.shape(&db)?;
        let mut workload = Self::with(db, setup, ledger, 0, Rng::of(setup.seed, "create"))?;
        let sql = ops::schema(setup);
        workload.marked(0, |tx, _| Ok(tx.execute_batch(&sql).map(|()| Vec::new())?))?;
        Ok(workload)
    }

    /// Opens a database that `create` has made. `life` tells a writer's successive processes apart.
    pub fn open(
        path: &Path,
        setup: &Setup,
        ledger: Ledger,
        writer: u32,
        life: u64,
    ) -> Result<Self> {
        let purpose = format!("writer {writer}, life {life}");
        let db = Connection::open(path)?;
        Self::with(db, setup, ledger, writer, Rng::of(setup.seed, &purpose))
    }

    fn with(db: Connection, setup: &Setup, ledger: Ledger, writer: u32, rng: Rng) -> Result<Self> {
        // A peer may be stopped while it holds the lock, and this one then just has to wait.
        db.busy_timeout(Duration::from_secs(60))?;
        setup.tune(&db)?;
        Ok(Self { db, ledger, rng, writer, state: None })
    }

    /// Commits one marked transaction and returns its seq.
    pub fn commit(&mut self) -> Result<u64> {
        let seq = self.commit_with(ops::some)?;
        // The sums kept up by hand must be those of the database, else the ledger tells nonsense.
        if seq % 64 == 0 {
            self.prove_sums(seq)?;
        }
        Ok(seq)
    }

    /// Makes the database larger by so many MiB that no other operation touches.
    pub fn grow(&mut self, mib: u64) -> Result<()> {
        self.commit_with(|tx, rng, dirty| ops::grow(tx, rng, dirty, mib)).map(drop)
    }

    /// Changes so many of the rows last added by `grow`.
    pub fn touch(&mut self, rows: u64) -> Result<()> {
        self.commit_with(|tx, rng, dirty| ops::touch(tx, rng, dirty, rows)).map(drop)
    }

    fn commit_with(
        &mut self,
        change: impl FnOnce(&Transaction, &mut Rng, &mut Vec<&'static str>) -> Result<()>,
    ) -> Result<u64> {
        let writer = self.writer;
        self.marked(1, |tx, rng| {
            let mut dirty = vec!["mark"];
            change(tx, rng, &mut dirty)?;
            tx.execute("UPDATE mark SET seq = seq + 1, writer = ?1", [writer])?;
            let what = rng.text(12);
            tx.execute("INSERT INTO log SELECT seq, writer, ?1 FROM mark", [what])?;
            Ok(dirty)
        })
    }

    /// Runs `change` as the transaction that makes seq `step` past the present one.
    fn marked(
        &mut self,
        step: u64,
        change: impl FnOnce(&Transaction, &mut Rng) -> Result<Vec<&'static str>>,
    ) -> Result<u64> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = if step == 0 { 0 } else { crate::oracle::marker(&tx)? };
        let dirty = change(&tx, &mut self.rng)?;
        let seq = before + step;
        let state = advance(&tx, self.state.take(), before, seq, &dirty)?;
        let digest = state.sums.digest(&tx)?;
        self.ledger.intent(seq, digest)?;
        tx.commit()?;
        self.ledger.ack(seq, digest)?;
        self.state = Some(state);
        Ok(seq)
    }

    fn prove_sums(&mut self, seq: u64) -> Result<()> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let unchanged = crate::oracle::marker(&tx)? == seq;
        let known = self.state.as_ref().expect("just committed").sums.digest(&tx)?;
        match !unchanged || known == digest::of(&tx)? {
            true => Ok(()),
            false => Err(format!("seq {seq}: the sums kept up are not those of the tables").into()),
        }
    }

    /// Notes the branch that this database is on, and what was found there.
    pub fn enter(&mut self, branch: u32, parent: Option<u32>) -> Result<()> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Deferred)?;
        let (seq, state) = (crate::oracle::marker(&tx)?, Some(digest::of(&tx)?));
        Ok(self.ledger.branch(seq, On { branch, parent, state })?)
    }

    /// Leaves WAL mode: the WAL is written back and removed. Nobody else may have it open.
    pub fn leave_wal(&mut self) -> Result<()> {
        self.journal_mode("delete")?;
        self.event("wal-left")
    }

    pub fn return_to_wal(&mut self) -> Result<()> {
        self.journal_mode("wal")?;
        self.event("wal-entered")
    }

    fn journal_mode(&self, mode: &str) -> Result<()> {
        let pragma = format!("PRAGMA journal_mode = {mode}");
        let is: String = self.db.query_row(&pragma, [], |row| row.get(0))?;
        if is == mode { Ok(()) } else { Err(format!("the journal mode is still {is}").into()) }
    }

    /// Another page size. Takes a journal mode other than WAL.
    pub fn reshape(&mut self, page_size: u32) -> Result<()> {
        self.db.execute_batch(&format!("PRAGMA page_size = {page_size}; VACUUM"))?;
        let is = crate::oracle::number(&self.db, "PRAGMA page_size")?;
        match is == u64::from(page_size) {
            true => self.event("page-size-changed"),
            false => Err(format!("the page size is still {is}").into()),
        }
    }

    /// Does something that is then rolled back; nothing of it may ever be seen.
    pub fn roll_back(&mut self) -> Result<()> {
        let tx = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        ops::flood(&tx, &mut self.rng, &mut Vec::new())?;
        tx.execute("UPDATE mark SET seq = seq + 1000000", [])?;
        tx.rollback()?;
        self.event("rollback")
    }

    /// Moves every page and changes no content.
    pub fn vacuum(&mut self) -> Result<()> {
        self.db.execute_batch("VACUUM")?;
        self.event("vacuum")
    }

    /// Checkpoints as an application would. Whether it got to the end is part of the event.
    pub fn checkpoint(&mut self, mode: &str) -> Result<()> {
        let began = Micros::now();
        let pragma = format!("PRAGMA wal_checkpoint({mode})");
        let (busy, frames, done): (bool, i64, i64) =
            self.db.query_row(&pragma, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let outcome = if busy || done < frames { "short" } else { "done" };
        let slow = if Micros::now().0 - began.0 > 500_000 { "-slow" } else { "" };
        self.event(&format!("checkpoint-{mode}-{outcome}{slow}"))
    }

    /// The application's settings for its own checkpoints.
    pub fn tune(&self, autocheckpoint: Option<u32>, size_limit: Option<u32>) -> Result<()> {
        for (pragma, value) in
            [("wal_autocheckpoint", autocheckpoint), ("journal_size_limit", size_limit)]
        {
            if let Some(value) = value {
                self.db.execute_batch(&format!("PRAGMA {pragma} = {value}"))?;
            }
        }
        Ok(())
    }

    /// Notes something that happened between two transactions.
    pub fn event(&mut self, what: &str) -> Result<()> {
        let seq = self.state.as_ref().map_or(0, |state| state.seq);
        Ok(self.ledger.event(seq, what)?)
    }

    /// The last commit in the database, whoever made it.
    pub fn present(&self) -> Result<u64> {
        Ok(crate::oracle::marker(&self.db)?)
    }

    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The digest of the present state, computed from nothing but the database.
    #[cfg(test)]
    pub fn digest(&self) -> Result<digest::Digest> {
        Ok(digest::of(&self.db)?)
    }
}

/// The sums after a transaction: kept up if the state before it is known, else computed anew.
fn advance(
    tx: &Transaction,
    state: Option<State>,
    before: u64,
    seq: u64,
    dirty: &[&str],
) -> Result<State> {
    let mut sums = match state {
        Some(state) if state.seq == before && before > 0 => state.sums,
        _ => {
            let mut sums = Sums::default();
            sums.refresh(tx)?;
            return Ok(State { seq, sums });
        }
    };
    sums.update(tx, dirty)?;
    sums.extend(tx, "log", before)?;
    Ok(State { seq, sums })
}

#[cfg(test)]
mod tests;
