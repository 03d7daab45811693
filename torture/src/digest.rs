//! The digest over every user table: what the workload records and what the oracle computes again.
//!
//! It covers the text encoding, `user_version`, the text of the schema, and for every table with
//! content of its own (shadow tables of virtual tables and `sqlite_sequence` too) each row: its
//! rowid where it has one and each value with a type tag and a length. A table's rows are summed
//! up, so that the order in which they are read does not matter and the writer can keep the sum
//! of an untouched table; the sums are then hashed together with the tables' names.
//!
//! It leaves out what SQLite may change without changing content: root pages, the schema cookie,
//! the order of pages. This module only reads.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};
use std::collections::BTreeMap;
use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Digest {
    pub fn parse(hex: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if hex.len() != 64 || !hex.is_ascii() {
            return None;
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        Some(Self(bytes))
    }
}

/// The digest of the database as this connection sees it, computed from nothing but the database.
pub fn of(db: &Connection) -> Result<Digest> {
    let mut sums = Sums::default();
    sums.refresh(db)?;
    sums.digest(db)
}

/// The sum of the hashes of a table's rows, and their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    rows: u64,
    lanes: [u64; 4],
}

impl Sum {
    fn add(&mut self, hash: blake3::Hash) {
        self.rows += 1;
        for (lane, bytes) in self.lanes.iter_mut().zip(hash.as_bytes().chunks_exact(8)) {
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            *lane = lane.wrapping_add(u64::from_le_bytes(word));
        }
    }
}

/// The sums of all tables at one commit. What a transaction touched is summed up anew; a table
/// that only ever grows at its end is extended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    tables: BTreeMap<String, Sum>,
}

impl Sums {
    /// Sums up every table anew.
    pub fn refresh(&mut self, db: &Connection) -> Result<()> {
        self.tables.clear();
        for table in tables(db)? {
            let sum = sum(db, &select(db, &table)?)?;
            self.tables.insert(table.name, sum);
        }
        Ok(())
    }

    /// Sums up the tables whose names are in `dirty` anew; one that is gone counts no longer.
    pub fn update(&mut self, db: &Connection, dirty: &[&str]) -> Result<()> {
        self.tables.retain(|name, _| !dirty.contains(&&**name));
        for table in tables(db)?.into_iter().filter(|table| dirty.contains(&&*table.name)) {
            let sum = sum(db, &select(db, &table)?)?;
            self.tables.insert(table.name, sum);
        }
        Ok(())
    }

    /// Adds the rows of `table` beyond rowid `after`, the ones up to there being summed up already.
    pub fn extend(&mut self, db: &Connection, table: &str, after: u64) -> Result<()> {
        let added = sum(db, &format!("SELECT rowid, * FROM \"{table}\" WHERE rowid > {after}"))?;
        let sum = self.tables.entry(table.to_owned()).or_default();
        sum.rows += added.rows;
        for (lane, more) in sum.lanes.iter_mut().zip(added.lanes) {
            *lane = lane.wrapping_add(more);
        }
        Ok(())
    }

    pub fn digest(&self, db: &Connection) -> Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hash_schema(db, &mut hasher)?;
        for (name, Sum { rows, lanes }) in &self.tables {
            hash_value(&mut hasher, ValueRef::Text(name.as_bytes()));
            hasher.update(&rows.to_le_bytes());
            for lane in lanes {
                hasher.update(&lane.to_le_bytes());
            }
        }
        Ok(Digest(*hasher.finalize().as_bytes()))
    }
}

fn hash_schema(db: &Connection, hasher: &mut blake3::Hasher) -> Result<()> {
    for pragma in ["encoding", "user_version", "application_id"] {
        db.query_row(&format!("PRAGMA {pragma}"), [], |row| {
            hash_value(hasher, row.get_ref(0)?);
            Ok(())
        })?;
    }
    let mut schema =
        db.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2")?;
    let mut rows = schema.query([])?;
    while let Some(row) = rows.next()? {
        (0..4).try_for_each(|column| row.get_ref(column).map(|value| hash_value(hasher, value)))?;
    }
    Ok(())
}

struct Table {
    name: String,
    without_rowid: bool,
}

/// The tables with content of their own. Virtual tables keep theirs in shadow tables.
fn tables(db: &Connection) -> Result<Vec<Table>> {
    let mut list = db.prepare(
        "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' \
         AND type IN ('table', 'shadow') AND name <> 'sqlite_schema' ORDER BY name",
    )?;
    let table = |row: &rusqlite::Row| Ok(Table { name: row.get(0)?, without_rowid: row.get(1)? });
    list.query_map([], table)?.collect()
}

/// The query that yields each row with its rowid, by whichever of its names no column has taken.
fn select(db: &Connection, table: &Table) -> Result<String> {
    let quoted = table.name.replace('"', "\"\"");
    if table.without_rowid {
        return Ok(format!("SELECT * FROM \"{quoted}\""));
    }
    let mut columns = db.prepare("SELECT lower(name) FROM pragma_table_xinfo(?1)")?;
    let columns: Vec<String> =
        columns.query_map([&table.name], |row| row.get(0))?.collect::<Result<_>>()?;
    let rowid =
        ["rowid", "_rowid_", "oid"].into_iter().find(|name| !columns.contains(&(*name).into()));
    let rowid = rowid.map(|name| format!("{name}, ")).unwrap_or_default();
    Ok(format!("SELECT {rowid}* FROM \"{quoted}\""))
}

fn sum(db: &Connection, select: &str) -> Result<Sum> {
    let mut statement = db.prepare(select)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    let mut sum = Sum::default();
    while let Some(row) = rows.next()? {
        let mut hasher = blake3::Hasher::new();
        for column in 0..columns {
            hash_value(&mut hasher, row.get_ref(column)?);
        }
        sum.add(hasher.finalize());
    }
    Ok(sum)
}

/// A type tag, then a fixed-size number or a length and bytes: no two values look alike.
fn hash_value(hasher: &mut blake3::Hasher, value: ValueRef) {
    match value {
        ValueRef::Null => hasher.update(&[0]),
        ValueRef::Integer(number) => hasher.update(&[1]).update(&number.to_le_bytes()),
        ValueRef::Real(number) => hasher.update(&[2]).update(&number.to_bits().to_le_bytes()),
        ValueRef::Text(bytes) => {
            hasher.update(&[3]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes)
        }
        ValueRef::Blob(bytes) => {
            hasher.update(&[4]).update(&(bytes.len() as u64).to_le_bytes()).update(bytes)
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn digest(sql: &str) -> Digest {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        of(&db).unwrap()
    }

    fn all_differ(variants: &[&str]) {
        let mut seen = HashMap::new();
        for sql in variants {
            if let Some(other) = seen.insert(digest(sql), sql) {
                panic!("one digest for both: {other} // {sql}");
            }
        }
    }

    #[test]
    fn trap_101_values_that_look_alike_are_told_apart() {
        let with = |value: &str| format!("CREATE TABLE t(a, b); INSERT INTO t VALUES ({value})");
        let variants = [
            "NULL, NULL",
            "'', NULL",
            "x'', NULL",
            "NULL, ''",
            "1, NULL",
            "1.0, NULL",
            "'1', NULL",
            "x'31', NULL",
            "0, 0",
            "0.0, 0",
            "'ab', 'c'",
            "'a', 'bc'",
            "'abc', ''",
            "x'00', 0",
            "x'0000', 0",
            "'a' || char(0), 0",
            "'a', 0",
            "1e999, 0",
            "-1e999, 0",
        ]
        .map(with);
        all_differ(&variants.each_ref().map(|sql| &**sql));
    }

    #[test]
    fn trap_101_rowids_and_rows_count() {
        all_differ(&[
            "CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES (1, 5)",
            "CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES (2, 5)",
            "CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES (1, 5), (2, 5)",
            "CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES (1, 5), (3, 5)",
            "CREATE TABLE t(a)",
        ]);
        all_differ(&[
            "CREATE TABLE t(rowid TEXT, oid TEXT); INSERT INTO t(_rowid_) VALUES (1)",
            "CREATE TABLE t(rowid TEXT, oid TEXT); INSERT INTO t(_rowid_) VALUES (2)",
        ]);
    }

    #[test]
    fn trap_101_every_kind_of_table_counts() {
        all_differ(&[
            "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID",
            "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t VALUES (1, 2)",
            "CREATE TABLE t(k PRIMARY KEY, v) WITHOUT ROWID; INSERT INTO t VALUES (2, 1)",
            "CREATE TABLE t(a, g AS (a + 1)); INSERT INTO t VALUES (1)",
            "CREATE TABLE t(a, g AS (a + 2)); INSERT INTO t VALUES (1)",
            "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT)",
            // Only sqlite_sequence tells these two apart.
            "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (1); \
             DELETE FROM t",
            "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT); INSERT INTO t VALUES (2); \
             DELETE FROM t",
        ]);
        all_differ(&[
            "CREATE VIRTUAL TABLE f USING fts5(a)",
            "CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('bake')",
            "CREATE VIRTUAL TABLE f USING fts5(a); INSERT INTO f VALUES ('cake')",
        ]);
    }

    #[test]
    fn trap_101_schema_text_and_encoding_count() {
        all_differ(&[
            "CREATE TABLE t(a)",
            "CREATE TABLE t(a )",
            "CREATE TABLE t(a); CREATE INDEX i ON t(a)",
            "CREATE TABLE t(a); CREATE INDEX i ON t(a DESC)",
            "CREATE TABLE t(a); CREATE VIEW v AS SELECT a FROM t",
            "CREATE TABLE t(a); PRAGMA user_version = 1",
            "CREATE TABLE t(a); PRAGMA application_id = 1",
            "PRAGMA encoding = 'UTF-16le'; CREATE TABLE t(a)",
            "PRAGMA encoding = 'UTF-16be'; CREATE TABLE t(a)",
        ]);
    }

    /// SQLite stores both zeros as one integer in a REAL column; where they do differ, it shows.
    #[test]
    fn trap_101_negative_zero() {
        let stored = |affinity: &str, value: f64| {
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch(&format!("CREATE TABLE t(a {affinity})")).unwrap();
            db.execute("INSERT INTO t VALUES (?1)", [value]).unwrap();
            let bits = db.query_row("SELECT a FROM t", [], |row| row.get::<_, f64>(0)).unwrap();
            (bits.to_bits(), of(&db).unwrap())
        };
        for affinity in ["", "REAL"] {
            let (plus, minus) = (stored(affinity, 0.0), stored(affinity, -0.0));
            assert_eq!(plus.0 == minus.0, plus.1 == minus.1, "{affinity}");
        }
        let mut hashers = [blake3::Hasher::new(), blake3::Hasher::new()];
        hash_value(&mut hashers[0], ValueRef::Real(0.0));
        hash_value(&mut hashers[1], ValueRef::Real(-0.0));
        assert_ne!(hashers[0].finalize(), hashers[1].finalize());
    }

    #[test]
    fn content_counts_and_layout_does_not() {
        let insert = "CREATE TABLE t(a, b UNIQUE); CREATE TABLE u(c);
            INSERT INTO t VALUES (1, 2), (3, 4), (5, 6); DELETE FROM t WHERE a = 3";
        assert_eq!(digest(insert), digest(&format!("{insert}; VACUUM")));
        assert_eq!(digest(insert), digest(&format!("PRAGMA page_size = 512; {insert}")));
    }

    #[test]
    fn sums_kept_up_by_hand_equal_a_full_recompute() {
        let db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE log(seq INTEGER PRIMARY KEY, what); CREATE TABLE t(a)")
            .unwrap();
        let mut sums = Sums::default();
        sums.refresh(&db).unwrap();
        for seq in 1..=20u32 {
            db.execute("INSERT INTO log VALUES (?1, 'x')", [seq]).unwrap();
            db.execute("INSERT INTO t VALUES (?1)", [seq * 7]).unwrap();
            sums.extend(&db, "log", u64::from(seq) - 1).unwrap();
            sums.update(&db, &["t"]).unwrap();
            assert_eq!(sums.digest(&db).unwrap(), of(&db).unwrap(), "{seq}");
        }
    }

    #[test]
    fn hex_goes_there_and_back() {
        let digest = digest("CREATE TABLE t(a)");
        assert_eq!(Digest::parse(&digest.to_string()), Some(digest));
        assert_eq!(Digest::parse("00"), None);
        assert_eq!(Digest::parse(&"é".repeat(32)), None);
    }
}
