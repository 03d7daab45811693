//! What is asked of a store: a method, headers, a body, how long it may take, and an address that is
//! signed.

use super::pace::time_for;
use crate::clock;
use crate::name::Name;
use jiff::Timestamp;
use minreq::Method;
use rusty_s3::{Bucket, Credentials, S3Action};
use std::time::Duration;

/// How long a signature holds: a clock of ours may be so late.
const SIGNED: Duration = Duration::from_secs(900);
/// For a reply without the time its bytes take. A database is taken up anew only once all that waited
/// for a store has come back, so one that hangs is not waited for any longer.
pub(super) const ANSWER: Duration = Duration::from_secs(15);
/// For the largest object, of 32 MiB, on the slowest line that is expected.
pub(super) const LARGEST: Duration = Duration::from_secs(15 + 128);

pub(super) type Header = (&'static str, String);
pub(super) type Headers = Vec<Header>;

/// What is asked of the store.
pub(super) enum Ask<'a> {
    Put { key: &'a str, body: &'a [u8], headers: &'a [Header] },
    Lock { key: &'a str, version: Option<&'a str>, body: &'a [u8], headers: &'a [Header] },
    Head { key: &'a str, version: Option<&'a str> },
    Get { key: &'a str, version: Option<&'a str>, headers: &'a [Header], time: Duration },
    Delete { key: &'a str, version: Option<&'a str> },
    Versions { prefix: &'a str, key: &'a str, version: &'a str, most: usize },
    List { prefix: &'a str, after: &'a str, most: usize },
    Below { prefix: &'a str, token: Option<&'a str>, most: usize },
}

impl Ask<'_> {
    pub fn parts(&self) -> (Method, &[Header], &[u8], Duration) {
        match self {
            Ask::Put { body, headers, .. } => {
                let time = ANSWER + time_for(body.len());
                (Method::Put, headers, body, time)
            }
            Ask::Lock { body, headers, .. } => (Method::Put, headers, body, ANSWER),
            Ask::Head { .. } => (Method::Head, &[], &[], ANSWER),
            Ask::Get { headers, time, .. } => (Method::Get, headers, &[], *time),
            Ask::Delete { .. } => (Method::Delete, &[], &[], ANSWER),
            Ask::List { .. } | Ask::Below { .. } | Ask::Versions { .. } => {
                (Method::Get, &[], &[], 2 * ANSWER)
            }
        }
    }

    /// The address to send it to, with its signature.
    pub fn signed(&self, bucket: &Bucket, credentials: &Credentials) -> String {
        let credentials = Some(credentials);
        match self {
            Ask::Put { key, headers, .. } => signed(bucket.put_object(credentials, key), headers),
            Ask::Lock { key, version, headers, .. } => {
                let mut lock = bucket.put_object(credentials, key);
                lock.query_mut().insert("retention", "");
                signed(of_version(lock, *version), headers)
            }
            Ask::Head { key, version } => {
                signed(of_version(bucket.head_object(credentials, key), *version), &[])
            }
            Ask::Get { key, version, headers, .. } => {
                signed(of_version(bucket.get_object(credentials, key), *version), headers)
            }
            Ask::Delete { key, version } => {
                signed(of_version(bucket.delete_object(credentials, key), *version), &[])
            }
            Ask::Versions { prefix, key, version, most } => {
                // The bucket itself is what has no key.
                let mut list = bucket.get_object(credentials, "");
                let query = list.query_mut();
                query.insert("versions", "");
                query.insert("prefix", *prefix);
                query.insert("max-keys", most.to_string());
                for (word, marker) in [("key-marker", key), ("version-id-marker", version)] {
                    if !marker.is_empty() {
                        query.insert(word, *marker);
                    }
                }
                signed(list, &[])
            }
            Ask::Below { prefix, token, most } => {
                let mut list = bucket.list_objects_v2(credentials);
                list.with_prefix(*prefix);
                list.with_delimiter("/");
                list.with_max_keys(*most);
                token.iter().for_each(|token| list.with_continuation_token(*token));
                signed(list, &[])
            }
            Ask::List { prefix, after, most } => {
                let mut list = bucket.list_objects_v2(credentials);
                list.with_prefix(*prefix);
                list.with_max_keys(*most);
                if !after.is_empty() {
                    list.with_start_after(*after);
                }
                signed(list, &[])
            }
        }
    }
}

/// Timelines are small, and looked at after every shipment: a connection that has died must not hold
/// that up for as long as a large object may take.
pub(super) fn time_to_get(name: &Name) -> Duration {
    match name {
        Name::Timeline(_) => ANSWER,
        Name::Snapshot(_) | Name::Part(_) | Name::Change(_) => LARGEST,
    }
}

fn of_version<'a, A: S3Action<'a>>(mut action: A, version: Option<&'a str>) -> A {
    if let Some(version) = version {
        action.query_mut().insert("versionId", version);
    }
    action
}

fn signed<'a>(mut action: impl S3Action<'a>, headers: &'a [Header]) -> String {
    for (name, value) in headers {
        action.headers_mut().insert(*name, value.as_str());
    }
    let now = i64::try_from(clock::now().0).ok();
    let now = now.and_then(|now| Timestamp::from_millisecond(now).ok());
    action.sign_with_time(SIGNED, &now.unwrap_or(Timestamp::MAX)).into()
}
