//! What a store says when it does not do what it is asked, and what that means.
//!
//! The code in the body decides, then the status. What is absent is absent only if the store says so of
//! the key: a bucket that is not there, or something that is no store at all, says 404 as well.

use crate::backend::Kind;
use crate::backend::http::{Failure, Reply};
use crate::sabotage;
use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::{env, fs};

/// Why a store did not do what it was asked.
#[derive(Debug)]
pub struct Refusal {
    pub kind: Kind,
    pub cause: String,
    pub hint: Option<String>,
}

const BUCKET: &str = "create the bucket, or correct its name, the endpoint or the region";
const CLOCK: &str = "set this machine's clock; a signature holds only near the store's time";
const RENEW: &str = "renew the credentials; a credentials_file is read again for each request, and a daemon whose \
     credentials are in its environment has to be started again";
const KEYS: &str = "check the access key and the secret key";
const RIGHTS: &str = "allow it: reading takes GetObject and ListBucket, writing PutObject as well, \
                      removing DeleteObject, locking PutObjectRetention";
const REGION: &str = "set region, and endpoint with it, to those of the bucket";
const ENDPOINT: &str = "check that the endpoint is that of an S3 store";
const CREATE_ONLY: &str = "a store that knows no If-None-Match takes create_only = false, if one \
                           daemon alone can ever write there";
const UNKNOWN: &str = "use another store, or a newer version of it: this one does not know what it was \
                       asked for";
const CHECKSUM: &str = "use another store, or a newer version of it: this one does not take SHA-256 \
                        checksums";
const LOCK: &str = "a bucket is made with it, such as by: aws s3api create-bucket \
                    --object-lock-enabled-for-bucket --bucket NAME; or leave out lock";
/// The variable that names the certificates to trust.
const CERTIFICATES: &str = "SSL_CERT_FILE";
const TRUST: &str = "name the certificates to trust in SSL_CERT_FILE, or install ca-certificates";

impl Refusal {
    pub fn of(reply: &Reply) -> Self {
        let text = String::from_utf8_lossy(&reply.body[..reply.body.len().min(16 << 10)]);
        let (code, message) = (element(&text, "Code"), element(&text, "Message"));
        let (kind, hint) = judge(reply.status, code, message);
        let mut cause = match (code, message) {
            ("", "") => format!("status {}", reply.status),
            ("", said) | (said, "") => format!("{said} (status {})", reply.status),
            (code, message) => format!("{code}: {message} (status {})", reply.status),
        };
        match reply.header("date") {
            Some(date) if hint == CLOCK => cause += &format!("; the store's time is {date}"),
            _ => {}
        }
        if let Some(region) = reply.header("x-amz-bucket-region").filter(|_| hint == REGION) {
            cause += &format!("; the bucket is in {region}");
        }
        Self { kind, cause, hint: Some(hint.to_owned()).filter(|hint| !hint.is_empty()) }
    }

    /// The same where something was to be locked, which a bucket has to be made for. Some stores do not say
    /// that it was not.
    pub fn of_lock(reply: &Reply) -> Self {
        let text = String::from_utf8_lossy(&reply.body);
        let (code, message) = (element(&text, "Code"), element(&text, "Message"));
        let names_lock = |text: &str| text.to_lowercase().contains("lock");
        let unlockable = match code {
            // What a request with a lock has to have says nothing of the bucket.
            "InvalidRequest" if names_checksum(message) => false,
            "InvalidRequest" => message.is_empty() || names_lock(message),
            // The header that is not known may be named beside the message.
            "NotImplemented" => names_lock(&text),
            code => code == "ObjectLockConfigurationNotFoundError",
        };
        let refusal = Self::of(reply);
        match unlockable {
            true => {
                Self::lasting(format!("the bucket has no Object Lock: {}", refusal.cause), LOCK)
            }
            false => refusal,
        }
    }

    /// The same where it was to be stored only if the name is not taken, which not every store can be told.
    pub fn of_condition(self) -> Self {
        match self.hint.as_deref() {
            Some(UNKNOWN) => Self { hint: Some(CREATE_ONLY.to_owned()), ..self },
            _ => self,
        }
    }

    pub fn passing(cause: impl Into<String>) -> Self {
        Self { kind: Kind::Transient, cause: cause.into(), hint: None }
    }

    pub fn lasting(cause: impl Into<String>, hint: &str) -> Self {
        Self { kind: Kind::Other, cause: cause.into(), hint: Some(hint.to_owned()) }
    }

    pub fn denied(cause: impl Into<String>, hint: &str) -> Self {
        Self { kind: Kind::Denied, ..Self::lasting(cause, hint) }
    }

    pub fn locked() -> Self {
        let cause = "what is locked cannot be replaced".to_owned();
        let hint = "remove it once its lock has ended, and store it anew".to_owned();
        Self { kind: Kind::Locked, cause, hint: Some(hint) }
    }

    pub fn taken() -> Self {
        Self { kind: Kind::Exists, cause: "the name is taken".to_owned(), hint: None }
    }

    /// There is no reply at all.
    pub fn unanswered(failure: Failure, endpoint: impl Display) -> Self {
        let hint = format!("see whether {endpoint} is right, and can be reached from here");
        match failure.lasting {
            true => Self::untrusted(failure, env::var_os(CERTIFICATES)),
            false => Self { hint: Some(hint), ..Self::passing(failure.cause) },
        }
    }
}

impl Refusal {
    /// No certificate that is trusted vouches for it. `file`: where those are, if not those of the system.
    fn untrusted(failure: Failure, file: Option<OsString>) -> Self {
        let given = file.filter(|file| !file.is_empty()).map(PathBuf::from);
        let wrong = given.as_ref().and_then(|file| match fs::read(file) {
            Err(error) => Some(error.to_string()),
            Ok(bytes) if String::from_utf8_lossy(&bytes).contains("-BEGIN CERTIFICATE-") => None,
            Ok(_) => Some("there is no certificate in it".to_owned()),
        });
        match given.zip(wrong) {
            None => Self::lasting(failure.cause, TRUST),
            Some((file, wrong)) => {
                let told = format!("{}; {CERTIFICATES} names {}", failure.cause, file.display());
                Self::lasting(format!("{told}: {wrong}"), "correct SSL_CERT_FILE, or unset it")
            }
        }
    }
}

/// Whether a body is the report of a failure, whatever the status before it said.
pub(super) fn is_error(body: &[u8]) -> bool {
    let start = String::from_utf8_lossy(&body[..body.len().min(1 << 10)]);
    (start.contains("<Error>") || start.contains("<Error ")) && !sabotage::is("believe-status-200")
}

/// What a person can do is empty where there is nothing but to wait.
fn judge(status: u16, code: &str, message: &str) -> (Kind, &'static str) {
    use Kind::*;
    match code {
        "NoSuchKey" => (NotFound, ""),
        "NoSuchBucket" => (Other, BUCKET),
        "PreconditionFailed" => (Exists, ""),
        "RequestTimeTooSkewed" => (Denied, CLOCK),
        // A signed URL that is too old or too new is only denied, in these words.
        "AccessDenied" if message.contains("expired") || message.contains("not valid yet") => {
            (Denied, CLOCK)
        }
        "AccessDenied" => (Denied, RIGHTS),
        "ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" => (Denied, RENEW),
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" | "InvalidSecurity" => {
            (Denied, KEYS)
        }
        "AuthorizationHeaderMalformed"
        | "AuthorizationQueryParametersError"
        | "PermanentRedirect"
        | "TemporaryRedirect"
        | "IllegalLocationConstraintException" => (Other, REGION),
        "SlowDown"
        | "ServiceUnavailable"
        | "InternalError"
        | "RequestTimeout"
        | "IncompleteBody"
        | "BadDigest"
        | "XAmzContentChecksumMismatch"
        | "XAmzContentSHA256Mismatch" => (Transient, ""),
        "QuotaExceeded" | "StorageFull" | "XMinioStorageFull" | "InsufficientStorage" => {
            (Full, "make room, or raise the bucket's quota")
        }
        _ if status == 400 && refuses_checksum(message) => (Other, CHECKSUM),
        _ => by_status(status),
    }
}

fn names_checksum(message: &str) -> bool {
    let message = message.to_lowercase();
    message.contains("checksum") || message.contains("content-md5")
}

/// Backblaze B2 did not support the header; others ask for MD5 where objects are locked.
fn refuses_checksum(message: &str) -> bool {
    let lower = message.to_lowercase();
    names_checksum(message) && ["support", "required"].iter().any(|word| lower.contains(word))
}

fn by_status(status: u16) -> (Kind, &'static str) {
    use Kind::*;
    match status {
        300..=399 => (Other, REGION),
        401 | 403 => (Denied, RIGHTS),
        404 | 405 => (Other, ENDPOINT),
        412 => (Exists, ""),
        408 | 409 | 425 | 429 => (Transient, ""),
        501 => (Other, UNKNOWN),
        507 => (Full, "make room, or raise the bucket's quota"),
        505 => (Other, ENDPOINT),
        500..=599 => (Transient, ""),
        _ => (Other, ENDPOINT),
    }
}

/// The text of the first element of that name, without markup; empty if there is none.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> &'a str {
    let open = format!("<{name}>");
    let text = xml.split_once(&open).map_or("", |(_, rest)| rest);
    text.split('<').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_come_before_statuses() {
        let check = |status, code, message, kind, word: &str| {
            let (found, hint) = judge(status, code, message);
            assert_eq!(found, kind, "{status} {code}");
            assert!(hint.contains(word) && hint.is_empty() == word.is_empty(), "{code}: {hint}");
        };
        check(404, "NoSuchKey", "", Kind::NotFound, "");
        check(404, "NoSuchBucket", "", Kind::Other, "create the bucket");
        check(404, "", "", Kind::Other, "endpoint");
        check(412, "PreconditionFailed", "", Kind::Exists, "");
        check(412, "", "", Kind::Exists, "");
        check(409, "ConditionalRequestConflict", "", Kind::Transient, "");
        check(403, "AccessDenied", "Access Denied", Kind::Denied, "ListBucket");
        check(403, "RequestTimeTooSkewed", "", Kind::Denied, "clock");
        check(403, "AccessDenied", "Request has expired", Kind::Denied, "clock");
        check(403, "AccessDenied", "Request is not valid yet", Kind::Denied, "clock");
        check(400, "ExpiredToken", "", Kind::Denied, "renew");
        check(403, "InvalidAccessKeyId", "", Kind::Denied, "access key");
        check(403, "SignatureDoesNotMatch", "", Kind::Denied, "secret");
        check(301, "PermanentRedirect", "", Kind::Other, "region");
        check(307, "", "", Kind::Other, "region");
        check(400, "AuthorizationHeaderMalformed", "", Kind::Other, "region");
        check(200, "InternalError", "", Kind::Transient, "");
        check(200, "Strange", "", Kind::Other, "endpoint");
        check(400, "BadDigest", "", Kind::Transient, "");
        check(400, "RequestTimeout", "", Kind::Transient, "");
        for status in [429, 500, 502, 503, 504, 599] {
            check(status, "", "", Kind::Transient, "");
        }
        check(501, "NotImplemented", "", Kind::Other, "does not know");
        let unsupported = "Unsupported header 'x-amz-checksum-sha256' received for this API call.";
        check(400, "InvalidArgument", unsupported, Kind::Other, "SHA-256");
        let unsupported = unsupported.replace("checksum-sha256", "sdk-checksum-algorithm");
        check(400, "InvalidArgument", &unsupported, Kind::Other, "SHA-256");
        check(400, "InvalidArgument", "Unsupported header", Kind::Other, "endpoint");
        check(400, "BadDigest", "The checksum is required to match", Kind::Transient, "");
        check(507, "", "", Kind::Full, "room");
        check(401, "", "", Kind::Denied, "ListBucket");
    }

    /// Found by trying it: the hint was to name certificates in SSL_CERT_FILE, which named a file that was
    /// not there.
    #[test]
    fn certificates_that_are_not_there_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let check = |name: &str, bytes: &str, word: Option<&str>| {
            let file = dir.path().join(name);
            std::fs::write(dir.path().join("file"), bytes).unwrap();
            let failure = Failure { cause: "UnknownIssuer".into(), lasting: true, late: false };
            let refusal = Refusal::untrusted(failure, Some(file.into_os_string()));
            let expected = word.map_or("UnknownIssuer".to_owned(), |word| {
                format!("UnknownIssuer; SSL_CERT_FILE names {}/{word}", dir.path().display())
            });
            assert!(refusal.cause.starts_with(&expected), "{refusal:?}");
            let hint =
                if word.is_some() { "correct SSL_CERT_FILE" } else { "name the certificates" };
            assert!(refusal.hint.unwrap().starts_with(hint));
        };
        check("gone", "", Some("gone: No such file or directory"));
        check("file", "what", Some("file: there is no certificate in it"));
        check("file", "-----BEGIN CERTIFICATE-----", None);
        let failure = Failure { cause: "x".into(), lasting: true, late: false };
        assert_eq!(Refusal::untrusted(failure, None).cause, "x");
    }

    #[test]
    fn an_element_is_read_whatever_surrounds_it() {
        let check = |xml, text| assert_eq!(element(xml, "Code"), text, "{xml}");
        check("<Error><Code>SlowDown</Code><Message>x</Message></Error>", "SlowDown");
        check("<Error><Code> A </Code><Code>B</Code>", "A");
        check("<Error><Code>cut", "cut");
        check("<Error><Code/></Error>", "");
        check("", "");
    }
}
