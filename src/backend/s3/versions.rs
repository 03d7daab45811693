//! A page of versions of objects, read strictly: what hides or covers an object is in there too.
//!
//! Keys come in order, and the versions of a key newest first; nothing else in a listing tells which
//! one was stored first.

use super::refusal::{Refusal, element};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub key: String,
    pub id: String,
    /// `None`: a delete marker, which hides what was stored before it.
    pub bytes: Option<u64>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub versions: Vec<Version>,
    /// Key and version to go on after.
    pub next: Option<(String, String)>,
}

const TAGS: [(&str, &str); 2] =
    [("<Version>", "</Version>"), ("<DeleteMarker>", "</DeleteMarker>")];

const VERSIONS: &str = "lock takes a bucket with versions and Object Lock";

pub fn read(xml: &[u8]) -> Result<Page, Refusal> {
    let unreadable = |cause: &str| Refusal::passing(format!("an unreadable listing: {cause}"));
    let text = std::str::from_utf8(xml).map_err(|error| unreadable(&error.to_string()))?;
    // A store that knows no versions may list what there is, as if nobody had asked for them.
    if text.trim_end().ends_with("</ListBucketResult>") {
        return Err(Refusal::lasting("the store lists no versions", VERSIONS));
    }
    // A text that ends early must not be taken for one that is whole.
    if !text.trim_end().ends_with("</ListVersionsResult>") || !text.contains("<IsTruncated>") {
        return Err(unreadable("it is cut, or does not say whether more follows"));
    }
    let mut page = Page::default();
    let mut rest = text;
    while let Some((at, (open, close))) =
        TAGS.iter().filter_map(|tag| rest.find(tag.0).map(|at| (at, *tag))).min()
    {
        let inside = &rest[at + open.len()..];
        let inside = inside.split_once(close);
        let Some((inside, after)) = inside.filter(|(inside, _)| !inside.contains(open)) else {
            return Err(unreadable("an element without an end"));
        };
        let (key, id) = (unescaped(element(inside, "Key")), element(inside, "VersionId"));
        let is_marker = open == TAGS[1].0;
        // MinIO says of a marker, too, that it has a size.
        let bytes = element(inside, "Size").parse().ok().filter(|_| !is_marker);
        if key.is_empty() || id.is_empty() || (bytes.is_none() && !is_marker) {
            return Err(unreadable("a version without its key, its name or its size"));
        }
        page.versions.push(Version { key, id: unescaped(id), bytes });
        rest = after;
    }
    if element(text, "IsTruncated") == "true" {
        let key = unescaped(element(text, "NextKeyMarker"));
        if key.is_empty() {
            return Err(unreadable("more is to follow, after nothing"));
        }
        page.next = Some((key, unescaped(element(text, "NextVersionIdMarker"))));
    }
    Ok(page)
}

fn unescaped(text: &str) -> String {
    const MARKUP: [(&str, &str); 5] =
        [("&lt;", "<"), ("&gt;", ">"), ("&#34;", "\""), ("&quot;", "\""), ("&amp;", "&")];
    MARKUP.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Kind;

    const WHOLE: &str = "<ListVersionsResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
        <Name>b</Name><NextKeyMarker>p/b&amp;c</NextKeyMarker>\
        <NextVersionIdMarker>4</NextVersionIdMarker><IsTruncated>true</IsTruncated>\
        <DeleteMarker><Key>p/a</Key><VersionId>1</VersionId><IsLatest>true</IsLatest></DeleteMarker>\
        <Version><Key>p/a</Key><VersionId>2</VersionId><Size>7</Size></Version>\
        <Version><Key>p/b&amp;c</Key><VersionId>4</VersionId><Size>0</Size></Version>\
        </ListVersionsResult>";

    #[test]
    fn versions_and_markers_come_in_their_order() {
        let version =
            |key: &str, id: &str, bytes| Version { key: key.into(), id: id.into(), bytes };
        let page = read(WHOLE.as_bytes()).unwrap();
        let all = [
            version("p/a", "1", None),
            version("p/a", "2", Some(7)),
            version("p/b&c", "4", Some(0)),
        ];
        assert_eq!(page.versions, all);
        assert_eq!(page.next, Some(("p/b&c".into(), "4".into())));
        let last = WHOLE.replace("<IsTruncated>true", "<IsTruncated>false");
        assert_eq!(read(last.as_bytes()).unwrap().next, None);
    }

    /// Found by trying MinIO: one marker made a locked replica unreadable.
    #[test]
    fn trap_78_a_marker_that_has_a_size_is_a_marker() {
        let sized = "<IsLatest>true</IsLatest><ETag></ETag><Size>0</Size></DeleteMarker>";
        let page = WHOLE.replace("<IsLatest>true</IsLatest></DeleteMarker>", sized);
        assert_ne!(page, WHOLE);
        assert_eq!(read(page.as_bytes()).unwrap(), read(WHOLE.as_bytes()).unwrap());
    }

    /// Torture, a store without versions: it answered with a plain listing, which was taken for one that
    /// is cut, and asked for again for ever.
    #[test]
    fn a_store_that_lists_no_versions_is_not_asked_again() {
        let plain = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>p/a</Key>\
                     <Size>7</Size></Contents></ListBucketResult>\n";
        let refusal = read(plain.as_bytes()).unwrap_err();
        assert_eq!((refusal.kind, &*refusal.cause), (Kind::Other, "the store lists no versions"));
    }

    #[test]
    fn trap_76_a_page_of_versions_that_is_cut_is_none() {
        for end in 0..WHOLE.len() {
            read(&WHOLE.as_bytes()[..end]).unwrap_err();
        }
        for part in ["<Size>7</Size>", "<Key>p/a</Key>", "<VersionId>2</VersionId>", "</Version>"] {
            read(WHOLE.replacen(part, "", 1).as_bytes()).unwrap_err();
        }
        read(WHOLE.replace("NextKeyMarker", "Other").as_bytes()).unwrap_err();
    }
}
