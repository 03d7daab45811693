//! Decodes the golden replica by the tables of `bakelite(5)`, and by them alone: no size, offset or
//! order below is written here. So the page describes what the program writes.

use crate::commit::{Digest, PageHash, PageNo};
use std::collections::BTreeMap;
use std::path::Path;

const PAGE: &str = include_str!("../../../man/bakelite.5");

/// A row of a table: offset or times, bytes, and what the field is called.
type Row = (&'static str, usize, &'static str);

/// The rows of the `nth` table below a heading. A dash stands for what the field before it says.
fn table(heading: &str, nth: usize) -> Vec<Row> {
    let from = PAGE.split(&format!(".Ss {heading}\n")).nth(1).expect("the page has it");
    let section = from.split("\n.S").next().unwrap();
    let list = section.split(".Bl -column").nth(nth + 1).expect("and its table");
    let rows = list.split(".El").next().unwrap().lines().skip(2);
    rows.map(|line| {
        let mut cells = line.strip_prefix(".It ").expect("only rows").split(" Ta ");
        let [first, bytes, field] = std::array::from_fn(|_| cells.next().expect("three cells"));
        (first, bytes.parse().unwrap_or(0), field)
    })
    .collect()
}

/// Fields of fixed place, by name. Their offsets leave no gap.
fn fields<'a>(rows: &[Row], bytes: &'a [u8]) -> BTreeMap<&'static str, &'a [u8]> {
    let mut next = 0;
    let mut fields = BTreeMap::new();
    for (offset, size, field) in rows {
        assert_eq!(offset.parse(), Ok(next), "{field} follows what is before it");
        fields.insert(*field, &bytes[next..next + size]);
        next += size;
    }
    fields
}

fn size(rows: &[Row]) -> usize {
    rows.iter().map(|(_, bytes, _)| bytes).sum()
}

fn number(bytes: &[u8]) -> u64 {
    assert!(bytes.len() <= 8);
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn wide(bytes: &[u8]) -> u128 {
    u128::from_le_bytes(bytes.try_into().unwrap())
}

/// What `times` rows of a table say, read in order; a name stands for the number read under it.
fn read<'a>(rows: &[Row], bytes: &mut &'a [u8]) -> BTreeMap<&'static str, Vec<&'a [u8]>> {
    let mut found: BTreeMap<_, Vec<&[u8]>> = BTreeMap::new();
    for (times, size, field) in rows {
        let times = times.parse().unwrap_or_else(|_| number(found[times][0]) as usize);
        for _ in 0..times {
            let (front, rest) = bytes.split_at(*size);
            found.entry(*field).or_default().push(front);
            *bytes = rest;
        }
    }
    found
}

struct Object {
    key: String,
    header: BTreeMap<&'static str, Vec<u8>>,
    blocks: Vec<Vec<u8>>,
    table: Vec<u8>,
}

/// Takes an object apart, and checks all that is the same for each kind.
fn object(key: &str, bytes: &[u8]) -> Object {
    let (head, entry, trailer) = (table("Header", 0), table("Blocks", 0), table("Trailer", 0));
    let header = fields(&head, bytes);
    assert_eq!(header["magic"], b"bakelite");
    assert_eq!((number(header["version"]), number(header["seal"])), (1, 0));
    let name_end = size(&head) + number(header["name length"]) as usize;
    assert_eq!(&bytes[size(&head)..name_end], key.as_bytes());
    let end = fields(&trailer, &bytes[bytes.len() - size(&trailer)..]);
    let hash_at = bytes.len() - end["hash"].len();
    assert_eq!(blake3::hash(&bytes[..hash_at]).as_bytes(), end["hash"]);
    let crc = crc32fast::hash(&bytes[..hash_at - end["crc"].len()]);
    assert_eq!(u64::from(crc), number(end["crc"]));
    let count = number(end["number of blocks"]) as usize;
    let directory = bytes.len() - size(&trailer) - count * size(&entry);
    let mut at = name_end;
    let mut blocks = Vec::new();
    for row in bytes[directory..].chunks(size(&entry)).take(count) {
        let row = fields(&entry, row);
        let stored = &bytes[at..at + number(row["stored bytes"]) as usize];
        let plain = number(row["plain bytes"]) as usize;
        let block = match number(header["compression"]) {
            0 => stored.to_vec(),
            _ => zstd::bulk::decompress(stored, plain).unwrap(),
        };
        assert_eq!(block.len(), plain);
        blocks.push(block);
        at += stored.len();
    }
    assert_eq!(at, directory);
    let table = blocks.pop().unwrap();
    let header = header.into_iter().map(|(field, bytes)| (field, bytes.to_vec())).collect();
    Object { key: key.to_owned(), header, blocks, table }
}

/// The golden replica's objects of one kind, in the order of their names.
fn golden(kind: &str, number_of_kind: u64) -> Vec<Object> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden-v1/replica");
    let entries = std::fs::read_dir(root.join(kind)).unwrap();
    let mut keys: Vec<String> =
        entries.map(|it| format!("{kind}/{}", it.unwrap().file_name().display())).collect();
    keys.sort();
    let objects = keys.iter().map(|key| object(key, &std::fs::read(root.join(key)).unwrap()));
    let objects: Vec<Object> = objects.collect();
    assert!(objects.iter().all(|object| number(&object.header["kind"]) == number_of_kind));
    objects
}

/// Commit, time, timeline as the name has them, from its end.
fn of_span(key: &str) -> [u64; 4] {
    let span = key.rsplit('/').next().unwrap();
    let mut fields = span.split('-').map(|hex| u64::from_str_radix(hex, 16).unwrap());
    std::array::from_fn(|_| fields.next().unwrap())
}

fn page_hash(page: u64, bytes: &[u8]) -> u128 {
    if bytes.iter().all(|byte| *byte == 0) {
        return 0;
    }
    let hash = blake3::hash(&[bytes, &(page as u32).to_le_bytes()].concat());
    wide(&hash.as_bytes()[..16])
}

/// The database's pages, as far as the walk over the replica came.
type Pages = BTreeMap<u64, Vec<u8>>;

fn digest(pages: &Pages) -> u128 {
    pages.iter().fold(0, |sum, (page, bytes)| sum ^ page_hash(*page, bytes))
}

/// The lineage after a commit record.
fn lineage(before: &[u8], page_size: &[u8], commit: &BTreeMap<&'static str, &[u8]>) -> Vec<u8> {
    let mut input = Vec::new();
    for (offset, size, field) in table("Hashes", 0) {
        assert_eq!(offset.parse(), Ok(input.len()), "{field}");
        let bytes = match field {
            "lineage before" => before,
            "page size" => page_size,
            field => commit[field],
        };
        assert_eq!(bytes.len(), size, "{field}");
        input.extend_from_slice(bytes);
    }
    blake3::hash(&input).as_bytes().to_vec()
}

#[test]
fn the_page_decodes_the_golden_timelines() {
    let rows = table("Timeline", 0);
    let forks: Vec<[u64; 3]> = golden("timeline", 1)
        .iter()
        .map(|object| {
            let fields = fields(&rows, &object.table);
            assert_eq!(object.table.len(), size(&rows));
            assert_eq!(object.header["parent"], object.header["chain"]);
            ["parent timeline", "commit", "flags"].map(|field| number(fields[field]))
        })
        .collect();
    assert_eq!(forks, [[0, 0, 1], [1, 0x1b, 0]]);
}

/// The first snapshot's pages, and its commit's record.
fn golden_snapshot() -> (Object, Pages) {
    let manifest = golden("snapshot", 2).remove(0);
    let (head, entry, part) = (table("Snapshot", 0), table("Snapshot", 1), table("Part", 0));
    let count = number(fields(&head, &manifest.table)["number of parts"]) as usize;
    let rest = &manifest.table[size(&head)..];
    assert_eq!(rest.len(), count * size(&entry));
    let parts: BTreeMap<String, Object> =
        golden("part", 3).into_iter().map(|object| (object.key.clone(), object)).collect();
    let mut pages = Pages::new();
    for row in rest.chunks(size(&entry)) {
        let row = fields(&entry, row);
        let key = format!("part/{:08x}-{:032x}", number(row["first page"]), wide(row["hash"]));
        let object = &parts[&key];
        let covered = fields(&part, &object.table);
        assert_eq!(covered["first page"], row["first page"]);
        assert_eq!(covered["pages"], row["pages"]);
        let page_size = number(&object.header["page size"]) as usize;
        let contents = object.blocks.concat();
        let numbered = (number(row["first page"])..).zip(contents.chunks(page_size));
        pages.extend(numbered.map(|(page, bytes)| (page, bytes.to_vec())));
    }
    (manifest, pages)
}

#[test]
fn the_page_decodes_the_golden_snapshot() {
    let (manifest, pages) = golden_snapshot();
    let commit = fields(&table("Commit record", 0), &manifest.table);
    let [first, last, time, timeline] = of_span(&manifest.key);
    assert_eq!((number(commit["number"]), number(commit["time"])), (last, time));
    assert_eq!((first, timeline), (1, 1));
    assert_eq!(number(commit["pages"]), pages.len() as u64);
    assert_eq!(number(commit["flags"]) & 1, 1);
    assert_eq!(wide(commit["digest"]), digest(&pages));
    let page = PageNo(2);
    assert_eq!(PageHash::of(page, &pages[&2]), PageHash(page_hash(2, &pages[&2])));
    assert_eq!(Digest(digest(&pages)).to_string(), expected(last));
}

fn expected(commit: u64) -> String {
    let expected = include_str!("../../../testdata/golden-v1/expected");
    let line = expected.lines().nth(commit as usize - 1).unwrap();
    line.rsplit(' ').next().unwrap().to_owned()
}

/// Walks the change-sets forward, each one backward from its last commit by its patches: every
/// commit's lineage and digest are what the page says.
#[test]
fn the_page_decodes_the_golden_change_sets() {
    let (manifest, mut pages) = golden_snapshot();
    let mut chain = manifest.header["chain"].clone();
    let (mut commits, mut patches) = (0, 0);
    for object in golden("change/0", 4) {
        assert_eq!(object.header["parent"], chain);
        let set = Set::decode(&object);
        patches += set.patches.len();
        for (record, written) in set.records.iter().zip(set.versions()) {
            let commit = fields(&table("Commit record", 0), record);
            chain = lineage(&chain, &object.header["page size"], &commit);
            pages.extend(written);
            pages.retain(|page, _| *page <= number(commit["pages"]));
            assert_eq!(wide(commit["digest"]), digest(&pages), "{}", object.key);
            let number = number(commit["number"]);
            assert_eq!(Digest(digest(&pages)).to_string(), expected(number));
            commits += 1;
        }
        assert_eq!(object.header["chain"], chain);
    }
    assert!(commits == 40 && patches > 1000, "{commits} commits, {patches} bytes of patches");
}

/// The runs of each patch, by the writer and the place that it undoes.
type Patches = BTreeMap<(usize, usize), Vec<(usize, Vec<u8>)>>;

struct Set {
    pages: Vec<u64>,
    contents: Vec<Vec<u8>>,
    writers: Vec<Vec<usize>>,
    records: Vec<Vec<u8>>,
    patches: Vec<u8>,
}

impl Set {
    fn decode(object: &Object) -> Self {
        let rows = table("Change-set", 0);
        let at = |name| rows.iter().position(|(_, _, field)| *field == name).unwrap();
        let (places, commits) = (at("number of places"), at("number of commits"));
        let mut rest = &object.table[..];
        let head = read(&rows[..places], &mut rest);
        let writers = (0..number(head["number of writers"][0]))
            .map(|_| read(&rows[places..commits], &mut rest))
            .map(|each| each["place"].iter().map(|place| number(place) as usize).collect());
        let writers: Vec<Vec<usize>> = writers.collect();
        let tail = read(&rows[commits..], &mut rest);
        assert!(rest.is_empty());
        let pages: Vec<u64> = head["page number"].iter().map(|page| number(page)).collect();
        let page_size = number(&object.header["page size"]) as usize;
        let mut contents = object.blocks.concat();
        let patches = contents.split_off(pages.len() * page_size);
        Self {
            pages,
            contents: contents.chunks(page_size).map(<[u8]>::to_vec).collect(),
            writers,
            records: tail["commit record"].iter().map(|record| record.to_vec()).collect(),
            patches,
        }
    }

    /// What each commit wrote: back from the last commit, by the patches.
    fn versions(&self) -> Vec<Pages> {
        let patches = self.split_patches();
        let mut contents = self.contents.clone();
        let mut versions = Vec::new();
        for (writer, places) in self.writers.iter().enumerate().rev() {
            let numbered = places.iter().map(|&at| (self.pages[at], contents[at].clone()));
            versions.push(numbered.collect());
            for &place in places {
                for (offset, old) in patches.get(&(writer, place)).into_iter().flatten() {
                    contents[place][*offset..offset + old.len()].copy_from_slice(old);
                }
            }
        }
        versions.reverse();
        versions
    }

    fn split_patches(&self) -> Patches {
        let (head, run) = (table("Undo patch", 0), table("Undo patch", 1));
        let mut rest = &self.patches[..];
        let mut patches = BTreeMap::new();
        let mut seen = vec![false; self.pages.len()];
        for (writer, places) in self.writers.iter().enumerate() {
            for &place in places {
                if !std::mem::replace(&mut seen[place], true) {
                    continue;
                }
                let runs = number(read(&head, &mut rest)["number of runs"][0]);
                let runs = (0..runs).map(|_| {
                    let fixed = read(&run[..2], &mut rest);
                    let length = number(fixed["length less one"][0]) as usize + 1;
                    let (old, after) = rest.split_at(length * run[2].1);
                    rest = after;
                    (number(fixed["offset in the page"][0]) as usize, old.to_vec())
                });
                patches.insert((writer, place), runs.collect::<Vec<_>>());
            }
        }
        assert!(rest.is_empty(), "every patch has its page");
        patches
    }
}
