//! What a store lists, as XML: keys, and versions of keys.

use super::{Fuzz, Input, Is, Seen, holds, mutate};
use crate::rng::Rng;
use bakelite::backend::s3::{Refusal, listing, versions};
use std::fmt::Write;

const ROOT: &str = "app/";
const PREFIX: &str = "app/change/";

/// Keys in the order in which a store lists them, some of them none of ours.
const KEYS: [&str; 6] = [
    "app/change/0/0000000000000002-0000000000000003-01a2068cf76d-00000001-0000e",
    "app/change/0/0000000000000004-0000000000000006-01a2068cf900-00000001-0000e",
    "app/change/0/0000000000000007-0000000000000008-01a2068cf904-00000001-0000m",
    "app/change/1/0000000000000002-0000000000000008-01a2068cf904-00000001-0000e",
    "app/change/x<y>&\"z\"",
    "app/change/~",
];

const WORDS: &[&str] = &[
    "<Contents>",
    "</Contents>",
    "<Key>",
    "</Key>",
    "<Size>",
    "</Size>",
    "<IsTruncated>",
    "true",
    "false",
    "<NextContinuationToken>",
    "</ListBucketResult>",
    "</ListVersionsResult>",
    "<Version>",
    "</Version>",
    "<DeleteMarker>",
    "<VersionId>",
    "<NextKeyMarker>",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?xml",
    "<!DOCTYPE a [<!ENTITY b \"c\">]>",
    "&amp;",
    "&lt;",
    "&#0;",
    "&#x110000;",
    "&b;",
    "/>",
    "<a><a><a><a><a><a><a><a>",
    "xmlns=\"x\"",
    "-1",
    "18446744073709551616",
    "app/change/",
    "é",
];

fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// The place of the last key that was listed before: none, or one of the keys.
fn split(bytes: &[u8]) -> (&'static str, &[u8]) {
    match bytes.split_first() {
        Some((at, xml)) => (KEYS.get(usize::from(*at)).copied().unwrap_or_default(), xml),
        None => ("", bytes),
    }
}

fn made(rng: &mut Rng, others: &[Vec<u8>]) -> Input {
    let mut bytes = rng.pick(others).clone();
    if rng.one_in(16) {
        return Input { bytes, is: Is::Right };
    }
    let after = bytes.remove(0);
    if rng.one_in(8) {
        bytes.truncate(rng.below(bytes.len() as u64 + 1) as usize);
    } else {
        let other = rng.pick(others);
        mutate::text(&mut bytes, other, WORDS, rng);
    }
    bytes.insert(0, after);
    Input { bytes, is: Is::Changed }
}

/// Whether a text is cut, or does not say whether more follows: no page may be read from it.
fn is_cut(xml: &[u8], end: &str) -> bool {
    let text = String::from_utf8_lossy(xml);
    !text.trim_end().ends_with(end) || !text.contains("<IsTruncated>")
}

fn refused(refusal: &Refusal, is: Is) -> Result<Seen, String> {
    holds(is != Is::Right, || format!("it is refused: {}", refusal.cause))?;
    holds(!refusal.cause.is_empty(), || "it is refused without a word".to_owned())?;
    Ok(Seen::Refused)
}

/// An input is the number of the key to go on after, then the page.
#[derive(Debug)]
pub struct Keys {
    right: Vec<Vec<u8>>,
}

impl Keys {
    pub fn new() -> Self {
        let page = |seed| {
            let rng = &mut Rng::of(seed, "listing");
            let after = rng.below(8) as u8;
            let keys = KEYS.iter().skip(usize::from(after) + usize::from(after < 6));
            let keys: Vec<_> = keys.collect();
            let more = !keys.is_empty() && rng.one_in(2);
            let keys = if after > 5 { KEYS.iter().collect() } else { keys };
            let more = more || after > 6;
            [&[after], keys_page(&keys, more).as_bytes()].concat()
        };
        Self { right: (0..12).map(page).collect() }
    }
}

fn keys_page(keys: &[&&str], more: bool) -> String {
    let mut xml = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult \
                   xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>b</Name>\
                   <MaxKeys>1000</MaxKeys>"
        .to_owned();
    let _ = write!(xml, "<IsTruncated>{more}</IsTruncated>");
    for key in keys {
        let key = escaped(key);
        let _ = write!(
            xml,
            "<Contents><Key>{key}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>\
             <ETag>&quot;0&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
        );
    }
    let token = if more { "<NextContinuationToken>t</NextContinuationToken>" } else { "" };
    xml + token + "</ListBucketResult>\n"
}

impl Fuzz for Keys {
    fn input(&mut self, rng: &mut Rng) -> Input {
        made(rng, &self.right)
    }

    fn check(&mut self, Input { bytes, is }: &Input) -> Result<Seen, String> {
        let (after, xml) = split(bytes);
        let page = match listing::read(xml, ROOT, PREFIX, after) {
            Ok(page) => page,
            Err(refusal) => return refused(&refusal, *is),
        };
        holds(!is_cut(xml, "</ListBucketResult>"), || "a page that is cut".to_owned())?;
        let names: Vec<_> = page.entries.iter().map(|it| it.name.to_string()).collect();
        let rising = |names: &[String]| names.is_sorted_by(|a, b| a < b);
        let above = names.iter().chain(&page.foreign).all(|name| {
            let key = format!("{ROOT}{name}");
            key.starts_with(PREFIX) && &*key > after && *name <= page.last
        });
        let right = rising(&names) && rising(&page.foreign) && above;
        holds(right, || format!("after {after} it lists {page:?}"))?;
        holds(!page.more || !page.last.is_empty(), || "more, after nothing".to_owned())?;
        if *is == Is::Right {
            let all = KEYS.iter().filter(|key| **key > after).count();
            let found = names.len() + page.foreign.len();
            holds(found == all, || format!("{found} of {all} keys"))?;
        }
        Ok(Seen::Taken)
    }

    /// The parser keeps what it has read of each element.
    fn memory(&self, input: &Input) -> usize {
        (64 << 10) + 256 * input.bytes.len()
    }
}

#[derive(Debug)]
pub struct Versions {
    right: Vec<Vec<u8>>,
}

impl Versions {
    pub fn new() -> Self {
        let page = |seed| {
            let rng = &mut Rng::of(seed, "versions");
            let version = |rng: &mut Rng| versions::Version {
                key: (*rng.pick(&KEYS)).to_owned(),
                id: format!("v{}&", rng.below(99)),
                bytes: (!rng.one_in(3)).then(|| rng.below(1 << 40)),
            };
            let versions = (0..rng.below(5)).map(|_| version(rng)).collect();
            let next = rng.one_in(2).then(|| (KEYS[4].to_owned(), "v<".to_owned()));
            [&[0], versions_page(&versions::Page { versions, next }).as_bytes()].concat()
        };
        Self { right: (0..12).map(page).collect() }
    }
}

fn versions_page(page: &versions::Page) -> String {
    let mut xml = "<ListVersionsResult><Name>b</Name>".to_owned();
    if let Some((key, id)) = &page.next {
        let (key, id) = (escaped(key), escaped(id));
        let _ = write!(
            xml,
            "<NextKeyMarker>{key}</NextKeyMarker><NextVersionIdMarker>{id}</NextVersionIdMarker>"
        );
    }
    let _ = write!(xml, "<IsTruncated>{}</IsTruncated>", page.next.is_some());
    for versions::Version { key, id, bytes } in &page.versions {
        let tag = if bytes.is_some() { "Version" } else { "DeleteMarker" };
        let size = bytes.map(|bytes| format!("<Size>{bytes}</Size>")).unwrap_or_default();
        let (key, id) = (escaped(key), escaped(id));
        let _ = write!(xml, "<{tag}><Key>{key}</Key><VersionId>{id}</VersionId>{size}</{tag}>");
    }
    xml + "</ListVersionsResult>"
}

impl Fuzz for Versions {
    fn input(&mut self, rng: &mut Rng) -> Input {
        made(rng, &self.right)
    }

    fn check(&mut self, Input { bytes, is }: &Input) -> Result<Seen, String> {
        let (_, xml) = split(bytes);
        let page = match versions::read(xml) {
            Ok(page) => page,
            Err(refusal) => return refused(&refusal, *is),
        };
        holds(!is_cut(xml, "</ListVersionsResult>"), || "a page that is cut".to_owned())?;
        let named = page.versions.iter().all(|it| !it.key.is_empty() && !it.id.is_empty());
        holds(named, || format!("a version without a name: {page:?}"))?;
        let again = versions::read(versions_page(&page).as_bytes());
        let again = again.map_err(|refusal| format!("written again: {}", refusal.cause))?;
        holds(again == page, || format!("{page:?} became {again:?}"))?;
        Ok(Seen::Taken)
    }

    fn memory(&self, input: &Input) -> usize {
        (64 << 10) + 256 * input.bytes.len()
    }
}
