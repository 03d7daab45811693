//! What a transaction does besides marking itself. Each operation notes the tables that it touches.
//!
//! The tables stay small (a few hundred rows), so that summing them up anew costs little.

use super::Result;
use super::setup::Setup;
use crate::oracle::number;
use crate::rng::Rng;
use rusqlite::Transaction;
use rusqlite::types::Value;

type Dirty = Vec<&'static str>;

/// Every table has a rowid that VACUUM keeps: an INTEGER PRIMARY KEY, or an index, or none at all.
pub fn schema(setup: &Setup) -> String {
    let fts = if setup.fts { "CREATE VIRTUAL TABLE doc USING fts5(title, body);" } else { "" };
    format!(
        "CREATE TABLE mark(id INTEGER PRIMARY KEY CHECK (id = 1), seq INTEGER, writer INTEGER);
         INSERT INTO mark VALUES (1, 0, 0);
         CREATE TABLE log(seq INTEGER PRIMARY KEY, writer INTEGER, what TEXT);
         CREATE TABLE item(id INTEGER PRIMARY KEY AUTOINCREMENT, k TEXT, n INTEGER, r REAL,
             twice AS (n * 2), size INTEGER AS (length(k)) STORED);
         CREATE INDEX item_k ON item(k, n DESC);
         CREATE INDEX item_odd ON item(r) WHERE n % 2;
         CREATE TABLE tally(id INTEGER PRIMARY KEY, gone INTEGER);
         INSERT INTO tally VALUES (1, 0);
         CREATE TRIGGER item_gone AFTER DELETE ON item
             BEGIN UPDATE tally SET gone = gone + 1; END;
         CREATE TABLE kv(k TEXT, v, PRIMARY KEY (k)) WITHOUT ROWID;
         CREATE TABLE heap(a, b UNIQUE);
         CREATE TABLE blob(id INTEGER PRIMARY KEY, data BLOB);
         CREATE TABLE odd(id INTEGER PRIMARY KEY, a, b);
         CREATE VIEW both AS SELECT k, v FROM kv UNION ALL SELECT k, n FROM item;
         {fts}"
    )
}

/// A handful of random operations; often none, so that small commits come in quick succession.
pub fn some(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    if rng.one_in(120) {
        flood(tx, rng, dirty)?;
    }
    if rng.one_in(60) {
        reshape(tx, rng, dirty)?;
    }
    let number = if rng.one_in(2) { 0 } else { rng.between(1, 5) };
    for _ in 0..number {
        let undo = rng.one_in(10);
        let mut touched = Dirty::new();
        tx.execute_batch("SAVEPOINT op")?;
        one(tx, rng, &mut touched)?;
        tx.execute_batch(if undo { "ROLLBACK TO op; RELEASE op" } else { "RELEASE op" })?;
        dirty.append(&mut touched);
    }
    Ok(())
}

fn one(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    match rng.below(8) {
        0 | 1 => item(tx, rng, dirty),
        2 => kv(tx, rng, dirty),
        3 => heap(tx, rng, dirty),
        4 => blob(tx, rng, dirty),
        5 => odd(tx, rng, dirty),
        6 => doc(tx, rng, dirty),
        _ => misc(tx, rng, dirty),
    }
}

fn item(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    dirty.extend(["item", "tally", "sqlite_sequence"]);
    let (n, r) = (rng.below(100) as i64, rng.below(1000) as f64 / 8.0);
    match rng.below(4) {
        0 | 1 => {
            let chars = rng.below(60) as usize;
            tx.execute("INSERT INTO item(k, n, r) VALUES (?1, ?2, ?3)", (rng.text(chars), n, r))?
        }
        2 => tx.execute("UPDATE item SET n = n + 1, r = ?2 WHERE n = ?1", (n, r))?,
        _ => tx.execute("DELETE FROM item WHERE n = ?1", [n])?,
    };
    keep_below(tx, rng, "item", 120)
}

fn kv(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    dirty.push("kv");
    let key = format!("key {}", rng.below(80));
    match rng.one_in(4) {
        true => tx.execute("DELETE FROM kv WHERE k = ?1", [key])?,
        false => tx.execute("REPLACE INTO kv VALUES (?1, ?2)", (key, value(rng)))?,
    };
    Ok(())
}

fn heap(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    dirty.push("heap");
    let b = rng.below(200) as i64;
    match rng.one_in(3) {
        true => tx.execute("DELETE FROM heap WHERE b = ?1", [b])?,
        false => tx.execute("REPLACE INTO heap VALUES (?1, ?2)", (value(rng), b))?,
    };
    keep_below(tx, rng, "heap", 100)
}

/// Values that go onto overflow pages, at every page size.
fn blob(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    dirty.push("blob");
    let page = number(tx, "PRAGMA page_size")?;
    let len = rng.between(1, (page * 4).min(20_000)) as usize;
    tx.execute("REPLACE INTO blob VALUES (?1, ?2)", (rng.below(16) as i64, rng.bytes(len)))?;
    if rng.one_in(4) {
        tx.execute("DELETE FROM blob WHERE id = ?1", [rng.below(16) as i64])?;
    }
    Ok(())
}

fn odd(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    dirty.push("odd");
    let row = (rng.below(40) as i64, value(rng), value(rng));
    tx.execute("REPLACE INTO odd VALUES (?1, ?2, ?3)", row)?;
    Ok(())
}

fn doc(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    if !exists(tx, "doc")? {
        return odd(tx, rng, dirty);
    }
    dirty.extend(["doc_data", "doc_idx", "doc_content", "doc_docsize", "doc_config"]);
    let row = (rng.below(30) as i64, rng.text(8), rng.text(50));
    match rng.one_in(3) {
        true => tx.execute("DELETE FROM doc WHERE rowid = ?1", [row.0])?,
        false => tx.execute("REPLACE INTO doc(rowid, title, body) VALUES (?1, ?2, ?3)", row)?,
    };
    Ok(())
}

fn misc(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    match rng.below(3) {
        0 => {
            dirty.push("kv");
            tx.execute("UPDATE kv SET v = ?1", [value(rng)])?;
        }
        1 => {
            let version = rng.below(1_000_000);
            tx.execute_batch(&format!("PRAGMA user_version = {version}"))?;
        }
        // Without effect unless the seed chose auto_vacuum = 2.
        _ => tx.execute_batch("PRAGMA incremental_vacuum(3)")?,
    }
    Ok(())
}

/// A table of its own with so many MiB in it, so that the rest stays small and quick to sum up.
pub fn grow(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty, mib: u64) -> Result<()> {
    dirty.push("bulk");
    tx.execute_batch("CREATE TABLE IF NOT EXISTS bulk(id INTEGER PRIMARY KEY, data BLOB)")?;
    for _ in 0..mib * 32 {
        tx.execute("INSERT INTO bulk(data) VALUES (?1)", [rng.bytes(1 << 15)])?;
    }
    Ok(())
}

/// Changes the last rows of that table.
pub fn touch(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty, rows: u64) -> Result<()> {
    dirty.push("bulk");
    let last = number(tx, "SELECT max(id) FROM bulk")?;
    for id in (last + 1).saturating_sub(rows)..=last {
        tx.execute("UPDATE bulk SET data = ?2 WHERE id = ?1", (id as i64, rng.bytes(1 << 15)))?;
    }
    Ok(())
}

/// Changes the schema.
fn reshape(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    let table = *rng.pick(&["extra_0", "extra_1", "extra_2"]);
    dirty.push(table);
    if exists(tx, table)? {
        tx.execute_batch(&format!("DROP TABLE {table}"))?;
        return Ok(());
    }
    tx.execute_batch(&format!("CREATE TABLE {table}(x PRIMARY KEY, y)"))?;
    for x in 0..rng.below(20) as i64 {
        tx.execute(&format!("INSERT INTO {table} VALUES (?1, ?2)"), (x, value(rng)))?;
    }
    Ok(())
}

/// More pages than the cache holds: they spill into the WAL before the commit, some of them twice.
pub fn flood(tx: &Transaction, rng: &mut Rng, dirty: &mut Dirty) -> Result<()> {
    dirty.push("blob");
    let page = number(tx, "PRAGMA page_size")?;
    let total = (rng.between(60, 300) * page).min(500_000);
    let each = (total / 20) as usize;
    for id in 100..120 {
        tx.execute("REPLACE INTO blob VALUES (?1, ?2)", (id, rng.bytes(each)))?;
    }
    tx.execute("UPDATE blob SET data = zeroblob(length(data)) WHERE id > 109", [])?;
    // Its pages go to the free list, from where VACUUM or the next growth takes them.
    tx.execute("DELETE FROM blob WHERE id >= 100", [])?;
    Ok(())
}

/// One of the values that a careless comparison would confuse.
fn value(rng: &mut Rng) -> Value {
    match rng.below(10) {
        0 => Value::Null,
        1 => Value::Text(String::new()),
        2 => Value::Blob(Vec::new()),
        3 => Value::Integer(1),
        4 => Value::Real(1.0),
        5 => Value::Real(-0.0),
        6 => Value::Integer(rng.number() as i64),
        7 => Value::Real(f64::from_bits(rng.number() | 1)),
        8 => Value::Text(rng.text(30)),
        _ => Value::Blob(rng.bytes(40)),
    }
}

fn keep_below(tx: &Transaction, rng: &mut Rng, table: &str, rows: u64) -> Result<()> {
    let found = number(tx, &format!("SELECT count(*) FROM {table}"))?;
    if found > rows {
        let rest = rng.below(2);
        tx.execute(&format!("DELETE FROM {table} WHERE rowid % 2 = {rest}"), [])?;
    }
    Ok(())
}

fn exists(tx: &Transaction, table: &str) -> Result<bool> {
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = ?1";
    Ok(tx.query_row(sql, [table], |row| row.get(0))?)
}
