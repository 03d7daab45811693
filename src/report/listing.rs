//! What `list` says.

use super::{Document, SCHEMA, table};
use crate::clock;
use crate::list::{Object, Range};
use crate::name::Name;
use crate::object::Seal;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub struct Points {
    schema: u32,
    points: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Point {
    first: u64,
    last: u64,
    from: String,
    to: String,
    timeline: u32,
    density: Density,
    branch: bool,
}

/// Every commit of the range, or so many of them.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(untagged)]
enum Density {
    All(&'static str),
    Some(u64),
}

impl From<&Range> for Point {
    fn from(range: &Range) -> Self {
        let all = range.last.0 - range.first.0 + 1 == range.points;
        Self {
            first: range.first.0,
            last: range.last.0,
            from: clock::format(range.from),
            to: clock::format(range.to),
            timeline: range.timeline.0,
            density: if all { Density::All("all") } else { Density::Some(range.points) },
            branch: range.branch,
        }
    }
}

impl Points {
    pub fn new(ranges: &[Range]) -> Self {
        Self { schema: SCHEMA, points: ranges.iter().map(Point::from).collect() }
    }
}

impl Point {
    fn row(&self) -> [String; 6] {
        let density = match self.density {
            Density::All(word) => word.to_owned(),
            Density::Some(count) => count.to_string(),
        };
        let (first, last) = (self.first.to_string(), self.last.to_string());
        [first, last, self.from.clone(), self.to.clone(), self.timeline.to_string(), density]
    }
}

impl Document for Points {
    /// Branches stand apart, so that nobody takes them for what a plain restore gives.
    fn text(&self) -> String {
        const HEAD: [&str; 6] = ["FIRST", "LAST", "FROM", "TO", "TIMELINE", "DENSITY"];
        let (branches, points): (Vec<_>, Vec<_>) = self.points.iter().partition(|it| it.branch);
        let mut text = table(HEAD, points.into_iter().map(Point::row));
        if let Some(Point { last, timeline, .. }) = branches.first() {
            text += "\nabandoned branches:\n";
            text += &table(HEAD, branches.iter().map(|point| point.row()));
            text += &format!(
                "restored by number and timeline, such as: \
                 bakelite restore --output FILE --commit {last} --timeline {timeline}\n"
            );
        }
        text
    }
}

#[derive(Debug, Serialize)]
pub struct Objects {
    schema: u32,
    objects: Vec<ObjectOf>,
}

#[derive(Debug, Serialize)]
struct ObjectOf {
    name: String,
    kind: &'static str,
    first: Option<u64>,
    last: Option<u64>,
    time: Option<String>,
    timeline: Option<u32>,
    bytes: u64,
    /// Null where it cannot be told.
    sealed: Option<bool>,
    key: Option<String>,
}

impl From<&Object> for ObjectOf {
    fn from(object: &Object) -> Self {
        let (span, timeline) = match &object.name {
            Name::Timeline(timeline) => (None, Some(*timeline)),
            Name::Snapshot(span) => (Some(span), Some(span.timeline)),
            Name::Change(change) => (Some(&change.span), Some(change.span.timeline)),
            Name::Part(_) => (None, None),
        };
        let (sealed, key) = match object.seal {
            Seal::None => (Some(false), None),
            Seal::Under(key) => (Some(true), Some(key.to_string())),
            Seal::Unknown => (None, None),
        };
        Self {
            name: object.name.to_string(),
            kind: object.name.kind(),
            first: span.map(|span| span.first.0),
            last: span.map(|span| span.last.0),
            time: span.map(|span| clock::format(span.time)),
            timeline: timeline.map(|timeline| timeline.0),
            bytes: object.bytes,
            sealed,
            key,
        }
    }
}

impl Objects {
    pub fn new(objects: &[Object]) -> Self {
        Self { schema: SCHEMA, objects: objects.iter().map(ObjectOf::from).collect() }
    }
}

impl Document for Objects {
    /// One line an object: the size, the name, and the key of one that is sealed. Names are the second
    /// word of each, to be piped on.
    fn text(&self) -> String {
        let line = |object: &ObjectOf| {
            let key = match (object.sealed, &object.key) {
                (_, Some(key)) => format!("  {key}"),
                (None, None) => "  ?".to_owned(),
                (Some(_), None) => String::new(),
            };
            format!("{:>12}  {}{key}\n", object.bytes, object.name)
        };
        self.objects.iter().map(line).collect()
    }
}
