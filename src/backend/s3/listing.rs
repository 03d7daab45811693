//! A page of a listing, read strictly.
//!
//! The next page begins after the last key of this one, so a store that lists out of order, or lists
//! again what came before, could hide objects: it is refused. One key twice is one key.

use super::refusal::Refusal;
use crate::backend::Entry;
use rusty_s3::actions::ListObjectsV2;
use rusty_s3::actions::list_objects_v2::ListObjectsV2Response;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub foreign: Vec<String>,
    /// The last key, ours or not.
    pub last: String,
    pub more: bool,
}

const ORDER: &str = "use a store that lists keys in the order of their bytes, as S3 does";

fn unreadable(cause: String) -> Refusal {
    Refusal::passing(format!("an unreadable listing: {cause}"))
}

fn parsed(xml: &[u8]) -> Result<ListObjectsV2Response, Refusal> {
    let text = std::str::from_utf8(xml).map_err(|error| unreadable(error.to_string()))?;
    // The parser takes a text that ends early for one that is whole.
    if !text.trim_end().ends_with("</ListBucketResult>") || !text.contains("<IsTruncated>") {
        return Err(unreadable("it is cut, or does not say whether more follows".to_owned()));
    }
    ListObjectsV2::parse_response(text).map_err(|error| unreadable(error.to_string()))
}

/// What the keys below `root` are grouped by, and where the next page begins.
pub(super) fn below(xml: &[u8], root: &str) -> Result<(Vec<String>, Option<String>), Refusal> {
    let listed = parsed(xml)?;
    let mut names = Vec::new();
    for group in listed.common_prefixes {
        let name = group.prefix.strip_prefix(root).and_then(|rest| rest.strip_suffix('/'));
        match name {
            Some("") => {}
            Some(name) => names.push(name.to_owned()),
            None => return Err(unreadable(format!("{} is not below {root}", group.prefix))),
        }
    }
    Ok((names, listed.next_continuation_token))
}

/// Reads the keys below `root` that begin with `prefix` and come after `after`, both whole keys.
pub fn read(xml: &[u8], root: &str, prefix: &str, after: &str) -> Result<Page, Refusal> {
    let listed = parsed(xml)?;
    let mut page = Page { more: listed.next_continuation_token.is_some(), ..Page::default() };
    let mut before = after.to_owned();
    for object in listed.contents {
        let key = object.key;
        if key == before {
            continue;
        }
        let wrong = |what: &str| Refusal::lasting(format!("the store lists {key} {what}"), ORDER);
        if !key.starts_with(prefix) {
            return Err(wrong("though it does not begin as asked for"));
        }
        if key < before {
            return Err(unordered(&key));
        }
        let name = &key[root.len()..];
        match (name.parse(), object.size) {
            (Ok(name), Some(bytes)) => page.entries.push(Entry { name, bytes }),
            (Ok(_), None) => return Err(unreadable(format!("{key} has no size"))),
            (Err(_), _) => page.foreign.push(name.to_owned()),
        }
        name.clone_into(&mut page.last);
        before = key;
    }
    if page.more && page.last.is_empty() {
        return Err(wrong_end());
    }
    Ok(page)
}

pub(super) fn unordered(key: &str) -> Refusal {
    Refusal::lasting(format!("the store lists {key} after what comes behind it"), ORDER)
}

fn wrong_end() -> Refusal {
    Refusal::passing("an unreadable listing: nothing in it, and more to follow")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Kind;

    const A: &str = "timeline/00000001";
    const B: &str = "timeline/00000002";

    fn xml(keys: &[&str], more: bool) -> String {
        let contents = |key: &&str| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>");
        let contents: String = keys.iter().map(contents).collect();
        let token = if more { "<NextContinuationToken>t</NextContinuationToken>" } else { "" };
        format!(
            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{contents}\
             <IsTruncated>{more}</IsTruncated>{token}</ListBucketResult>"
        )
    }

    fn listed(keys: &[&str], after: &str, more: bool) -> Result<Vec<String>, Kind> {
        let keys: Vec<_> = keys.iter().map(|key| format!("app/{key}")).collect();
        let keys: Vec<_> = keys.iter().map(String::as_str).collect();
        let after = if after.is_empty() { String::new() } else { format!("app/{after}") };
        let page = read(xml(&keys, more).as_bytes(), "app/", "app/timeline/", &after);
        let page = page.map_err(|refusal| refusal.kind)?;
        assert_eq!(page.more, more);
        let names = page.entries.into_iter().map(|entry| entry.name.to_string());
        Ok(names.chain(page.foreign).collect())
    }

    #[test]
    fn trap_76_duplicate_and_unordered_keys() {
        let both = Ok(vec![A.to_owned(), B.to_owned()]);
        assert_eq!(listed(&[A, B], "", false), both);
        assert_eq!(listed(&[A, A, B, B], "", true), both);
        assert_eq!(listed(&[A, B], A, false), Ok(vec![B.to_owned()]), "the last page's last key");
        assert_eq!(listed(&[B, A], "", false), Err(Kind::Other));
        assert_eq!(listed(&[A, B, A], "", true), Err(Kind::Other));
        assert_eq!(listed(&[A], B, false), Err(Kind::Other), "start-after is not heeded");
        assert_eq!(listed(&["snapshot/x"], "", false), Err(Kind::Other), "another prefix");
        assert_eq!(listed(&["timeline/x", A], "", false), Err(Kind::Other));
    }

    #[test]
    fn what_keys_are_grouped_by_is_a_name_below() {
        let groups = |all: &[&str], more: &str| {
            let group =
                |it: &&str| format!("<CommonPrefixes><Prefix>{it}</Prefix></CommonPrefixes>");
            let all: String = all.iter().map(group).collect();
            let xml = format!(
                "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{all}{more}\
                 </ListBucketResult>"
            );
            below(xml.as_bytes(), "fleet/").map_err(|refusal| refusal.kind)
        };
        let last = "<IsTruncated>false</IsTruncated>";
        let names = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(groups(&["fleet/a/", "fleet/b/"], last), Ok((names(&["a", "b"]), None)));
        let more =
            "<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>";
        assert_eq!(groups(&["fleet/a/"], more), Ok((names(&["a"]), Some("t".to_owned()))));
        assert_eq!(groups(&["fleet//"], last), Ok((names(&[]), None)), "a name that is none");
        assert_eq!(groups(&["other/a/"], last), Err(Kind::Transient));
        assert_eq!(groups(&[], ""), Err(Kind::Transient), "whether more follows is not said");
    }

    #[test]
    fn a_listing_that_is_cut_is_none() {
        let whole = xml(&["app/timeline/00000001", "app/timeline/00000002"], false);
        for end in 0..whole.len() {
            let cut = read(&whole.as_bytes()[..end], "app/", "app/timeline/", "");
            assert_eq!(cut.unwrap_err().kind, Kind::Transient, "{end} bytes");
        }
        let sizeless = whole.replace("<Size>1</Size>", "");
        read(sizeless.as_bytes(), "app/", "app/timeline/", "").unwrap_err();
        assert_eq!(listed(&[], "", true), Err(Kind::Transient));
        assert_eq!(listed(&[], "", false), Ok(vec![]));
    }
}
